"""The last times of one backend: their logarithms' mean and spread, and how much the tail adds to the mean.

Latencies are nearer to log-normal than to normal, so few of them are best compared by their logarithms. But what a
user waits for is the mean, and a backend that is mostly fast and sometimes dreadful has a bad one: with more samples
the tail is taken from what was seen (``tail``).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["SPREAD_PRIOR", "Moments", "Window", "moments"]

_SAMPLES_MAX = 96
SPREAD_PRIOR = 0.15  # of the logarithm, before anything was seen
_PRIOR_COUNT = 2.0  # samples that the prior spread is worth
_TAIL_FROM = 8


@dataclass(frozen=True)
class Moments:
    """Of the logarithms of ``count`` times in ms; ``tail`` = log(mean / geometric mean), with its variance."""

    count: int
    mean_log: float
    variance_log: float
    tail: float
    tail_variance: float

    @property
    def error2(self) -> float:
        """The squared standard error of ``mean_log``."""
        return self.variance_log / self.count


def moments(logs: Sequence[float], spread2: float = SPREAD_PRIOR**2) -> Moments:
    """Of one or more logarithms of times; ``spread2`` is the variance that was expected."""
    count = len(logs)
    mean = sum(logs) / count
    squares = sum((one - mean) ** 2 for one in logs)
    variance = (squares + _PRIOR_COUNT * spread2) / (count + _PRIOR_COUNT - 1.0)
    if count < _TAIL_FROM:
        return Moments(count, mean, variance, 0.0, 0.0)
    ratios = [math.exp(min(one - mean, 50.0)) for one in logs]
    level = sum(ratios) / count
    spread = sum((one - level) ** 2 for one in ratios) / (count - 1)
    return Moments(count, mean, variance, math.log(level), spread / (level * level * count))


class Window:
    """At most 96 times, each with the number of its request."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: deque[tuple[int, float]] = deque(maxlen=_SAMPLES_MAX)

    def __len__(self) -> int:
        """How many times are kept."""
        return len(self._seen)

    def add(self, number: int, ms: float) -> None:
        """Times below a microsecond count as one: their logarithm must exist."""
        self._seen.append((number, math.log(max(ms, 1e-3))))

    def logs(self, since: int = 0, least: int = 0) -> list[float]:
        """The logarithms, oldest first, of requests from this one on; the last ``least`` of any."""
        old = len(self._seen) - least
        return [log for place, (number, log) in enumerate(self._seen) if number >= since or place >= old]

    def keep_last(self, count: int) -> None:
        """Forget all but so many."""
        for _ in range(len(self._seen) - count):
            self._seen.popleft()

    def mean_ms(self) -> float:
        """Of the newest 16; 0 where there is none."""
        newest = [log for _, log in self._seen][-16:]
        return sum(math.exp(log) for log in newest) / len(newest) if newest else 0.0
