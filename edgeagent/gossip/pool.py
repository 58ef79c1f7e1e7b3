"""Members in random order, each once a round: SWIM's round-robin probe target selection (section 4.3) in O(1).

The list is shuffled as it is walked: each step swaps a random one of those not yet visited into place (Fisher and
Yates), so every round is a fresh uniform permutation and no step costs more than another. Visited members lie before
the cursor, the others from it on; joining and leaving keep that, so nobody is skipped or visited twice in a round.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

__all__ = ["Chance", "Pool", "Slotted"]


class Chance(Protocol):
    """The one thing asked of a generator (``random.Random`` has it): a float in [0, 1)."""

    def random(self) -> float: ...


class Slotted(Protocol):
    """A thing that remembers its place; -1 outside. It is in at most one pool at a time."""

    slot: int


M = TypeVar("M", bound=Slotted)


class Pool(Generic[M]):
    """An ordered set with random visits."""

    __slots__ = ("_chance", "_cursor", "_list", "changes")

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._list: list[M] = []
        self._cursor = 0
        self.changes = 0  # how often somebody joined or left

    def __len__(self) -> int:
        return len(self._list)

    def __getitem__(self, index: int) -> M:
        return self._list[index]

    def add(self, one: M) -> None:
        """Join, at a random place among those still to be visited in this round."""
        if one.slot >= 0:
            raise ValueError("it is in a pool already")
        self.changes += 1
        last = len(self._list)
        self._list.append(one)
        one.slot = last
        self._swap(last, self._cursor + int(self._chance.random() * (last + 1 - self._cursor)))

    def remove(self, one: M) -> None:
        """Leave."""
        self.changes += 1
        place = one.slot
        if place < self._cursor:
            self._cursor -= 1
            self._swap(place, self._cursor)
            place = self._cursor
        self._swap(place, len(self._list) - 1)
        self._list.pop()
        one.slot = -1

    def next(self) -> M | None:
        """The next one of the round; None where there is nobody."""
        left = len(self._list) - self._cursor
        if left < 1:
            left, self._cursor = len(self._list), 0
            if not left:
                return None
        cursor = self._cursor
        self._swap(cursor, cursor + int(self._chance.random() * left))
        self._cursor = cursor + 1
        return self._list[cursor]

    def sample(self, count: int, but: M | None = None) -> list[M]:
        """Up to ``count`` different members drawn at random, without ``but``."""
        found: list[M] = []
        size = len(self._list)
        if size <= count + 1:
            return [one for one in self._list if one is not but][:count]
        for _ in range(3 * count):  # bounded: a few collisions at most in pools this large
            one = self._list[int(self._chance.random() * size)]
            if one is not but and one not in found:
                found.append(one)
                if len(found) == count:
                    break
        return found

    def _swap(self, a: int, b: int) -> None:
        if a != b:
            items = self._list
            items[a], items[b] = items[b], items[a]
            items[a].slot, items[b].slot = a, b
