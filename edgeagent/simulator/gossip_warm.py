"""A group that has been one for long: everybody knows everybody from the first moment on, however many they are.

A thousand cores that join one after the other take minutes, and 5,000 full views of 5,000 members 10 GB. Here all views
begin as one and the same table, and a view has a member of its own as soon as its core looks at it. What a core can
see is what it would see of a table filled from the start; a test compares both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edgeagent.gossip.knobs import Knobs
from edgeagent.gossip.members import BUCKETS, Member, Members, bucket_of
from edgeagent.gossip.pool import Chance, Pool
from edgeagent.gossip.records import Record
from edgeagent.simulator.gossip_world import GossipWorld

__all__ = ["WARM_MIN", "WarmWorld"]

WARM_MIN = 16  # smaller groups are walked as a whole in places that would see what is not yet made


class _Common:
    """What all views begin with. ``numbers`` are the places of ``names``; one object each, for all lists."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        self.numbers = list(range(len(self.names)))
        self.place = dict(zip(self.names, self.numbers, strict=True))
        self.buckets = [bucket_of(name) for name in self.names]
        self.records: list[tuple[Record | None, ...]] = []
        self.tables: list[WarmMembers] = []

    def table(self, name: str, chance: Chance, members_max: int) -> Members:
        return WarmMembers(name, chance, members_max, self)

    def fill(self, records: list[tuple[Record | None, ...]]) -> None:
        """From now on everybody knows these records."""
        self.records = records
        marks = [0] * BUCKETS
        for bucket, held in zip(self.buckets, records, strict=True):
            for record in held:
                if record is not None:
                    marks[bucket] ^= record.mark
        for table in self.tables:
            table.marks[:] = marks


class _Table(dict[str, Member]):
    """Members by name. Its length counts those that are not made yet; iteration leaves them out."""

    def __init__(self, owner: WarmMembers) -> None:
        super().__init__()
        self._owner = owner

    def get(self, name: str, default: Any = None) -> Any:
        found = super().get(name)
        return found if found is not None else self._owner.make_named(name, default)

    def __missing__(self, name: str) -> Member:
        found: Member | None = self._owner.make_named(name, None)
        if found is None:
            raise KeyError(name)
        return found

    def __len__(self) -> int:
        return super().__len__() + self._owner.unmade


class _Places(list[Any]):
    """The ring's list: a number stands for a member that is not made yet, in its first place."""

    def __init__(self, owner: WarmMembers, numbers: list[int]) -> None:
        super().__init__(numbers)
        self._owner = owner

    @property
    def is_made(self) -> bool:
        """Whether no number is left."""
        return not self._owner.unmade

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return found if found.__class__ is Member else self._owner.make(found)


class _Ring(Pool[Member]):
    def __init__(self, chance: Chance, places: _Places) -> None:
        super().__init__(chance)
        self._list = places

    def next(self) -> Member | None:
        """As any pool's. Once all are made a plain list does, which is faster: taken here, between two swaps."""
        places = self._list
        if isinstance(places, _Places) and places.is_made:
            self._list = list(places)
        return super().next()


class WarmMembers(Members):
    """A view that makes its members when they are looked at."""

    def __init__(self, name: str, chance: Chance, members_max: int, common: _Common) -> None:
        super().__init__(name, chance, members_max)
        self._common = common
        self._me = common.place[name]
        self._made = bytearray(len(common.names))
        self._made[self._me] = 1
        self.unmade = len(common.names) - 1
        numbers = common.numbers
        self._places = _Places(self, numbers[: self._me] + numbers[self._me + 1 :])
        self.ring = _Ring(chance, self._places)
        self.by_name = _Table(self)
        self.by_name[name] = self.me
        common.tables.append(self)

    def make_named(self, name: str, default: Any) -> Any:
        place = self._common.place.get(name)
        return default if place is None or self._made[place] else self.make(place)

    def make(self, place: int) -> Member:
        common = self._common
        self._made[place] = 1
        self.unmade -= 1
        member = Member(common.names[place], 0.0)
        records = common.records[place]
        identity = records[0]
        assert identity is not None
        assert identity.identity is not None
        member.records = records
        member.incarnation = identity.version
        member.address = identity.identity.endpoints[0]
        member.slot = common.numbers[place if place < self._me else place - 1]
        self._places[member.slot] = member
        self.by_name[member.name] = member
        if not self.unmade:  # from now on a plain table does, which is faster
            self.by_name = dict(self.by_name)
        return member

    def make_all(self) -> None:
        """Make whoever is left."""
        for name in self._common.names:
            self.by_name.get(name)

    def in_buckets(self, buckets: set[int], count: int) -> list[Member]:
        last = count - 1
        for place, bucket in enumerate(self._common.buckets):
            if bucket & last in buckets and not self._made[place]:
                self.make(place)
        return super().in_buckets(buckets, count)


class WarmWorld(GossipWorld):
    """A world in which everybody has met everybody. ``start_warm`` takes the place of ``start_all``."""

    def __init__(self, seed: int | str, names: Iterable[str], *, knobs: Knobs | None = None) -> None:
        super().__init__(seed, names, knobs=knobs)
        if len(self.nodes) < WARM_MIN:
            raise ValueError(f"a warm world has at least {WARM_MIN} nodes")
        self._common = _Common(self.nodes)
        self._surround(table=self._common.table)

    def start_warm(self) -> None:
        """Start everybody now. The first seconds still carry what each one tells of itself at its start."""
        records = []
        for name, node in self.nodes.items():
            node.start()
            assert node.mesh is not None
            own = node.mesh.member(name)
            assert own is not None
            records.append(own.records)
        self._common.fill(records)
