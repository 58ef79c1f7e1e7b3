"""A GPU that fails is left alone, for longer each time: two failures in a row open the breaker.

Open, the GPU serves nothing; after ``wait_s`` (5 s, doubled up to 10 min) one request may try it. What it then answers
closes the breaker; the wait shrinks back only after ``_GOOD`` answers in a row, so that a GPU that dies again and again
is asked ever less.
"""

from __future__ import annotations

__all__ = ["Breaker"]

_STRIKES = 2
_WAIT_FIRST_S = 5.0
_WAIT_MAX_S = 600.0
_GOOD = 20


class Breaker:
    """Of one backend; times are of the caller's clock."""

    __slots__ = ("_good", "_strikes", "_wait_s", "closed", "try_at_s")

    def __init__(self) -> None:
        self.closed = True
        self.try_at_s = 0.0
        self._strikes, self._good, self._wait_s = 0, 0, _WAIT_FIRST_S

    def failed(self, now_s: float) -> bool:
        """Count a failure; whether the breaker opened or stays open because of it."""
        self._strikes, self._good = self._strikes + 1, 0
        if self.closed and self._strikes < _STRIKES:
            return False
        self.closed, self.try_at_s = False, now_s + self._wait_s
        self._wait_s = min(2.0 * self._wait_s, _WAIT_MAX_S)
        return True

    def answered(self) -> None:
        """Count an answer."""
        self.closed, self._strikes, self._good = True, 0, self._good + 1
        if self._good >= _GOOD:
            self._wait_s = _WAIT_FIRST_S

    def may_try(self, now_s: float) -> bool:
        """Whether one request may be sent to see."""
        return self.closed or now_s >= self.try_at_s
