"""How often a backend failed lately, and whether that has changed: a likelihood ratio says from where on it counts.

Cuts at growing distances from the newest are tried: where two shares of failures explain what is remembered better
than one by more than ``_CHANGED`` (of the logarithm; a generalised likelihood ratio, Lorden 1971), what lies before the
cut is forgotten. So after many answers a burst counts from its second or third failure on, and is over after some
answers; a share that stays is known by hundreds of attempts, and not taken for a new one every hundred.
"""

from __future__ import annotations

import math
from collections import deque

__all__ = ["Attempts"]

_MAX = 300
_DOUBT = 6.0  # good attempts that are assumed beforehand
_CHANGED = 8.0
_PART_MIN = 2
# So many of the newest may be of another kind.
_CUTS = frozenset((2, 3, 4, 6, 8, 11, 16, 22, 32, 45, 64, 90, 128, 180, 256))


def _log_likelihood(failed: int, count: int) -> float:
    """Of the share that explains so many failures best."""
    if failed in (0, count):
        return 0.0
    share = failed / count
    return failed * math.log(share) + (count - failed) * math.log1p(-share)


class Attempts:
    """Whether each of the last 300 attempts failed, with the number of its request."""

    __slots__ = ("_failed", "_seen")

    def __init__(self) -> None:
        self._seen: deque[tuple[int, bool]] = deque()
        self._failed = 0

    def add(self, number: int, *, failed: bool) -> None:
        """The newest."""
        self._seen.append((number, failed))
        self._failed += failed
        if len(self._seen) > _MAX:
            self._drop()
        if self._failed:
            for _ in range(self._changed_at()):
                self._drop()

    @property
    def failed(self) -> int:
        """How many of them did."""
        return self._failed

    def clear(self) -> None:
        """What failed is explained and over."""
        self._seen.clear()
        self._failed = 0

    def share(self, since: int) -> tuple[float, float]:
        """(share of failures, its variance) of requests from number ``since`` on; (0, 0) where none failed."""
        while self._seen and self._seen[0][0] < since:
            self._drop()
        if not self._failed:
            return 0.0, 0.0
        count = len(self._seen) + _DOUBT
        share = self._failed / count
        return share, share * (1.0 - share) / (count + 1.0)

    def _drop(self) -> None:
        self._failed -= self._seen.popleft()[1]

    def _changed_at(self) -> int:
        """How many of the oldest are of another kind than the rest; 0: none."""
        count, failed = len(self._seen), self._failed
        whole = _log_likelihood(failed, count)
        best, cut, after = _CHANGED, 0, 0
        for length, (_, one) in enumerate(reversed(self._seen), start=1):
            after += one
            if length not in _CUTS or count - length < _PART_MIN:
                continue
            parts = _log_likelihood(after, length) + _log_likelihood(failed - after, count - length)
            if parts - whole > best:
                best, cut = parts - whole, count - length
        return cut
