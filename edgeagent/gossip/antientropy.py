"""What two members lack of each other: comparison of sums, digests and versions. No streams here (:mod:`exchange`)."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator

from edgeagent.gossip.codec import Death, encode_item
from edgeagent.gossip.context import Context
from edgeagent.gossip.frames import SECTIONS_TOLD, Entry, Want
from edgeagent.gossip.members import BUCKETS, BURIED, Member
from edgeagent.gossip.records import Section
from edgeagent.gossip.states import State

__all__ = ["AntiEntropy", "interval_s"]

_TOLD = int(Section.LOAD)  # the sections before it
_PER_BUCKET = 4
_UNSCALED_MAX = 32


def interval_s(base_s: float, members: int) -> float:
    """The time between exchanges: longer in large groups, where more members repair the same things (memberlist)."""
    return base_s * (1 + max(0, math.ceil(math.log2(max(1, members) / _UNSCALED_MAX))))


class AntiEntropy:
    """See the module."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._members = context.members

    def sums(self) -> bytes:
        """Our sums, in buckets of a few members each."""
        count = 1
        while count < BUCKETS and count * _PER_BUCKET < len(self._members.by_name):
            count *= 2
        return struct.pack(f">{count}Q", *self._members.sums(count))

    def compare(self, sums: bytes) -> tuple[int, set[int], set[int]]:
        """(how many buckets, those that differ, those that differ and are empty there)."""
        count = len(sums) // 8
        theirs = struct.unpack(f">{count}Q", sums)
        ours = self._members.sums(count)
        differing = {bucket for bucket in range(count) if theirs[bucket] != ours[bucket]}
        return count, differing, {bucket for bucket in differing if not theirs[bucket]}

    def entries(self, buckets: set[int], count: int) -> Iterator[Entry]:
        """What we hold in some buckets."""
        for member in self._members.in_buckets(buckets, count):
            incarnation = member.incarnation
            held = (member.records[section] for section in SECTIONS_TOLD)
            offsets = tuple(None if one is None else one.version - incarnation for one in held)
            yield Entry(member.name, incarnation, offsets)

    def everything(self, buckets: set[int], count: int) -> Iterator[bytes]:
        """All items in some buckets."""
        for member in self._members.in_buckets(buckets, count):
            yield from _items(member, -1)

    def answer(
        self, entries: Iterable[Entry], buckets: set[int], count: int
    ) -> tuple[list[bytes], list[Want]]:
        """(the items that the other one lacks, what we lack), given what it holds in some buckets."""
        items: list[bytes] = []
        verdicts: list[bytes] = []  # last: they count only from accusers whom the other one knows by then
        wants: list[Want] = []
        told: set[str] = set()
        for entry in entries:
            told.add(entry.name)
            member = self._members.by_name.get(entry.name)
            if member is None:
                wants.append(Want(entry.name, 2**_TOLD - 1))
                continue
            wanted, lacked = _difference(entry, member)
            if wanted:
                wants.append(Want(entry.name, wanted))
            items += _items(member, lacked)
            verdicts += self._verdict(member, entry.incarnation)
        for member in self._members.in_buckets(buckets, count):
            if member.name not in told:
                items += _items(member, -1)
        return items + verdicts, wants

    def wanted(self, wants: Iterable[Want]) -> Iterator[bytes]:
        """The items that the other one asked for."""
        for want in wants:
            member = self._members.by_name.get(want.name)
            if member is not None and member.state not in BURIED:
                yield from _items(member, want.sections)

    def correction(self, name: str, version: int) -> list[bytes]:
        """What to say to one that sends an identity which we know to be over: the newer one, or its death."""
        member = self._members.by_name.get(name)
        if member is None or member.state not in BURIED or version > member.incarnation:
            return []
        newer = _items(member, 1) if version < member.incarnation else []
        return [*newer, *self._verdict(member, version)]

    def _verdict(self, member: Member, incarnation: int) -> list[bytes]:
        if member.state is State.DEAD and incarnation <= member.incarnation:
            return [encode_item(Death(member.name, member.incarnation, self._context.name))]
        return []


def _items(member: Member, sections: int) -> list[bytes]:
    told = enumerate(member.records[:_TOLD])
    return [record.blob for section, record in told if record is not None and sections >> section & 1]


def _difference(entry: Entry, member: Member) -> tuple[int, int]:
    """(sections that they hold newer, sections that we do), as bits."""
    wanted = int(entry.incarnation > member.incarnation)
    lacked = int(entry.incarnation < member.incarnation)
    for section, offset in zip(SECTIONS_TOLD, entry.offsets, strict=True):
        theirs = -1 if offset is None else entry.incarnation + offset
        ours = member.version_of(section)
        wanted |= int(theirs > ours) << section
        lacked |= int(theirs < ours) << section
    return wanted, lacked
