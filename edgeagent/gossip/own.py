"""Our own records: written here and nowhere else, and defended.

1. Each write takes the next version of one counter. ``Persist`` tells the shell our incarnation, and again when the
   counter's epoch moves on, so that the next life begins above everything that this one wrote.
2. Refutation (SWIM): accused in our present incarnation, we write our identity again, which is a higher one.
3. A record of ours that is newer than what we wrote comes from an earlier life whose state directory and clock are
   lost. It is signed with our key, so it is no forgery: we go on above it. Where that does not end, two processes
   share our name: ``NameTaken``. Each of the two meets the other's answer within an exchange or two, so that a few
   intervals of exchanges without one mean that the other is gone, or has another name: ``NameFree``. One that is out
   of contact is as good as gone until it is back.
"""

from __future__ import annotations

import msgspec

from edgeagent.gossip.antientropy import interval_s
from edgeagent.gossip.codec import Kind, encode_record
from edgeagent.gossip.context import Context
from edgeagent.gossip.effects import NameFree, NameTaken, Persist
from edgeagent.gossip.records import (
    VERSION_MAX,
    Identity,
    Record,
    Section,
    Trust,
    epoch_ms_of,
    first_version,
    signed_bytes,
    write_payload,
)
from edgeagent.gossip.timers import Timer

__all__ = ["OwnRecords"]

_LOAD = int(Section.LOAD)
_EPHEMERIS = int(Section.EPHEMERIS)
_SURPRISES_MAX = 3  # one life leaves at most a few records that a later one meets; more are somebody's
_QUIET_INTERVALS = 4


class OwnRecords:
    """See the module."""

    def __init__(self, context: Context, identity: Identity, epoch_ms: int) -> None:
        self._context = context
        self._identity = identity
        self._version = first_version(epoch_ms)
        self._surprises = 0
        self._surprised_s = 0.0

    @property
    def incarnation(self) -> int:
        return self._context.members.me.incarnation

    def begin(self) -> None:
        """Write our identity for the first time."""
        self._context.members.me.address = self._identity.endpoints[0]
        self._write_identity()

    def publish(self, section: int, payload: bytes) -> Record:
        """Write a section anew and spread it (load goes to neighbours only: :mod:`near`)."""
        context = self._context
        before = epoch_ms_of(self._version)
        self._version += 1
        if epoch_ms_of(self._version) != before and section:
            context.out.append(Persist(self._version))
        name, version = context.name, self._version
        signature = context.sign(signed_bytes(name, section, version, payload))
        hops = max(0, context.knobs.load_hops - 1) if section == _LOAD else 0
        record = encode_record(name, section, version, payload, signature=signature, hops=hops)
        context.members.put(context.members.me, record)
        if section != _LOAD:
            context.tell(name, section, record.blob)
        return record

    def farewell(self) -> None:
        """Tell everybody that we leave."""
        self._identity = msgspec.structs.replace(self._identity, left=True)
        self._write_identity()

    def accused(self, incarnation: int, accuser: str) -> None:
        """Somebody suspects us, or holds us dead. The accuser is answered, besides all those who hear the rumour."""
        context = self._context
        if not context.active or incarnation > self.incarnation:
            return
        if incarnation == self.incarnation:
            context.counters.refutations += 1
            context.health.worsen()
            self._write_identity()
        member = context.members.by_name.get(accuser)
        identity = context.members.me.records[0]
        if (
            member is None
            or identity is None
            or context.now_s - member.told_s < context.knobs.gossip_interval_s
        ):
            return
        member.told_s = context.now_s
        context.send_to(member.address, Kind.GOSSIP, 0, "", identity.blob)

    def seen(self, record: Record) -> None:
        """A record under our own name has come in."""
        context = self._context
        held = context.members.me.records[record.section]
        ours = held is not None and held.payload == record.payload
        if record.version < self._version and (held is None or record.version <= held.version):
            return
        if ours and held is not None and record.version == held.version:
            return
        if record.version >= VERSION_MAX - 1 or context.verify(record) is not Trust.VERIFIED:
            context.counters.records_refused += 1
            return
        self._surprised(record.version)
        self._version = max(self._version, record.version)
        for old in context.members.me.records:
            if old is not None and old.section not in {0, _EPHEMERIS}:
                self.publish(old.section, old.payload)
        self._write_identity()

    def name_due(self) -> None:
        """Whether the other one that writes under our name is gone."""
        context = self._context
        quiet_s = context.now_s - self._surprised_s
        enough_s = self._enough_s()
        if quiet_s < enough_s:
            context.timers.at(context.now_s + enough_s - quiet_s, Timer.NAME)
            return
        self._surprises = 0
        context.notify(NameFree())

    def _surprised(self, version: int) -> None:
        context = self._context
        self._surprises += 1
        self._surprised_s = context.now_s
        if self._surprises > _SURPRISES_MAX:
            context.notify(NameTaken(version))
        if self._surprises == _SURPRISES_MAX + 1:
            context.timers.at(context.now_s + self._enough_s(), Timer.NAME)

    def _enough_s(self) -> float:
        """Without a surprise for so long, there is no other one."""
        return _QUIET_INTERVALS * interval_s(
            self._context.knobs.push_pull_interval_s, self._context.members.count
        )

    def _write_identity(self) -> None:
        self._context.out.append(Persist(self._version + 1))
        self.publish(int(Section.IDENTITY), write_payload(self._identity))
