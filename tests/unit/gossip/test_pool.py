"""Random rounds: everybody once a round, whoever comes and goes meanwhile."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.gossip.pool import Pool


class One:
    def __init__(self, name: int) -> None:
        self.name = name
        self.slot = -1


def _pool(size: int, seed: int = 1) -> tuple[Pool[One], list[One]]:
    pool: Pool[One] = Pool(random.Random(seed))
    everybody = [One(name) for name in range(size)]
    for one in everybody:
        pool.add(one)
    return pool, everybody


def test_each_round_visits_everybody_once_and_each_round_differs() -> None:
    pool, everybody = _pool(50)
    for _ in everybody:
        pool.next()  # the round during which they joined
    rounds = [[pool.next() for _ in everybody] for _ in range(3)]
    for visited in rounds:
        assert set(visited) == set(everybody)
    assert len({tuple(one.name for one in visited if one) for visited in rounds}) == 3


def test_an_empty_pool_has_nobody() -> None:
    pool, _ = _pool(0)
    assert pool.next() is None
    assert pool.sample(3) == []


def test_nobody_is_in_twice() -> None:
    pool, everybody = _pool(2)
    with pytest.raises(ValueError, match="in a pool already"):
        pool.add(everybody[0])


@given(st.lists(st.sampled_from(["add", "remove", "next"]), max_size=200), st.integers(0, 1000))
def test_nobody_is_skipped_or_visited_twice_in_a_round_by_comings_and_goings(
    steps: list[str], seed: int
) -> None:
    pool, everybody = _pool(5, seed)
    chance = random.Random(seed)
    inside = list(everybody)
    due: set[One] = set()  # those who must still be visited in this round
    seen: set[One] = set()
    for step in steps:
        if step == "add":
            inside.append(One(len(inside) + 1000))
            pool.add(inside[-1])
        elif step == "remove" and inside:
            gone = inside.pop(chance.randrange(len(inside)))
            pool.remove(gone)
            assert gone.slot == -1
            due.discard(gone)
            seen.discard(gone)
        elif step == "next" and inside:
            if not due and seen >= set(inside):
                seen = set()
            one = pool.next()
            assert one in inside
            assert one is not None
            assert one not in seen
            seen.add(one)
        assert len(pool) == len(inside)
        assert all(pool[one.slot] is one for one in inside)


def test_samples_are_different_members_without_the_excluded_one() -> None:
    pool, everybody = _pool(30)
    for _ in range(100):
        found = pool.sample(4, but=everybody[3])
        assert len(found) == len(set(found)) == 4
        assert everybody[3] not in found
    small, few = _pool(3)
    assert set(small.sample(3, but=few[0])) == set(few[1:])


def test_samples_are_fair() -> None:
    pool, everybody = _pool(20)
    drawn = Counter(one.name for _ in range(4000) for one in pool.sample(2))
    assert all(300 < drawn[one.name] < 500 for one in everybody)
