"""Estimates follow what was seen, forget, and never grow without bound."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.cost.estimates import EXEC_MS_UNKNOWN, Estimates, size_class
from edgeagent.model.errors import BadRequest


@pytest.mark.parametrize(
    ("count", "expected"), [(-1, 0), (0, 0), (1, 1), (3, 1), (4, 2), (15, 2), (16, 3), (1024, 6)]
)
def test_sizes_are_told_apart_by_powers_of_four(count: int, expected: int) -> None:
    assert size_class(count) == expected


def test_an_unknown_function_is_a_guess() -> None:
    estimates = Estimates()
    assert estimates.exec_ms("a", 10) == (EXEC_MS_UNKNOWN, False)
    assert estimates.out_bytes("a", 10) == 10


def test_the_nearest_class_is_borrowed_and_said_to_be_a_guess() -> None:
    estimates = Estimates()
    estimates.observe("a", 100, 5.0, 7)
    estimates.observe("a", 1_000_000, 50.0, 70)
    assert estimates.exec_ms("a", 110) == (5.0, True)
    assert estimates.exec_ms("a", 300) == (5.0, False)
    assert estimates.exec_ms("a", 500_000) == (50.0, True)
    assert estimates.out_bytes("a", 2_000_000) == 70


def test_it_moves_to_what_is_seen_now() -> None:
    estimates = Estimates()
    for ms in [100.0] * 50 + [10.0] * 30:
        estimates.observe("a", 8, ms, 0)
    assert estimates.exec_ms("a", 8)[0] == pytest.approx(10.0, abs=3.0)


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=50))
def test_it_stays_within_what_was_seen(times: list[float]) -> None:
    estimates = Estimates()
    for ms in times:
        estimates.observe("a", 8, ms, 0)
    assert min(times) - 1e-6 <= estimates.exec_ms("a", 8)[0] <= max(times) + 1e-6


@pytest.mark.parametrize("ms", [-1.0, math.nan, math.inf])
def test_times_that_cannot_be_are_left_out(ms: float) -> None:
    estimates = Estimates()
    estimates.observe("a", 8, ms, 1)
    assert len(estimates) == 0


def test_the_longest_unseen_is_forgotten() -> None:
    estimates = Estimates(2)
    for sha in ("a", "b", "a", "c"):
        estimates.observe(sha, 1, 1.0, 1)
    assert len(estimates) == 2
    assert [estimates.exec_ms(sha, 1)[1] for sha in "abc"] == [True, False, True]


def test_bounds_must_be_positive() -> None:
    with pytest.raises(BadRequest):
        Estimates(0)
