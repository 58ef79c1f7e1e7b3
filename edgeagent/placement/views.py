"""What a decider knows of the nodes, and what it is asked to place: plain values, whatever told them."""

from __future__ import annotations

import math

import msgspec

from edgeagent.model.gpu import GpuState
from edgeagent.placement.body import Body

__all__ = ["HASH_DIGITS", "NodeLoad", "NodeView", "StepAsk"]

HASH_DIGITS = 16  # so many hex digits of a SHA-256 name a function among those that a node holds


class NodeLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What a node last said of itself, ``age_s`` ago; shares are from 0 to 1, None is unknown. ``gpu`` is the share of
    time that its GPU is busy.
    """

    cpu: float | None = None
    queue: int | None = None
    memory_free_bytes: int | None = None
    temperature_c: float | None = None
    battery: float | None = None
    sunlit: bool | None = None
    gpu: float | None = None
    gpu_state: GpuState | None = None
    gpu_temperature_c: float | None = None
    gpu_queue: int | None = None
    age_s: float = 0.0


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """One node as its decider sees it. Views come in the order of the network's rows.

    ``functions`` are the first HASH_DIGITS hex digits of the SHA-256 of those that it holds. ``speed`` is how fast it
    executes beside the node that the estimates are of. ``excluded`` is a reason of the caller's not to take it:
    "dead", "visited", "refused: ...".
    """

    id: str
    kind: str = ""
    architecture: str = ""
    cores: int | None = None
    memory_bytes: int | None = None
    gpu: str = ""
    labels: tuple[str, ...] = ()
    functions: frozenset[str] = frozenset()
    load: NodeLoad | None = None
    body: Body = Body()
    trusted: bool = True
    speed: float = 1.0
    usd_per_cpu_s: float = 0.0
    usd_per_gib_out: float = 0.0
    excluded: str = ""


class StepAsk(msgspec.Struct, frozen=True, kw_only=True):
    """One step to place. ``after`` are the steps, by index, whose outputs it takes; without any it takes its input from
    the node that decides.

    ``needs``: "gpu", "arch:aarch64", "kind:satellite", "node:ID", else a label. ``near`` is a node whose way counts in
    the score; ``data_source`` one whose data (``data_bytes``) the step reads. The SLOs: ``latency_ms_max`` and
    ``mbit_s_min`` of each edge into the step, ``data_latency_ms_max`` and ``data_mbit_s_min`` of its data source.
    ``state_bytes`` move along with the input (``bytes_in``); ``code_bytes`` to a node that lacks the function.
    ``exec_ms`` is the estimate at speed 1, ``exec_known`` whether it was measured; ``wall_ms`` the limit.
    ``prefers_gpu``: it is expected to run faster on a GPU, and runs without one as well. ``pinned``: this node or none.
    ``returns_to``: the node that waits for the result. ``fixed``: it ran, or was placed, on ``pinned`` already, so that
    nothing is checked, and its output lies there now.
    """

    name: str
    function: str = ""
    sha256: str = ""
    after: tuple[int, ...] = ()
    memory_bytes: int = 0
    needs: tuple[str, ...] = ()
    near: str = ""
    data_source: str = ""
    latency_ms_max: float = math.inf
    data_latency_ms_max: float = math.inf
    data_mbit_s_min: float = 0.0
    mbit_s_min: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    data_bytes: int = 0
    state_bytes: int = 0
    code_bytes: int = 0
    exec_ms: float = 10.0
    exec_known: bool = False
    wall_ms: float = 10_000.0
    slo_class: str = "default"
    pinned: str = ""
    returns_to: str = ""
    prefers_gpu: bool = False
    fixed: bool = False
