"""What looks at the GPU of one function may take after the learning phase, all its size classes together.

The purse earns a share of the milliseconds that the CPU serves, and of those that the GPU saved; looks take out what
they took. So a GPU that brings nothing gets that share at most, however many classes there are, and one that does pays
for looks at whether it does so again.
"""

from __future__ import annotations

__all__ = ["Purse"]

_SAVED_SHARE = 0.1  # of what the GPU saved
_USUAL_MAX = 30.0  # usual requests that are saved up
_NEWEST = 0.05  # weight of the newest request in what is usual


class Purse:
    """Times in ms."""

    __slots__ = ("_ms", "_usual_ms")

    def __init__(self) -> None:
        self._ms = self._usual_ms = 0.0

    @property
    def ms(self) -> float:
        """What is there; below 0: owed."""
        return self._ms

    def served(self, ms: float, share: float) -> None:
        """A request on the CPU, of which such a share is earned."""
        self._earn(share * ms, ms)

    def saved(self, ms: float, cpu_ms: float) -> None:
        """The GPU took so much less than the CPU would have, which is ``cpu_ms``."""
        self._earn(_SAVED_SHARE * ms, cpu_ms)

    def pays(self, ms: float) -> bool:
        """Whether there is so much."""
        return self._ms >= ms

    def take(self, ms: float) -> None:
        """A look took so long; below 0: less than was taken before."""
        self._ms -= ms

    def _earn(self, ms: float, cpu_ms: float) -> None:
        self._usual_ms += (_NEWEST if self._usual_ms else 1.0) * (cpu_ms - self._usual_ms)
        self._ms = min(self._ms + ms, max(_USUAL_MAX * self._usual_ms, self._ms))
