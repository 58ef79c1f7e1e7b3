"""The node as a member of the mesh: its settings, what it tells of itself, and the views of the others.

Only where ``mesh.listen`` is set: the mesh's rooms bring numpy and SGP4, which a lonely node has no use for.
"""

from __future__ import annotations

import asyncio
import math
import os
import platform
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import BadConfig, BadRequest, Unavailable
from edgeagent.node import machine
from edgeagent.node.config_schema import Config
from edgeagent.node.gpu_health import GpuTold
from edgeagent.node.heat_meter import HeatMeter
from edgeagent.node.mesh_config import check_listens, mesh_settings
from edgeagent.node.meters import Meters

if TYPE_CHECKING:
    from edgeagent.mesh.holdings import Neighbour
    from edgeagent.mesh.sealing import SealedPackets
    from edgeagent.mesh.service import MeshService, Security
    from edgeagent.mesh.surroundings import Surroundings
    from edgeagent.placement.body import Body
    from edgeagent.placement.network import Network
    from edgeagent.placement.views import NodeView

__all__ = ["Membership"]

log = structlog.get_logger("mesh")

_LOAD_EVERY_S = 1.0
_RING_EVERY_S = 2.0
_FUNCTIONS_EVERY_S = 2.0
_LAG_REPORTED_S = 0.2
# Two that start at once from copies of one state directory, in 1970 for one, would write the same versions and never
# notice each other.
_EPOCH_SPREAD_MS = 250


