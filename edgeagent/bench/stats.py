"""Medians and their confidence intervals, without any assumption on the distribution.

The interval of a median is the order-statistic one (Le Boudec, Performance Evaluation, theorem 2.1): of the
sorted sample, the k-th smallest and the k-th largest value, with the largest k for which the binomial
coverage is at least 95 %. Below 6 values no pair reaches 95 %, and the whole range is given.

The interval of a ratio comes from a paired bootstrap: rounds are drawn with replacement, both sides of a
round together, because ours and the baseline of one round share the machine's mood.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence

__all__ = ["COVERAGE", "median_ci95", "quantile", "ratio", "ratio_ci95", "significant"]

COVERAGE = 0.95
_RESAMPLES = 2000


def _rank(n: int) -> int:
    """The k of the k-th smallest and largest value, from 1; 0 when even the range falls short of the
    coverage.
    """
    below, k = 0.0, 0
    while k < n // 2:
        below += math.comb(n, k) * 0.5**n
        if 1.0 - 2.0 * below < COVERAGE:
            break
        k += 1
    return k


def median_ci95(values: Sequence[float]) -> tuple[float, float]:
    """The interval that covers the true median with at least 95 % (the range, below 6 values)."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    k = max(_rank(len(ordered)), 1)
    return ordered[k - 1], ordered[-k]


def quantile(values: Sequence[float], q: float) -> float:
    """The nearest-rank quantile: a value that was really seen."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(q * len(ordered)) - 1))]


def ratio(ours: Sequence[float], baseline: Sequence[float], better: str) -> float:
    """How many times better ours is, from the medians; infinite when the worse side is 0."""
    mine, theirs = statistics.median(ours), statistics.median(baseline)
    over, under = (theirs, mine) if better == "lower" else (mine, theirs)
    return over / under if under else math.inf


def ratio_ci95(
    ours: Sequence[float], baseline: Sequence[float], better: str, seed: int
) -> tuple[float, float]:
    """The 95 % percentile interval of :func:`ratio` by paired bootstrap over rounds (seeded, so
    reproducible).
    """
    rng = random.Random(seed)
    n = min(len(ours), len(baseline))
    drawn = []
    for _ in range(_RESAMPLES):
        rounds = rng.choices(range(n), k=n)
        drawn.append(ratio([ours[i] for i in rounds], [baseline[i] for i in rounds], better))
    return quantile(drawn, 0.025), quantile(drawn, 0.975)


def significant(value: float, digits: int = 5) -> float:
    """``value`` rounded to so many significant digits: what a measurement is worth."""
    if not math.isfinite(value) or value == 0:
        return value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))
