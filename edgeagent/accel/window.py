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
from itertools import islice

__all__ = ["SPREAD_PRIOR", "Moments", "Window", "moments"]

_SAMPLES_MAX = 96
SPREAD_PRIOR = 0.15  # of the logarithm, before anything was seen
_PRIOR_COUNT = 2.0  # samples that the prior spread is worth
_TAIL_FROM = 8
_NEWEST = 16


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
    """Of one or more logarithms of times; ``spread2`` is the variance that was expected. Without a tail."""
    count = len(logs)
    mean = sum(logs) / count
    return Moments(count, mean, _variance(count, sum((one - mean) ** 2 for one in logs), spread2), 0.0, 0.0)


def _variance(count: int, squares: float, spread2: float) -> float:
    return (squares + _PRIOR_COUNT * spread2) / (count + _PRIOR_COUNT - 1.0)


class Window:
    """At most 96 times, each with the number of its request; sums are kept, so that moments cost little."""

    __slots__ = ("_logs", "_ms", "_numbers", "_removed", "_sums")

    def __init__(self) -> None:
        self._numbers: deque[int] = deque()
        self._logs: deque[float] = deque()
        self._ms: deque[float] = deque()
        self._sums = [0.0, 0.0, 0.0, 0.0]  # of logarithms, their squares, times, their squares
        self._removed = 0

    def __len__(self) -> int:
        """How many times are kept."""
        return len(self._logs)

    def add(self, number: int, ms: float) -> None:
        """Times below a microsecond count as one: their logarithm must exist."""
        ms = max(ms, 1e-3)
        log = math.log(ms)
        self._numbers.append(number)
        self._logs.append(log)
        self._ms.append(ms)
        self._count(log, ms, 1.0)
        if len(self._logs) > _SAMPLES_MAX:
            self._remove()

    def _count(self, log: float, ms: float, sign: float) -> None:
        sums = self._sums
        sums[0] += sign * log
        sums[1] += sign * log * log
        sums[2] += sign * ms
        sums[3] += sign * ms * ms

    def _remove(self) -> None:
        self._numbers.popleft()
        self._count(self._logs.popleft(), self._ms.popleft(), -1.0)
        self._removed += 1
        if self._removed >= _SAMPLES_MAX:  # rounding adds up
            self._removed, self._sums = 0, [0.0, 0.0, 0.0, 0.0]
            for log, ms in zip(self._logs, self._ms, strict=True):
                self._count(log, ms, 1.0)

    def forget_before(self, number: int, least: int) -> None:
        """Forget requests before this one, but for the last ``least``."""
        while len(self._logs) > least and self._numbers[0] < number:
            self._remove()

    def keep_last(self, count: int) -> None:
        """Forget all but so many."""
        while len(self._logs) > count:
            self._remove()

    def logs(self) -> list[float]:
        """The logarithms, oldest first."""
        return list(self._logs)

    def last_times(self, count: int) -> tuple[tuple[int, float], ...]:
        """(number of the request, ms) of the newest so many, oldest first."""
        known = list(zip(self._numbers, self._ms, strict=True))
        return tuple(known[-count:])

    @property
    def newest(self) -> int:
        """The number of the newest request, of one or more."""
        return self._numbers[-1]

    def largest_log(self) -> float:
        """Of one or more."""
        return max(self._logs)

    def moments(self, spread2: float = SPREAD_PRIOR**2) -> Moments:
        """Of one or more times; ``spread2`` is the variance of the logarithm that was expected."""
        count = len(self._logs)
        log, log2, ms, ms2 = (one / count for one in self._sums)
        variance = _variance(count, max(log2 - log * log, 0.0) * count, spread2)
        if count < _TAIL_FROM or ms <= 0.0:
            return Moments(count, log, variance, 0.0, 0.0)
        scatter = max(ms2 - ms * ms, 0.0) / (ms * ms * (count - 1))
        return Moments(count, log, variance, max(math.log(ms) - log, 0.0), scatter)

    def mean_ms(self) -> float:
        """Of the newest 16; 0 where there is none."""
        newest = list(islice(reversed(self._ms), _NEWEST))
        return sum(newest) / len(newest) if newest else 0.0

    def newest_log(self, count: int) -> float:
        """The mean logarithm of the newest so many, of one or more."""
        newest = list(islice(reversed(self._logs), count))
        return sum(newest) / len(newest)

    def share_over(self, log: float) -> float:
        """The share of one or more times whose logarithm is above this."""
        return sum(one > log for one in self._logs) / len(self._logs)
