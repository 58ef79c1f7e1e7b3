"""A GPU that fails is left alone, longer each time: failures in a row that chance does not explain open the breaker.

How many these are follows from the share that failed before: so many that it explains them in fewer than one of a
thousand cases, two where none did. Open, the GPU serves nothing; after a wait (a request's time, 5 s at most; a
sixth longer each time, up to 10 min) one may try it. What it then answers closes the breaker; the wait shrinks back
with each answer, so that a GPU that dies again and again is asked ever less.
"""

from __future__ import annotations

__all__ = ["Breaker"]

_CHANCE = 0.001
_FAILED_FIRST, _TRIED_FIRST = 0.25, 10.0  # failures and attempts that are assumed beforehand
_MEMORY = 0.995  # what an attempt leaves of those before it
_WAIT_REQUESTS = 1.0
_WAIT_FIRST_S = 5.0
_WAIT_MAX_S = 600.0
_GROWS = 1.15  # so a GPU that is back is found within a sixth of the time that it was away
_RECOVERS = 0.8  # what an answer leaves of the wait


class Breaker:
    """Of one backend; times are of the caller's clock."""

    __slots__ = ("_failed", "_strikes", "_tried", "_wait_s", "closed", "try_at_s")

    def __init__(self) -> None:
        self.closed = True
        self.try_at_s = 0.0
        self._strikes, self._wait_s = 0, 0.0
        self._failed, self._tried = 0.0, 0.0

    def failed(self, now_s: float, usual_s: float) -> bool:
        """Count a failure; whether it opened the breaker. ``usual_s``: what a request takes elsewhere."""
        self._strikes += 1
        share = (self._failed + _FAILED_FIRST) / (self._tried + _TRIED_FIRST)
        if self.closed and (self._strikes < 2 or share**self._strikes > _CHANCE):
            return False
        opened, self.closed = self.closed, False
        first_s = min(_WAIT_REQUESTS * usual_s, _WAIT_FIRST_S)
        self._wait_s = min(max(_GROWS * self._wait_s, first_s), _WAIT_MAX_S)
        self.try_at_s = now_s + self._wait_s
        return opened

    def answered(self) -> bool:
        """Count an answer; whether it closed the breaker."""
        closes = not self.closed
        if not closes:  # failures that opened it are no part of what is usual
            fade = _MEMORY ** (self._strikes + 1)
            self._failed, self._tried = (
                self._failed * fade + self._strikes,
                self._tried * fade + self._strikes + 1,
            )
            self._wait_s *= _RECOVERS
        self.closed, self._strikes = True, 0
        return closes

    def may_try(self, now_s: float) -> bool:
        """Whether one request may be sent to see."""
        return self.closed or now_s >= self.try_at_s
