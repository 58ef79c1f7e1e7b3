"""What a function's limit of latency leaves for one of its kernel calls. Pure.

A manifest's limit is of the whole call: of the guest's own work, of its other kernels, and of as many calls of this one
as it makes. What is left for each is seen in calls that were: (limit - the rest of the call) / calls of this kernel. So
that most calls keep the limit, that share is taken which nine of ten of the last calls left; where the rest alone is
near the limit, or above it, a part of the limit is left all the same.
"""

from __future__ import annotations

from collections import deque

__all__ = ["LimitShare"]

_CALLS_MAX = 32
_SEEN_MIN = 8  # calls before that is known
_LEAST = 0.05
_LOW = 0.1


class LimitShare:
    """Of one kernel of a function with a limit of ``slo_ms``."""

    __slots__ = ("_left_ms", "_slo_ms")

    def __init__(self, slo_ms: float) -> None:
        self._slo_ms = slo_ms
        self._left_ms: deque[float] = deque(maxlen=_CALLS_MAX)

    def add(self, whole_ms: float, kernel_ms: float, calls: int) -> None:
        """A call of the function took so long, of which so many calls (1 or more) of this kernel took ``kernel_ms``."""
        rest_ms = max(whole_ms - kernel_ms, 0.0)
        self._left_ms.append(max(self._slo_ms - rest_ms, _LEAST * self._slo_ms) / calls)

    @property
    def limit_ms(self) -> float:
        """Of one kernel call; all of the function's limit while little was seen."""
        if len(self._left_ms) < _SEEN_MIN:
            return self._slo_ms
        return sorted(self._left_ms)[int(_LOW * len(self._left_ms))]
