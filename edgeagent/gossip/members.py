"""The table of members: bounded, with the probe ring, the tombstones and the sums of anti-entropy.

1. Only an identity record makes an entry. At most ``members_max`` are kept, a quarter of them unverified.
2. A full table makes room for a verified name by forgetting an unverified one or a tombstone, and for an unverified
   name by nothing: names that anybody can forge displace nobody.
3. ``marks[b]`` is the exclusive-or of the marks of all records but load of the members in bucket ``b``, those in
   their graves left out: two tables agree there when the sums do, and tombstones that some have forgotten and others
   not do not count.
"""

from __future__ import annotations

import hashlib
import math

from edgeagent.gossip.pool import Chance, Pool
from edgeagent.gossip.records import Record, Section, Trust
from edgeagent.gossip.states import State
from edgeagent.gossip.suspicion import Suspicion

__all__ = ["BUCKETS", "BURIED", "Member", "Members", "bucket_of"]

BUCKETS = 256
_LOAD = int(Section.LOAD)
_SECTIONS = len(Section)
_EMPTY: tuple[Record | None, ...] = (None,) * _SECTIONS
_IN_RING = frozenset({State.ALIVE, State.SUSPECT})
BURIED = frozenset({State.DEAD, State.LEFT})


def bucket_of(name: str) -> int:
    """The bucket of a name: the same on every node."""
    return hashlib.blake2b(name.encode(), digest_size=1).digest()[0]


class Member:
    """What we hold of one member. Times are monotonic; ``returns_s`` is when an occluded one is next looked at.

    ``address`` is what its identity names. ``seen_at`` is where its last datagram came from, where that is elsewhere:
    behind a NAT. Nobody vouches for that, so it is tried second and is no more than a hint.
    """

    __slots__ = (
        "address",
        "bucket",
        "heard_s",
        "incarnation",
        "name",
        "records",
        "return_timer_s",
        "returns_s",
        "seen_at",
        "since_s",
        "slot",
        "state",
        "suspicion",
        "told_s",
        "trust",
    )

    def __init__(self, name: str, now_s: float) -> None:
        self.name = name
        self.bucket = bucket_of(name)
        self.address = ""
        self.seen_at = ""
        self.state = State.ALIVE
        self.incarnation = 0
        self.trust = Trust.VERIFIED
        self.records = _EMPTY
        self.suspicion: Suspicion | None = None
        self.slot = -1
        self.since_s = now_s
        self.heard_s = -1e9
        self.told_s = -1e9  # when it was last told that it is held dead
        self.returns_s = 0.0
        self.return_timer_s = math.inf  # when the timer for it comes up; infinite where none waits

    def version_of(self, section: int) -> int:
        """The version held; -1 where there is none."""
        record = self.records[section]
        return -1 if record is None else record.version


class Members:
    """All that we know, ourselves included (``me``: in the table and the sums, never in the ring)."""

    def __init__(self, name: str, chance: Chance, members_max: int) -> None:
        self.ring: Pool[Member] = Pool(chance)  # alive and suspect: probed, gossiped to
        self.graves: Pool[Member] = Pool(chance)  # dead and left
        self.marks = [0] * BUCKETS
        self.me = Member(name, 0.0)
        self.by_name: dict[str, Member] = {name: self.me}
        self._unverified: dict[str, None] = {}
        self._max = members_max

    @property
    def count(self) -> int:
        """How many are alive or suspect, ourselves included: the n of the formulas."""
        return len(self.ring) + 1

    def admit(
        self, name: str, trust: Trust, now_s: float
    ) -> tuple[Member | None, tuple[Member, State] | None]:
        """(a new entry, or None where there is no room; the one that was forgotten for it, with its state)."""
        forgotten: tuple[Member, State] | None = None
        if trust is not Trust.VERIFIED and len(self._unverified) >= max(1, self._max // 4):
            return None, None
        if len(self.by_name) >= self._max:
            gone = self._dispensable() if trust is Trust.VERIFIED else None
            if gone is None:
                return None, None
            forgotten = gone, self.forget(gone)
        member = Member(name, now_s)
        self.by_name[name] = member
        self.set_trust(member, trust)
        self.ring.add(member)
        return member, forgotten

    def set_trust(self, member: Member, trust: Trust) -> None:
        member.trust = trust
        if trust is Trust.VERIFIED:
            self._unverified.pop(member.name, None)
        else:
            self._unverified[member.name] = None

    def forget(self, member: Member) -> State:
        """Remove an entry and all that it adds to the sums; returns the state it was in. What still refers to it finds
        it departed.
        """
        state = member.state
        self.move(member, State.LEFT)
        self.graves.remove(member)
        del self.by_name[member.name]
        self._unverified.pop(member.name, None)
        return state

    def put(self, member: Member, record: Record) -> None:
        """Hold a record in place of the section's former one."""
        section = record.section
        records = list(member.records)
        before = records[section]
        records[section] = record
        member.records = tuple(records)
        if section == 0:
            member.incarnation = record.version
        if section != _LOAD and member.state not in BURIED:
            self.marks[member.bucket] ^= record.mark ^ (before.mark if before is not None else 0)

    def move(self, member: Member, state: State) -> None:
        """Change a state, and with it the pool that the member is in and whether the sums count it."""
        before, after = self._pool(member.state), self._pool(state)
        member.state = state
        if before is after:
            return
        if before is self.graves or after is self.graves:
            for record in member.records[:_LOAD]:
                if record is not None:
                    self.marks[member.bucket] ^= record.mark
        if before is not None:
            before.remove(member)
        if after is not None:
            after.add(member)

    def in_buckets(self, buckets: set[int], count: int) -> list[Member]:
        """The members, without those in their graves, of some of ``count`` folded buckets."""
        last = count - 1
        return [
            member
            for member in self.by_name.values()
            if member.bucket & last in buckets
            and member.state not in BURIED
            and member.records[0] is not None
        ]

    def sums(self, count: int) -> list[int]:
        """The sums folded into ``count`` buckets, a power of two up to BUCKETS."""
        folded = [0] * count
        for bucket, mark in enumerate(self.marks):
            folded[bucket & (count - 1)] ^= mark
        return folded

    def _pool(self, state: State) -> Pool[Member] | None:
        if state in _IN_RING:
            return self.ring
        return self.graves if state in BURIED else None

    def _dispensable(self) -> Member | None:
        if self._unverified:
            return self.by_name[next(iter(self._unverified))]
        return self.graves[0] if len(self.graves) else None
