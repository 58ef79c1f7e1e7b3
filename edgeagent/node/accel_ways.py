"""How the operands of a call get to a GPU's broker: copied into the arena, or from where they lie in a hose.

An operand that its guest got by a hose, and has not written to since, needs no copy: the broker gets a descriptor of
the hose, which is kept until the call is over. Small ones are copied: to look for them would take longer.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import cached_property
from typing import NamedTuple

from edgeagent.accel.execute import Prepared
from edgeagent.accel.kernel_errors import KernelTooLarge
from edgeagent.accel.packing import Lying, Packing, pack_operands
from edgeagent.accel.settings import Backend
from edgeagent.runtime.port import HoseSource, Window

__all__ = ["CallPlan", "Way", "way_of"]

_LYING_BYTES_MIN = 256 << 10
_PACKINGS_MAX = 16
_CPU_FACTOR, _SLACK_S = 2.0, 0.1  # the CPU may have other work by then


class Way(NamedTuple):
    """``sources`` are where the packing's ``maps`` lie, in order."""

    packing: Packing
    sources: tuple[HoseSource, ...] = ()

    @property
    def mapped_bytes(self) -> int:
        """That nobody copies into the arena."""
        return sum(count for _, count in self.packing.maps)


class CallPlan:
    """A call as it was described: the same for every run of a function that describes it by the same bytes.

    ``beyond_cpu``: why no CPU may be asked for it; only a GPU may do it then. ``took_s``: what the last ones took, by
    backend; before the first one, what the CPU is reckoned to take.
    """

    def __init__(self, kernel: str, prepared: Prepared, beyond_cpu: KernelTooLarge | None = None) -> None:
        self.kernel, self.prepared, self.beyond_cpu = kernel, prepared, beyond_cpu
        work = prepared.work
        self.took_s: dict[Backend, float] = {"cpu": work.cpu_s, "gpu": 0.0}
        self.size = float(max(work.flops, work.read_bytes + work.written_bytes))
        self._packings: OrderedDict[tuple[Lying, ...], Packing] = OrderedDict()

    def patience_s(self, left_s: float) -> float:
        """How long a GPU may take for one that must be answered within ``left_s``, so that the CPU can still do it; it
        may always take twice as long as before. Infinite where the CPU could not do it anyway.
        """
        cpu_s = _CPU_FACTOR * self.took_s["cpu"]
        if self.beyond_cpu is not None or cpu_s >= left_s:
            return math.inf
        return max(left_s - cpu_s - _SLACK_S, left_s / 2, 2.0 * self.took_s["gpu"])

    @cached_property
    def packing(self) -> Packing:
        """Where its operands lie in a slot."""
        return pack_operands(self.prepared)

    @cached_property
    def may_lie(self) -> tuple[tuple[int, int, int], ...]:
        """(place, first byte, bytes) in the guest's memory of inputs that are worth a look."""
        ranges = [(place, *one.range) for place, one in enumerate(self.prepared.call.inputs)]
        return tuple(
            (place, low, high - low) for place, low, high in ranges if high - low >= _LYING_BYTES_MIN
        )

    def packing_of(self, lying: tuple[Lying, ...]) -> Packing:
        """The same where some inputs lie elsewhere: runs of a chain find them at few places."""
        known = self._packings.get(lying)
        if known is None:
            known = self._packings[lying] = pack_operands(self.prepared, lying)
            if len(self._packings) > _PACKINGS_MAX:
                self._packings.popitem(last=False)
        return known


def way_of(plan: CallPlan, window: Window) -> Way:
    """With as few copies as can be. It looks at pages of the memory: on a thread."""
    found = [(place, window.source(low, count)) for place, low, count in plan.may_lie]
    sources = [(place, source) for place, source in found if source is not None]
    if not sources:
        return Way(plan.packing)
    lying = tuple(Lying(place, source.offset) for place, source in sources)
    return Way(plan.packing_of(lying), tuple(source for _, source in sources))
