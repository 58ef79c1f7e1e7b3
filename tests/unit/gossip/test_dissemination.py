"""Rumours: least told first, so often and no more, within the datagram and the bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.gossip.dissemination import Rumours, retransmit_limit


@pytest.mark.parametrize(
    ("members", "limit"), [(1, 4), (9, 4), (10, 8), (99, 8), (100, 12), (999, 12), (4472, 16)]
)
def test_the_limit_grows_with_the_logarithm_of_the_group(members: int, limit: int) -> None:
    assert retransmit_limit(4, members) == limit


def test_each_rumour_is_told_so_often_and_then_forgotten() -> None:
    rumours = Rumours(10)
    rumours.put(("a", 0), b"x" * 30)
    assert [len(rumours.take(1000, 3)) for _ in range(5)] == [1, 1, 1, 0, 0]
    assert len(rumours) == 0


def test_what_was_told_least_goes_first() -> None:
    rumours = Rumours(10)
    rumours.put(("old", 0), b"old" * 10)
    rumours.take(1000, 4)
    rumours.put(("new", 0), b"new" * 10)
    assert rumours.take(40, 4) == [b"new" * 10]


def test_news_about_a_subject_replaces_the_older() -> None:
    rumours = Rumours(10)
    rumours.put(("a", 0), b"1" * 30)
    rumours.take(1000, 4)
    rumours.put(("a", 0), b"2" * 30)
    rumours.put(("a", 1), b"3" * 30)
    assert rumours.take(1000, 4) == [b"2" * 30, b"3" * 30]
    rumours.drop(("a", 0))
    assert rumours.take(1000, 4) == [b"3" * 30]


def test_the_bound_drops_what_was_told_most() -> None:
    rumours = Rumours(2)
    rumours.put(("told", 0), b"a" * 30)
    rumours.take(1000, 9)
    rumours.put(("b", 0), b"b" * 30)
    rumours.put(("c", 0), b"c" * 30)
    assert len(rumours) == 2
    assert rumours.dropped == 1
    assert rumours.take(1000, 9) == [b"b" * 30, b"c" * 30]


def test_what_does_not_fit_waits_for_the_next_datagram() -> None:
    rumours = Rumours(10)
    rumours.put(("large", 0), b"l" * 100)
    rumours.put(("small", 0), b"s" * 30)
    assert rumours.take(90, 2) == [b"s" * 30]
    assert rumours.take(110, 2) == [b"l" * 100]


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(24, 200)), max_size=60),
    st.lists(st.integers(0, 1400), max_size=60),
    st.integers(1, 6),
)
def test_budgets_and_limits_hold_for_any_course(
    puts: list[tuple[int, int]], budgets: list[int], limit: int
) -> None:
    rumours = Rumours(16)
    told: dict[bytes, int] = {}
    serial = 0
    for number in range(max(len(puts), len(budgets))):
        if number < len(puts):
            subject, size = puts[number]
            serial += 1
            rumours.put((str(subject), 0), serial.to_bytes(4, "big") * (size // 4))
        if number < len(budgets):
            taken = rumours.take(budgets[number], limit)
            assert sum(len(blob) + 3 for blob in taken) <= budgets[number]
            assert len(set(taken)) == len(taken)
            for blob in taken:
                told[blob] = told.get(blob, 0) + 1
        assert len(rumours) <= 16
    assert all(count <= limit for count in told.values())
