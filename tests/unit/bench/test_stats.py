"""Medians, intervals and ratios: literal tables, and the coverage that the interval promises."""

from __future__ import annotations

import math
import random

import pytest

from edgeagent.bench.stats import median_ci95, quantile, ratio, ratio_ci95, significant


@pytest.mark.parametrize(
    ("n", "low_rank", "high_rank"),
    # Le Boudec, table A.1: n, j and k of the 95 % interval of the median.
    [
        (1, 1, 1),
        (5, 1, 5),
        (6, 1, 6),
        (7, 1, 7),
        (8, 1, 8),
        (9, 2, 8),
        (12, 3, 10),
        (21, 6, 16),
        (51, 19, 33),
    ],
)
def test_the_interval_is_made_of_the_tabled_ranks(n: int, low_rank: int, high_rank: int) -> None:
    values = [float(value) for value in range(1, n + 1)]
    random.Random(n).shuffle(values)
    assert median_ci95(values) == (low_rank, high_rank)


def test_the_interval_covers_the_true_median_at_least_as_often_as_promised() -> None:
    rng = random.Random(7)
    covered = 0
    for _ in range(1000):
        low, high = median_ci95([rng.expovariate(1.0) for _ in range(21)])
        covered += low <= math.log(2) <= high
    assert covered >= 940


def test_no_values_have_neither_interval_nor_quantile() -> None:
    with pytest.raises(ValueError, match="no values"):
        median_ci95([])
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


@pytest.mark.parametrize(("q", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_a_quantile_is_the_nearest_rank(q: float, expected: float) -> None:
    assert quantile(list(range(100, 0, -1)), q) == expected


@pytest.mark.parametrize(
    ("ours", "baseline", "better", "expected"),
    [
        ([5.0], [100.0], "lower", 20.0),
        ([100.0], [5.0], "lower", 0.05),
        ([9000.0], [6000.0], "higher", 1.5),
        ([0.0], [3.0], "lower", math.inf),
    ],
)
def test_a_ratio_over_one_means_that_ours_is_better(
    ours: list[float], baseline: list[float], better: str, expected: float
) -> None:
    assert ratio(ours, baseline, better) == pytest.approx(expected)


def test_the_interval_of_a_ratio_is_reproducible_and_holds_the_ratio() -> None:
    rng = random.Random(3)
    mood = [rng.uniform(1, 2) for _ in range(21)]
    ours, theirs = [5 * factor for factor in mood], [100 * factor for factor in mood]
    low, high = ratio_ci95(ours, theirs, "lower", seed=1)
    assert (low, high) == ratio_ci95(ours, theirs, "lower", seed=1)
    # Both sides share the mood of each round, so pairing leaves no spread at all.
    assert low == pytest.approx(20) == high


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, 0.0), (123456.0, 123460.0), (-0.00123456, -0.0012346), (math.inf, math.inf)],
)
def test_five_significant_digits(value: float, expected: float) -> None:
    assert significant(value) == expected
