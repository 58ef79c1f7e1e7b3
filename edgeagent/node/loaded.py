"""A function that can be called now: what the hot path touches, in one object."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from edgeagent.model.function import Deployed
from edgeagent.node.admission import Admission, Ticket
from edgeagent.node.meters import FunctionMeter
from edgeagent.runtime import port

__all__ = ["LoadedEntry", "Stray", "Waiter", "asks_for_a_place"]

Waiter = asyncio.Future[None]
SIZE_CLASSES = 66
# Of edge_hose, what asks nobody.
_HOSE_AT_ONCE = ("loan", "publish", "map", "release")


class Stray:
    """A run that the hot path began and could not finish at once; ``invoke`` of the same request takes it."""

    __slots__ = ("args", "body", "future", "wall_ms")

    def __init__(
        self,
        body: bytes | memoryview,
        args: Sequence[str] | None,
        wall_ms: float,
        future: asyncio.Future[port.Outcome],
    ) -> None:
        self.body = body
        self.args = args
        self.wall_ms = wall_ms
        self.future = future


class LoadedEntry:
    """A loaded function with its permits and counters.

    ``short[len(body).bit_length()]`` tells whether the last run of that size class finished on the
    loop's thread. ``writes`` tells whether the module can write log lines or standard error at all, ``uses_state``
    whether it imports ``edge_state``, ``uses_accel`` whether ``edge_accel`` or its manifest pins it to a GPU, ``waits``
    whether anything that the node answers, before it runs or while it does.
    ``retired`` entries serve the calls that they have and take no new ones.
    """

    __slots__ = (
        "admission",
        "deployed",
        "function",
        "is_placed",
        "meter",
        "name",
        "retired",
        "seen_runs",
        "short",
        "start",
        "strays",
        "uses_accel",
        "uses_state",
        "waits",
        "writes",
    )

    def __init__(
        self, deployed: Deployed, function: port.Function, admission: Admission[Waiter], meter: FunctionMeter
    ) -> None:
        self.name = deployed.name
        self.deployed = deployed
        self.function = function
        self.start = function.start
        self.admission = admission
        self.meter = meter
        self.short = bytearray(SIZE_CLASSES)
        self.strays: deque[Stray] = deque()
        self.writes = _can_write(deployed)
        self.uses_state = any(item.module == "edge_state" for item in deployed.info.imports)
        calls_kernels = any(item.module == "edge_accel" for item in deployed.info.imports)
        self.uses_accel = calls_kernels or deployed.manifest.accel.mode == "gpu"
        self.waits = self.uses_accel or _can_wait(deployed)
        self.is_placed = asks_for_a_place(deployed)
        self.retired = False
        self.seen_runs = self.runs

    @property
    def runs(self) -> int:
        """Runs that ended since the first deploy: tells whether it was used since a look before."""
        return self.meter.durations.count + sum(self.meter.failures.values())

    def leave(self, duration_ms: float | None = None) -> None:
        """Give a permit back and wake whoever gets it."""
        self.wake(self.admission.leave(duration_ms))

    def wake(self, granted: Sequence[Ticket[Waiter]]) -> None:
        for ticket in granted:
            if not ticket.waiter.done():
                ticket.waiter.set_result(None)
        if self.retired:
            self.close_if_idle()

    def retire(self) -> None:
        """No new calls; closed when the last one has ended."""
        self.retired = True
        self.close_if_idle()

    def close_if_idle(self) -> None:
        if self.admission.idle:
            self.function.close()


def asks_for_a_place(deployed: Deployed) -> bool:
    """Whether its manifest wishes for more than this node: such calls are placed, wherever they arrive."""
    place = deployed.manifest.place
    return bool(place.needs or place.near or place.data_source) or deployed.manifest.slo.class_ != "default"


def _can_wait(deployed: Deployed) -> bool:
    return any(
        item.module in ("edge_state", "edge_accel", "wasi_ephemeral_nn", "wasi_nn")
        or (item.module == "edge_hose" and item.name not in _HOSE_AT_ONCE)
        for item in deployed.info.imports
    )


def _can_write(deployed: Deployed) -> bool:
    return any(
        item.module == "edge_log" or item.name in ("fd_write", "fd_pwrite") for item in deployed.info.imports
    )
