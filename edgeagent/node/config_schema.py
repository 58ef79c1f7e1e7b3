"""What a node can be told: every section and key with its type, range, default and meaning.

The annotations are the one source: :mod:`edgeagent.node.config` checks values against them, ``edgeagent
check-config`` and the documentation print them, and a test holds ``configs/local.toml`` to them. Units are in
the names.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from edgeagent.node.config_accel import AccelSection
from edgeagent.node.config_energy import EnergySection
from edgeagent.node.config_nn import NnSection
from edgeagent.node.config_section import DAY_MS, GIB, HOUR_MS, KIB, MIB, MINUTE_MS, Section
from edgeagent.node.config_state import StateSection

__all__ = [
    "AccelSection",
    "Config",
    "DrainSection",
    "EnergySection",
    "HoseSection",
    "HttpSection",
    "JournalSection",
    "LimitsSection",
    "LogSection",
    "MeshSection",
    "NnSection",
    "NodeSection",
    "PlacementSection",
    "QueueSection",
    "RuntimeSection",
    "StateSection",
]


class NodeSection(Section, frozen=True):
    """Who this node is and where it keeps things."""

    state_dir: Annotated[
        str,
        Meta(
            description="what must survive: database, artifacts, node id; empty: $STATE_DIRECTORY (systemd), "
            "else $XDG_STATE_HOME/edgeagent, else ~/.local/state/edgeagent"
        ),
    ] = ""
    cache_dir: Annotated[
        str,
        Meta(
            description="what can be rebuilt: compiled code; empty: $CACHE_DIRECTORY (systemd), else "
            "$XDG_CACHE_HOME/edgeagent, else ~/.cache/edgeagent"
        ),
    ] = ""


class HttpSection(Section, frozen=True):
    """The HTTP server."""

    listen: Annotated[
        str,
        Meta(
            description="host:port; plain on loopback, beyond it TLS with the keys of mesh.keys; port 0: any free"
        ),
    ] = "127.0.0.1:8480"
    listen_tls: Annotated[
        str, Meta(description="host:port for other hosts beside http.listen, TLS with mesh.keys; empty: none")
    ] = ""
    connections_max: Annotated[
        int, Meta(ge=1, le=1_000_000, description="connections at once; more are closed at accept")
    ] = 16_384
    body_bytes_max: Annotated[
        int, Meta(ge=0, le=GIB, description="largest body of an invocation; larger: 413")
    ] = 64 * MIB
    header_bytes_max: Annotated[
        int, Meta(ge=1 * KIB, le=MIB, description="longest request line and longest header field")
    ] = 16 * KIB
    header_timeout_ms: Annotated[
        int, Meta(ge=100, le=10 * MINUTE_MS, description="from connect to the end of the first headers")
    ] = 10_000
    body_timeout_ms: Annotated[
        int, Meta(ge=100, le=HOUR_MS, description="from the end of the headers to the end of the body")
    ] = 60_000
    keepalive_ms: Annotated[
        int,
        Meta(ge=0, le=HOUR_MS, description="an idle connection is closed after this; 0: after each reply"),
    ] = 75_000
    fast_lane: Annotated[
        bool, Meta(description="answer short plain invocations where they are parsed, without a task")
    ] = True


class RuntimeSection(Section, frozen=True):
    """The engine that runs functions, and their artifacts."""

    engine: Annotated[
        Literal["auto", "native", "pure"],
        Meta(
            description="auto: the C++ extension where it is built, else pure Python; native: it or no start"
        ),
    ] = "auto"
    target: Annotated[
        Literal["auto", "native", "pulley64"],
        Meta(
            description="native: machine code; pulley64: wasmtime's interpreter; auto: native unless the system "
            "forbids to make code executable"
        ),
    ] = "auto"
    workers: Annotated[
        int, Meta(ge=0, le=1024, description="threads that run functions; 0: one per CPU, at least 2")
    ] = 0
    inline: Annotated[
        bool, Meta(description="run functions with a short history on the event loop's thread")
    ] = True
    small_slots: Annotated[
        int, Meta(ge=4, le=1000, description="instances of the pool for guests that touch little memory")
    ] = 256
    large_slots: Annotated[
        int,
        Meta(ge=0, le=256, description="instances of the pool that keeps 16 MiB each; 0: twice the workers"),
    ] = 0
    loaded_max: Annotated[
        int, Meta(ge=1, le=10_000, description="functions loaded at once; idle ones make room for others")
    ] = 128
    functions_max: Annotated[int, Meta(ge=1, le=100_000, description="functions deployed at once")] = 1000
    wasm_bytes_max: Annotated[
        int, Meta(ge=1 * KIB, le=GIB, description="largest module that can be deployed; larger: 413")
    ] = 64 * MIB
    artifact_bytes_max: Annotated[
        int, Meta(ge=MIB, le=1024 * GIB, description="disk for modules; beyond: 507")
    ] = 4 * GIB
    scratch_bytes_max: Annotated[
        int, Meta(ge=0, le=64 * GIB, description="disk for one call's scratch directory")
    ] = 64 * MIB
    compilers: Annotated[int, Meta(ge=1, le=64, description="compile processes at once")] = 1
    compile_timeout_ms: Annotated[
        int, Meta(ge=100, le=HOUR_MS, description="a compile that takes longer is killed and refused")
    ] = 60_000
    compile_memory_bytes: Annotated[
        int, Meta(ge=64 * MIB, le=1024 * GIB, description="memory of one compile process")
    ] = 2 * GIB


class HoseSection(Section, frozen=True):
    """How outputs reach the next function without being copied out, and how other processes take part."""

    socket: Annotated[
        str,
        Meta(
            description="Unix socket for processes that feed functions or are fed; empty: hose.sock in the state "
            "directory; off: none"
        ),
    ] = ""
    peer_uids: Annotated[
        str,
        Meta(description="numbers of users besides the node's own whose processes may attach, by commas"),
    ] = ""
    frame_bytes_max: Annotated[
        int, Meta(ge=4 * KIB, le=4 * GIB, description="largest frame that a process may publish")
    ] = 512 * MIB

    listen: Annotated[
        str,
        Meta(
            description="host:port for hoses of other hosts; port 0: any free, peers are told; empty: none; "
            "beyond loopback only with mesh.keys, or with tls_cert, tls_key and tls_ca"
        ),
    ] = "127.0.0.1:0"
    peers: Annotated[
        dict[str, str],
        Meta(
            description='nodes that chains and guests may name: NAME = "http://HOST:PORT"; in flags and variables '
            "NAME=URL, separated by commas"
        ),
    ] = field(default_factory=dict)
    remote_bytes_min: Annotated[
        int, Meta(ge=1, le=GIB, description="smaller payloads go to peers in the body of the HTTP request")
    ] = 64 * KIB
    keep_ms: Annotated[
        int,
        Meta(
            ge=100,
            le=HOUR_MS,
            description="data of another host that nobody uses or goes on sending are dropped after this",
        ),
    ] = MINUTE_MS
    tls_cert: Annotated[str, Meta(description="this node's certificate (PEM), for hoses between hosts")] = ""
    tls_key: Annotated[str, Meta(description="its private key (PEM)")] = ""
    tls_ca: Annotated[str, Meta(description="the authority (PEM) that signs the peers' certificates")] = ""
    messages_max: Annotated[
        int, Meta(ge=1, le=100_000, description="messages that wait for one function; senders wait for room")
    ] = 64
    message_bytes_max: Annotated[
        int, Meta(ge=0, le=64 * GIB, description="bytes of messages that wait for one function")
    ] = 256 * MIB
    pool_bytes_max: Annotated[
        int,
        Meta(
            ge=0, le=1024 * GIB, description="memory of all lent and shared buffers; beyond, bytes are copied"
        ),
    ] = 1 * GIB
    idle_ms: Annotated[
        int, Meta(ge=100, le=DAY_MS, description="a buffer that nobody borrowed for this long is freed")
    ] = 30_000


class MeshSection(Section, frozen=True):
    """Membership: which other nodes there are, where they are and will be."""

    listen: Annotated[
        str,
        Meta(
            description="IP:port for gossip, UDP and TCP; port 0: any free; empty: this node knows no others; "
            "beyond loopback only with keys"
        ),
    ] = ""
    advertise: Annotated[
        str, Meta(description="the IP address that other nodes reach this one at; empty: that of mesh.listen")
    ] = ""
    seeds: Annotated[
        str,
        Meta(
            description="nodes to ask first, HOST:PORT by commas; one that answers is enough; only with mesh.listen"
        ),
    ] = ""
    preset: Annotated[
        Literal["local", "lan", "wan", "orbit"],
        Meta(
            description="how often and how patiently members are looked after; docs/gossip.md has the numbers"
        ),
    ] = "lan"
    keys: Annotated[
        str,
        Meta(
            description="folder with this node's keys (edgeagent keys), for gossip, HTTP and hoses; empty: none, "
            "loopback only"
        ),
    ] = ""
    operators: Annotated[
        str,
        Meta(
            description="public keys of operators, hexadecimal, by commas: the elements that they sign for a node "
            "count (edgeagent elements)"
        ),
    ] = ""
    allowed: Annotated[
        str,
        Meta(
            description="networks that members' addresses may lie in, by commas; empty: loopback for who listens "
            "there, else all"
        ),
    ] = ""
    orbit: Annotated[
        str, Meta(description="file with this node's orbital elements (OMM or TLE); empty: not in orbit")
    ] = ""
    orbit_command: Annotated[
        str,
        Meta(
            description="a command whose output says where this node is, instead of mesh.orbit or mesh.position: "
            "elements, or latitude, longitude and height"
        ),
    ] = ""
    orbit_every_ms: Annotated[
        int, Meta(ge=1000, le=DAY_MS, description="how often mesh.orbit_command is asked")
    ] = 10 * MINUTE_MS
    orbit_object: Annotated[
        str, Meta(description="name or catalogue number of this node in that file, where it holds several")
    ] = ""
    position: Annotated[
        str,
        Meta(
            description="where this node stands: latitude and longitude in degrees, height in metres, by commas; "
            "empty: it says nothing"
        ),
    ] = ""
    mask_deg: Annotated[
        int, Meta(ge=0, le=89, description="elevation from which on ground nodes see satellites, degrees")
    ] = 10
    isl: Annotated[
        Literal[
            "nearest", "mst", "mst_loop", "mst_smart_loop", "pst", "pst_loop", "pst_smart_loop", "bent_pipe"
        ],
        Meta(description="links between satellites: docs/topology.md; the same on all nodes"),
    ] = "nearest"
    ground_network: Annotated[bool, Meta(description="ground nodes reach each other over the ground")] = True
    horizon_ms: Annotated[
        int, Meta(ge=10 * MINUTE_MS, le=7 * DAY_MS, description="contacts are predicted for this long")
    ] = 3 * HOUR_MS
    emulate: Annotated[
        str,
        Meta(
            description="for daemons on one machine: orbital time runs faster and links are as long and as often "
            'there as orbits say, "60 since 2026-11-23T20:00:00Z", or that with ", loss 0.1" behind it; loopback '
            "only, and refused after a day; empty: off"
        ),
    ] = ""


class PlacementSection(Section, frozen=True):
    """What this node says of itself to those who look for a place for work, and how it looks for one."""

    kind: Annotated[
        Literal["auto", "cloud", "ground", "edge", "satellite"],
        Meta(description="what this node is; auto: a satellite with an orbit, else edge"),
    ] = "auto"
    labels: Annotated[
        str, Meta(description="words that place.needs of a manifest may ask for, by commas; at most 12")
    ] = ""
    forward: Annotated[
        bool, Meta(description="run functions at other members where that is better; false: all runs here")
    ] = True
    guest_work: Annotated[bool, Meta(description="take work of other members")] = True
    signers: Annotated[
        str,
        Meta(
            description="public keys, hexadecimal, by commas: functions that they signed are taken from members; "
            "those of mesh.operators always are"
        ),
    ] = ""
    reserve_ms: Annotated[
        int,
        Meta(ge=100, le=10 * MINUTE_MS, description="a reservation that nobody uses is let go after this"),
    ] = 5_000
    tries_max: Annotated[
        int, Meta(ge=1, le=16, description="nodes asked for one step before it has none")
    ] = 4
    runs_max: Annotated[
        int, Meta(ge=1, le=1_000_000, description="runs of workflows kept; finished ones go oldest first")
    ] = 10_000
    run_bytes_max: Annotated[
        int, Meta(ge=MIB, le=1024 * GIB, description="inputs and outputs of runs kept; beyond: 507")
    ] = 2 * GIB
    run_ttl_ms: Annotated[
        int, Meta(ge=1000, le=365 * DAY_MS, description="a finished run is dropped after this")
    ] = DAY_MS
    temperature_c_max: Annotated[
        int, Meta(ge=0, le=200, description="no work that would make it hotter than this; 0: no limit")
    ] = 0
    temperature_c_recommended: Annotated[
        int, Meta(ge=0, le=200, description="the hotter above this, the less it is chosen; 0: no matter")
    ] = 0
    heat_tau_s: Annotated[
        int, Meta(ge=1, le=86_400, description="the time constant with which it warms up and cools down")
    ] = 600
    heat_mk_per_w: Annotated[
        int, Meta(ge=0, le=100_000, description="how many thousandths of a degree a watt warms it in the end")
    ] = 1_500
    base_c: Annotated[int, Meta(ge=-200, le=200, description="its temperature without load and sun")] = 20
    sun_c: Annotated[int, Meta(ge=0, le=200, description="degrees that the sun warms it in the end")] = 10
    battery_wh: Annotated[
        int, Meta(ge=0, le=10_000_000, description="energy of its full battery; 0: it has none")
    ] = 0
    battery_reserve_percent: Annotated[
        int, Meta(ge=0, le=100, description="no work that would leave less than this")
    ] = 30
    solar_w: Annotated[int, Meta(ge=0, le=10_000_000, description="what its panels give in the sun")] = 0
    idle_w: Annotated[int, Meta(ge=0, le=1_000_000, description="what it draws without work")] = 5
    busy_w: Annotated[int, Meta(ge=0, le=1_000_000, description="what it draws with all cores at work")] = 15


class LimitsSection(Section, frozen=True):
    """The most that a manifest may ask for."""

    memory_bytes_max: Annotated[
        int, Meta(ge=64 * KIB, le=4 * GIB, description="limits.memory_bytes of a manifest")
    ] = 1 * GIB
    output_bytes_max: Annotated[int, Meta(ge=0, le=GIB, description="limits.output_bytes of a manifest")] = (
        256 * MIB
    )
    wall_ms_max: Annotated[int, Meta(ge=1, le=DAY_MS, description="limits.wall_ms of a manifest")] = (
        10 * MINUTE_MS
    )
    fuel_max: Annotated[
        int, Meta(ge=0, le=(1 << 63) - 1, description="limits.fuel of a manifest; 0: any")
    ] = 0
    stack_bytes_max: Annotated[
        int, Meta(ge=64 * KIB, le=8 * MIB, description="limits.stack_bytes of a manifest")
    ] = 8 * MIB
    concurrency_max: Annotated[int, Meta(ge=1, le=10_000, description="limits.concurrency of a manifest")] = (
        256
    )


class QueueSection(Section, frozen=True):
    """Calls that wait for their turn."""

    depth_max: Annotated[
        int, Meta(ge=0, le=1_000_000, description="waiting calls of one function; more: 429 with Retry-After")
    ] = 1024
    node_depth_max: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="waiting calls of all functions; more: 429 with Retry-After"),
    ] = 8192
    wait_ms_max: Annotated[
        int, Meta(ge=1, le=HOUR_MS, description="a call that has waited this long is refused with 429")
    ] = 30_000
    background_max: Annotated[
        int, Meta(ge=0, le=10_000, description="async invocations that run at once; 0: twice the workers")
    ] = 0


class JournalSection(Section, frozen=True):
    """Async invocations and Idempotency-Keys; finished records go oldest first, waiting ones never."""

    records_max: Annotated[
        int, Meta(ge=1, le=10_000_000, description="records kept; when all of them still wait: 429")
    ] = 100_000
    bytes_max: Annotated[
        int, Meta(ge=MIB, le=1024 * GIB, description="inputs and results kept; when all still wait: 507")
    ] = 2 * GIB
    ttl_ms: Annotated[
        int, Meta(ge=1000, le=365 * DAY_MS, description="a finished record is dropped after this")
    ] = DAY_MS
    attempts_max: Annotated[
        int, Meta(ge=1, le=100, description="an invocation during which the node died this often has failed")
    ] = 3


class DrainSection(Section, frozen=True):
    """What happens at SIGTERM."""

    timeout_ms: Annotated[
        int,
        Meta(ge=0, le=HOUR_MS, description="running calls may finish for this long, then they are stopped"),
    ] = 20_000
    retry_after_s: Annotated[
        int, Meta(ge=0, le=3600, description="Retry-After of what is refused meanwhile (503)")
    ] = 5


class LogSection(Section, frozen=True):
    """The log on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="the least that is written")
    ] = "info"
    format: Annotated[
        Literal["auto", "json", "console"], Meta(description="auto: console on a terminal, else JSON lines")
    ] = "auto"
    guest_lines_max: Annotated[
        int, Meta(ge=0, le=10_000, description="lines of one call's edge_log and stderr that are logged")
    ] = 32
    guest_lines_per_s_max: Annotated[
        int, Meta(ge=0, le=1_000_000, description="guest lines logged per second by the whole node")
    ] = 1000


class Config(Section, frozen=True):
    """A node's whole configuration; every key has a default."""

    node: NodeSection = NodeSection()
    http: HttpSection = HttpSection()
    runtime: RuntimeSection = RuntimeSection()
    hose: HoseSection = HoseSection()
    mesh: MeshSection = MeshSection()
    placement: PlacementSection = PlacementSection()
    state: StateSection = StateSection()
    nn: NnSection = NnSection()
    accel: AccelSection = AccelSection()
    energy: EnergySection = EnergySection()
    limits: LimitsSection = LimitsSection()
    queue: QueueSection = QueueSection()
    journal: JournalSection = JournalSection()
    drain: DrainSection = DrainSection()
    log: LogSection = LogSection()
