"""How a GPU is, as nodes tell each other."""

from __future__ import annotations

import enum

__all__ = ["USABLE", "GpuState", "gpu_state_of"]


class GpuState(enum.IntEnum):
    """The numbers travel in gossip: they are never given another meaning.

    PROBING: it is there, and nobody has said yet how it is. THROTTLED: heat or power holds its clocks back. DRAINING:
    its memory needs a reset. LOST: it fell off the bus. QUARANTINED: it failed too often of late.
    """

    ABSENT = 0
    PROBING = 1
    HEALTHY = 2
    THROTTLED = 3
    DRAINING = 4
    LOST = 5
    QUARANTINED = 6


USABLE = frozenset({GpuState.HEALTHY, GpuState.THROTTLED})


def gpu_state_of(number: int | None) -> GpuState | None:
    """What a peer said; PROBING, which nobody places work on, for a number of a later version."""
    if number is None:
        return None
    return GpuState(number) if 0 <= number <= max(GpuState) else GpuState.PROBING
