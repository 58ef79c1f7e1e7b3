"""When a node says that its own elements are old: at once, as they cross a limit, and once a day while they stay old.

Nobody reads a warning that comes every few seconds, and nobody finds the one that came at the start, weeks ago.
"""

from __future__ import annotations

import math

from edgeagent.orbit.age import Freshness

__all__ = ["REPEATED_S", "OwnAge"]

REPEATED_S = 86_400.0


class OwnAge:
    """See the module. Times are monotonic seconds: where orbits are emulated, virtual days pass in no time."""

    def __init__(self) -> None:
        self._said = Freshness.FRESH
        self._said_s = -math.inf

    def is_due(self, verdict: Freshness, now_s: float) -> bool:
        """Whether this verdict is to be said now; then it counts as said. Fresh elements are nothing to say."""
        if verdict is self._said and now_s - self._said_s < REPEATED_S:
            return False
        self._said, self._said_s = verdict, now_s
        return verdict is not Freshness.FRESH
