"""Contacts through the ground: both ends in sight of it."""

from __future__ import annotations

import random

import pytest

from edgeagent.simulator.bent_pipe import BentPipe, bent_pipe, union

START_S = 1_790_000_000.0


def _two() -> BentPipe:
    return BentPipe({"a": [(10.0, 20.0), (50.0, 60.0)], "b": [(15.0, 30.0), (55.0, 70.0)]}, {"a": 2.0})


def test_spans_are_made_one() -> None:
    assert union([(5.0, 7.0), (1.0, 3.0), (2.0, 4.0), (7.0, 8.0)]) == [(1.0, 4.0), (5.0, 8.0)]


@pytest.mark.parametrize(
    ("pair", "at_s", "expected"),
    [
        (("a", "ground"), 9.9, False),
        (("a", "ground"), 10.0, True),
        (("a", "ground"), 20.0, False),
        (("a", "b"), 12.0, False),
        (("b", "a"), 15.0, True),
        (("a", "b"), 25.0, False),
        (("a", "a"), 0.0, True),
        (("ground", "other"), 0.0, True),
    ],
)
def test_both_must_be_in_sight(pair: tuple[str, str], at_s: float, expected: bool) -> None:
    assert _two().reachable(*pair, at_s) is expected


@pytest.mark.parametrize(
    ("pair", "at_s", "expected"),
    [
        (("a", "b"), 0.0, 15.0),
        (("a", "b"), 16.0, 16.0),
        (("a", "b"), 20.0, 55.0),
        (("a", "ground"), 30.0, 50.0),
        (("a", "b"), 60.0, None),
    ],
)
def test_a_return_is_the_next_time_that_both_are(
    pair: tuple[str, str], at_s: float, expected: float | None
) -> None:
    assert _two().returns_at_s(*pair, at_s) == expected


def test_the_truth_is_early_or_late() -> None:
    assert _two().truly_visible("a", "ground", 8.0)
    assert not _two().truly_visible("a", "ground", 18.0)
    assert _two().share("a", 0.0, 40.0) == 0.25


def test_real_orbits_have_passes_of_minutes() -> None:
    names, contacts = bent_pipe(20, START_S, 6 * 3600.0, random.Random(1))
    satellites = [name for name in names if name.startswith("sat")]
    assert len(satellites) == 20
    shares = [contacts.share(name, START_S, START_S + 6 * 3600.0) for name in satellites]
    assert 0.05 < min(shares) <= max(shares) < 0.5
    back_s = contacts.returns_at_s("sat-003", "ground-0", START_S)
    assert back_s is not None
    assert contacts.reachable("sat-003", "ground-5", back_s)
