"""How long to wait before something that fell is started again. Pure: chance is injected.

The n-th fall in a row waits ``first_s * 2**(n-1)``, ``most_s`` at most, times a number between 0.5 and 1: nodes that
lost their GPUs to one cause do not come back in step. Whoever stood for ``steady_s`` begins anew.
"""

from __future__ import annotations

from edgeagent.accel.settings import Chance

__all__ = ["Backoff"]

_DOUBLINGS_MAX = 30


class Backoff:
    """Of one thing; times are of the caller's clock."""

    __slots__ = ("_chance", "_falls", "_first_s", "_most_s", "_steady_s")

    def __init__(
        self, chance: Chance, *, first_s: float = 1.0, most_s: float = 600.0, steady_s: float = 60.0
    ) -> None:
        self._chance, self._first_s, self._most_s, self._steady_s = chance, first_s, most_s, steady_s
        self._falls = 0

    @property
    def falls(self) -> int:
        """How many in a row."""
        return self._falls

    def fell(self, stood_s: float) -> float:
        """It fell after it had stood so long (0: it never stood); how many seconds to wait."""
        if stood_s >= self._steady_s:
            self._falls = 0
        self._falls += 1
        doubled = self._first_s * 2.0 ** min(self._falls - 1, _DOUBLINGS_MAX)
        return min(doubled, self._most_s) * (0.5 + 0.5 * self._chance.random())
