"""A GPU that fails is left alone, for longer each time: two failures in a row open the breaker.

Open, the GPU serves nothing; after a wait (some requests' time, 5 s at most; doubled up to 10 min) one may try it. What
it then answers closes the breaker; the wait shrinks back only after ``_GOOD`` answers in a row, so that a GPU that dies
again and again is asked ever less.
"""

from __future__ import annotations

__all__ = ["Breaker"]

_STRIKES = 2
_WAIT_FIRST_S = 5.0
_WAIT_REQUESTS = 4.0
_WAIT_MAX_S = 600.0
_GOOD = 20


class Breaker:
    """Of one backend; times are of the caller's clock."""

    __slots__ = ("_good", "_strikes", "_wait_s", "closed", "try_at_s")

    def __init__(self) -> None:
        self.closed = True
        self.try_at_s = 0.0
        self._strikes, self._good, self._wait_s = 0, 0, 0.0

    def failed(self, now_s: float, usual_s: float) -> bool:
        """Count a failure; whether it opened the breaker. ``usual_s``: what a request takes elsewhere."""
        self._strikes, self._good = self._strikes + 1, 0
        if self.closed and self._strikes < _STRIKES:
            return False
        opened, self.closed = self.closed, False
        self._wait_s = min(2.0 * self._wait_s, _WAIT_MAX_S) or min(_WAIT_REQUESTS * usual_s, _WAIT_FIRST_S)
        self.try_at_s = now_s + self._wait_s
        return opened

    def answered(self) -> bool:
        """Count an answer; whether it closed the breaker."""
        closes = not self.closed
        self.closed, self._strikes, self._good = True, 0, self._good + 1
        if self._good >= _GOOD:
            self._wait_s = 0.0
        return closes

    def may_try(self, now_s: float) -> bool:
        """Whether one request may be sent to see."""
        return self.closed or now_s >= self.try_at_s
