"""Local health: how much a member trusts its own clockwork (Lifeguard's "LHA-Probe", arXiv:1707.00788 section 4.1).

The score is 0 when all is well. It rises by one when we must refute a suspicion of ourselves, when a probe fails for
which not all helpers answered, and when our own timers come late; it falls by one with each answered probe. Probe
interval and time-out grow by ``scale = score + 1``: a slow member asks less often and waits longer, because the fault
is most likely its own.
"""

from __future__ import annotations

__all__ = ["LocalHealth"]


class LocalHealth:
    """The score, from 0 (healthy) to ``worst``; ``worst`` 0 switches it off."""

    __slots__ = ("scale", "score", "worst")

    def __init__(self, worst: int) -> None:
        self.worst = worst
        self.score = 0
        self.scale = 1

    def worsen(self, by: int = 1) -> None:
        self.score = min(self.worst, self.score + by)
        self.scale = self.score + 1

    def improve(self) -> None:
        if self.score:
            self.score -= 1
            self.scale = self.score + 1