class Membership:
    """On the event loop's thread; ``start`` once the node's wires are up."""

    def __init__(self, config: Config, node_id: str, meters: Meters) -> None:
        self._section = config.mesh
        self._told = config.placement
        self._surroundings: Surroundings | None = None
        self._state = Path(config.node.state_dir)
        self._node_id = node_id
        self._meters = meters
        self._tasks: list[asyncio.Task[None]] = []
        self._cpu = machine.CpuMeter()
        self._heat = HeatMeter()
        self.busy_share: Callable[[], float] = lambda: 0.0  # of the workers of this node
        self.gpu: Callable[[], GpuTold] = GpuTold
        self.service: MeshService | None = None

    @property
    def is_on(self) -> bool:
        return bool(self._section.listen)

    async def start(
        self,
        url: str,
        *,
        functions: Callable[[], list[str]],
        queue: Callable[[], int],
        lag_us: Callable[[], int],
    ) -> None:
        """``functions`` gives the digests of what is deployed. Raises BadConfig, StoreFailed."""
        check_listens(self._section)
        if not self.is_on:
            return
        from edgeagent.gossip.records import Section, next_epoch_ms
        from edgeagent.mesh.incarnation import IncarnationFile
        from edgeagent.mesh.service import MeshService

        settings = await asyncio.to_thread(mesh_settings, self._section)
        kept = IncarnationFile(self._state / "incarnation")
        before = await asyncio.to_thread(kept.read)
        epoch_ms = next_epoch_ms(before, int(time.time() * 1000)) + secrets.randbelow(_EPOCH_SPREAD_MS)
        security = await asyncio.to_thread(self._security, epoch_ms) if self._section.keys else None
        service = MeshService(
            self._node_id,
            settings,
            epoch_ms=epoch_ms,
            persist=kept.write_soon,
            clock_is_set=lambda: machine.clock_state() == "ok",
            security=security,
        )
        await service.start((url,), kind="satellite" if settings.elements is not None else "ground")
        self.service = service
        from edgeagent.mesh.surroundings import Surroundings

        self._surroundings = Surroundings(service)
        service.say(Section.CAPABILITIES, _capabilities(self._labels(), ""))
        self._gauges(service)
        self._tasks = [
            asyncio.ensure_future(self._tell_load(service, queue, lag_us)),
            asyncio.ensure_future(self._tell_functions(service, functions)),
        ]
        if security is not None:
            self._tasks.append(asyncio.ensure_future(self._follow_ring(security.seal)))

    def _security(self, epoch_ms: int) -> Security:
        from edgeagent.mesh.identity import Verifier
        from edgeagent.mesh.key_files import load_node
        from edgeagent.mesh.sealing import SealedPackets
        from edgeagent.mesh.service import Security

        keys = load_node(Path(self._section.keys), self._node_id)
        nonce = secrets.token_bytes(8)
        return Security(
            seal=SealedPackets(keys.ring, self._node_id, epoch_ms, nonce, time.monotonic),
            sign=keys.sign,
            verify=Verifier(keys.authority),
            public_key=keys.vouched_key,
        )

    async def _follow_ring(self, seal: SealedPackets) -> None:
        """Take up another ring as soon as the file is another."""
        from edgeagent.mesh.key_files import load_ring

        folder, known = Path(self._section.keys), seal.ring
        while True:
            await asyncio.sleep(_RING_EVERY_S)
            try:
                ring = await asyncio.to_thread(load_ring, folder)
            except BadConfig as error:
                log.warning("the keyring cannot be read: the one in use stays", why=error.message)
                continue
            if ring != known:
                log.info("another keyring", primary=ring.primary, secrets=[one.id for one in ring.secrets])
                seal.use(ring)
                known = ring

    async def close(self) -> None:
        """Leave the mesh. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._surroundings = None
        service, self.service = self.service, None
        if service is not None:
            await service.close()

    # what placement asks

    @property
    def peer_count(self) -> int:
        """Members that are there, as far as we know."""
        if self.service is None or self.service.carrier is None:
            return 0
        return sum(one.value in {"alive", "suspect"} for one in self.service.core.states().values())

    @property
    def orbital_speed(self) -> float:
        """Seconds of orbits in a second of the clock: 1 but where they are emulated."""
        emulation = None if self.service is None else self.service.settings.emulation
        return 1.0 if emulation is None else emulation.speed

    def utc_now_s(self) -> float | None:
        """Of the orbits; None while the clock is not set, or without a mesh."""
        return None if self.service is None else self.service.utc_now_s()

    def url_of(self, node: str) -> str | None:
        """Where a member's HTTP is."""
        if self.service is None or self.service.carrier is None:
            return None
        from edgeagent.mesh.surroundings import endpoint_of

        return endpoint_of(self.service, node)

    def state_of(self, node: str) -> str:
        """``alive``, ``suspect``, ``occluded``, ``dead``, ``left``; "" for strangers."""
        if self.service is None or self.service.carrier is None:
            return ""
        member = self.service.core.member(node)
        return "" if member is None else member.state.value

    def returns_in_s(self, node: str) -> float | None:
        """Seconds of the clock until a route to the member is predicted, 0 where there is one; None: not in sight."""
        service, utc_s = self.service, self.utc_now_s()
        if service is None or utc_s is None:
            return 0.0
        at_s = service.sky.returns_at_s(service.name, node, utc_s)
        return None if at_s is None else max(0.0, at_s - utc_s) / self.orbital_speed

    def contact_until_utc_s(self, node: str) -> float:
        """Until when there is a route to the member, by this node's clock; infinite where no end is predicted."""
        service, orbit_s = self.service, self.utc_now_s()
        if service is None or orbit_s is None or service.sky.table is None:
            return math.inf
        until_s = service.sky.table.contact_until_s(service.name, node, orbit_s)
        return time.time() + max(0.0, until_s - orbit_s) / self.orbital_speed

    @property
    def is_on_loopback(self) -> bool:
        """Whether no other host can be a member: unsigned functions may come from members then."""
        return not self._section.keys

    def heat_and_battery(self) -> tuple[float | None, float | None]:
        """Temperature (C) and the battery's share now; None for what is not known."""
        return self._heat.temperature_c, self._heat.battery

    def views(self, excluded: Mapping[str, str]) -> list[NodeView]:
        """All members and this node, in the order of their ids; this node alone without a mesh."""
        if self._surroundings is not None:
            return self._surroundings.views(asyncio.get_running_loop().time(), excluded)
        from edgeagent.placement.views import NodeLoad, NodeView

        memory, gpu = machine.memory_bytes(), self.gpu()
        return [
            NodeView(
                id=self._node_id,
                kind=self.kind(),
                architecture=platform.machine(),
                cores=os.cpu_count(),
                memory_bytes=memory["total_bytes"],
                gpu=gpu.name,
                labels=self._labels(),
                load=NodeLoad(
                    cpu=self._cpu.share,
                    queue=0,
                    memory_free_bytes=memory["available_bytes"],
                    temperature_c=None,
                    battery=None,
                    sunlit=None,
                    **gpu.as_load(),
                    age_s=0.0,
                ),
                body=self.body(),
                excluded=excluded.get(self._node_id, ""),
            )
        ]

    def network(self, ids: tuple[str, ...]) -> Network:
        """Between members of these ids."""
        if self._surroundings is not None:
            return self._surroundings.network(ids)
        from edgeagent.placement.network import FlatNetwork

        return FlatNetwork(ids)

    def is_strained(self) -> bool:
        """Too hot, or with too little in the battery, for work that can be done elsewhere."""
        temperature_c, battery = self.heat_and_battery()
        limit, told = self._told.temperature_c_max, self._told
        hot = bool(limit) and temperature_c is not None and temperature_c > limit
        return hot or (
            bool(told.battery_wh) and battery is not None and battery * 100 < told.battery_reserve_percent
        )

    def sees(self, node: str) -> bool:
        """Whether there is a route to the member that an id, or its beginning, names, by the prediction."""
        service, utc_s = self.service, self.utc_now_s()
        if service is None or utc_s is None or service.carrier is None:
            return False
        found = [
            one for one in service.core.states() if one == node or (len(node) >= 6 and one.startswith(node))
        ]
        return len(found) == 1 and self.state_of(found[0]) == "alive" and self.returns_in_s(found[0]) == 0.0

    def place_below(self) -> tuple[float, float] | None:
        """Latitude and longitude, degrees, of this node or of the point below it."""
        service = self.service
        if service is None or service.carrier is None:
            return None
        from edgeagent.mesh.views import place_view

        place = place_view(service.sky.nodes.get(service.name), self.utc_now_s()) or {}
        if "latitude_deg" not in place:
            return None
        return float(place["latitude_deg"]), float(place["longitude_deg"])

    @property
    def battery_reserve(self) -> float:
        """The share of the battery that work must leave."""
        return self._told.battery_reserve_percent / 100

    def body(self) -> Body:
        """What this node's heat and battery allow, by its configuration."""
        from edgeagent.placement.body import Body

        told = self._told
        return Body(
            temperature_c_max=float(told.temperature_c_max) or None,
            temperature_c_recommended=float(told.temperature_c_recommended) or None,
            heat_tau_s=float(told.heat_tau_s),
            heat_c_per_w=told.heat_mk_per_w / 1000,
            base_c=float(told.base_c),
            sun_c=float(told.sun_c),
            battery_wh=float(told.battery_wh) or None,
            battery_reserve=told.battery_reserve_percent / 100,
            solar_w=float(told.solar_w),
            idle_w=float(told.idle_w),
            busy_w=float(told.busy_w),
        )

    def kind(self) -> str:
        """``cloud``, ``ground``, ``edge`` or ``satellite``."""
        orbit = self._section.orbit or (
            self.service is not None and self.service.settings.elements is not None
        )
        return ("satellite" if orbit else "edge") if self._told.kind == "auto" else self._told.kind

    def kind_of(self, node: str) -> str:
        """Of any member, "" where it is not known."""
        if node == self._node_id:
            return self.kind()
        return next((one.kind for one in self.neighbours() if one.id == node), "")

    def _labels(self) -> tuple[str, ...]:
        words = [word.strip()[:64] for word in self._told.labels.split(",") if word.strip()]
        return (*words[:12], f"kind:{self.kind()}", *self.body().labels())

    def _running(self) -> MeshService:
        if self.service is None:
            raise Unavailable(
                "this node is in no mesh",
                hint="mesh.listen of its configuration brings it into one, mesh.seeds names nodes to ask",
            )
        return self.service

    def neighbours(self) -> list[Neighbour]:
        """The other members and the groups of keys that they hold."""
        if self.service is None or self.service.carrier is None:
            return []
        from edgeagent.mesh.holdings import neighbours

        return neighbours(self.service)

    @property
    def expects_others(self) -> bool:
        """Whether the configuration names members to ask."""
        return self.is_on and bool(self._section.seeds)

    def say_state(self, digests: list[bytes]) -> None:
        """Tell the mesh what groups of keys are held here, the newest first."""
        if self.service is not None and self.service.carrier is not None:
            self.service.say_state(digests)

    def peers(self) -> dict[str, Any]:
        """``/v1/peers``. Raises Unavailable."""
        from edgeagent.mesh.views import peers_view

        return peers_view(self._running(), asyncio.get_running_loop().time())

    async def cross(self, to: str) -> None:
        """Emulated links: the time that something takes to a node, or to the one that has this URL; not at all before
        the mesh is up, and to who is no member. Raises PeerFailed where there is no way.
        """
        if self.service is not None:
            await self.service.cross(to)

    def adopt_elements(self, blob: bytes) -> dict[str, Any]:
        """``/v1/elements``. Raises Unavailable, BadRequest."""
        from edgeagent.mesh.views import adopted_view
        from edgeagent.orbit.errors import OrbitFault

        service = self._running()
        try:
            return adopted_view(service, blob)
        except OrbitFault as error:
            raise BadRequest(f"elements that cannot be: {error.message}", hint=error.hint) from None
        except UNDECODABLE as error:
            raise BadRequest(f"an ephemeris that cannot be read: {error}"[:300]) from None

    async def contacts(self, peer: str, hours: float) -> dict[str, Any]:
        """``/v1/contacts``. Raises Unavailable, BadRequest, NotFound."""
        from edgeagent.mesh.views import contacts_view, resolved

        service = self._running()
        utc_s = service.utc_now_s()
        if utc_s is None:
            raise Unavailable("the clock of this node is not set: nothing can be predicted", hint="set it")
        name = resolved(service, peer) if peer else None
        return await asyncio.to_thread(
            contacts_view, dict(service.sky.nodes), service.name, name, utc_s, hours
        )

    async def _tell_load(
        self, service: MeshService, queue: Callable[[], int], lag_us: Callable[[], int]
    ) -> None:
        from edgeagent.gossip.records import Load, Section

        body, is_emulated = self.body(), service.settings.emulation is not None
        gpu_name = ""
        while True:
            gpu = self.gpu()
            if gpu.name != gpu_name:  # it came, or went, while the node runs
                gpu_name = gpu.name
                service.say(Section.CAPABILITIES, _capabilities(self._labels(), gpu_name))
            memory = machine.memory_bytes()["available_bytes"]
            cpu, sunlit = self._cpu.look(), service.is_sunlit()
            if is_emulated:  # all nodes of an emulation share one machine: what it does is no node's load
                cpu = self.busy_share()
                self._heat.model(
                    body, busy_share=cpu, sunlit=sunlit, seconds=_LOAD_EVERY_S * self.orbital_speed
                )
            else:
                await asyncio.to_thread(self._heat.look)
            load = Load(
                cpu=cpu,
                queue=queue(),
                memory_free_bytes=memory,
                temperature_c=self._heat.temperature_c,
                battery=self._heat.battery,
                sunlit=sunlit,
                gpu_memory_free_bytes=gpu.memory_free_bytes,
                **gpu.as_load(),
            )
            service.say(Section.LOAD, load)
            lag_s = lag_us() / 1e6
            if lag_s > _LAG_REPORTED_S:
                service.report_lag(lag_s)
            await asyncio.sleep(_LOAD_EVERY_S)

    async def _tell_functions(self, service: MeshService, functions: Callable[[], list[str]]) -> None:
        while True:
            service.say_functions(functions())
            await asyncio.sleep(_FUNCTIONS_EVERY_S)

    def _gauges(self, service: MeshService) -> None:
        core, carrier = service.core, service.carrier
        assert carrier is not None
        sockets, counters = carrier.counters, core.counters

        def members(state: str) -> Callable[[], int]:
            return lambda: sum(one.value == state for one in core.states().values())

        for state in ("alive", "suspect", "occluded", "dead"):
            self._meters.gauge(f"mesh_members_{state}", f"members held {state}", members(state))
        self._meters.gauge("mesh_health", "local health, 0 is healthy", lambda: core.health)
        for name, doc, read in (
            ("mesh_datagrams_in", "datagrams received", lambda: sockets.datagrams_in),
            ("mesh_datagrams_out", "datagrams sent", lambda: sockets.datagrams_out),
            (
                "mesh_datagram_bytes_in",
                "their bytes, as they were on the wire",
                lambda: sockets.datagram_bytes_in,
            ),
            ("mesh_datagram_bytes_out", "bytes of datagrams sent", lambda: sockets.datagram_bytes_out),
            ("mesh_stream_bytes_in", "bytes of exchanges received", lambda: sockets.stream_bytes_in),
            ("mesh_stream_bytes_out", "bytes of exchanges sent", lambda: sockets.stream_bytes_out),
            ("mesh_refused", "packets that no key of this cluster opened", lambda: carrier.refused),
            ("mesh_strange_addresses", "packets not sent, outside of mesh.allowed", lambda: carrier.strange),
            ("mesh_cut_off", "packets that emulated links did not carry", lambda: carrier.cut_off),
            (
                "mesh_contradicted",
                "members whose elements measurements contradicted",
                lambda: service.contradicted,
            ),
            ("mesh_malformed", "packets that are none", lambda: counters.datagrams_refused),
            (
                "mesh_records_refused",
                "records whose signature is not their owner's",
                lambda: counters.records_refused,
            ),
            ("mesh_probes", "probes of members", lambda: counters.probes),
            ("mesh_probes_failed", "of those, unanswered", lambda: counters.probes_failed),
            ("mesh_occlusions", "members that went out of contact as predicted", lambda: counters.occlusions),
        ):
            self._meters.counter(name, doc, read)


def _capabilities(labels: tuple[str, ...], gpu: str) -> Any:
    from edgeagent.gossip.records import Capabilities

    total = machine.memory_bytes()["total_bytes"]
    return Capabilities(
        architecture=platform.machine()[:32],
        cores=os.cpu_count(),
        memory_bytes=total,
        gpu=gpu,
        labels=labels,
    )
