"""What the parts of the core share: who we are, what we know, and the effects of the input in hand."""

from __future__ import annotations

from typing import Any

import msgspec

from edgeagent.gossip.codec import (
    DATAGRAM_BYTES_MAX,
    ITEM_OVERHEAD_BYTES,
    Death,
    Items,
    Kind,
    encode_item,
    encode_packet,
    header_bytes,
)
from edgeagent.gossip.dissemination import Rumours, retransmit_limit
from edgeagent.gossip.effects import Effect, Notice, Notify, Send
from edgeagent.gossip.health import LocalHealth
from edgeagent.gossip.knobs import Knobs
from edgeagent.gossip.members import Member, Members
from edgeagent.gossip.occlusion import AlwaysInContact, Contacts, in_contact_around
from edgeagent.gossip.pool import Chance
from edgeagent.gossip.records import Record, Sign, Trust, Verify
from edgeagent.gossip.states import State
from edgeagent.gossip.timers import Timer, Timers

__all__ = ["Context", "Counters", "Ports"]


class Counters(msgspec.Struct):
    """What happened since the start, for metrics."""

    datagrams_refused: int = 0
    items_refused: int = 0
    records_refused: int = 0
    accusations_ignored: int = 0
    table_full: int = 0
    probes: int = 0
    probes_failed: int = 0
    refutations: int = 0
    stalls: int = 0
    exchanges: int = 0
    exchanges_failed: int = 0
    occlusions: int = 0


def _unsigned(_text: bytes) -> bytes:
    return b""


def _trusting(_record: Record) -> Trust:
    return Trust.VERIFIED


class Ports(msgspec.Struct, kw_only=True):
    """What is injected. The defaults are for loopback: unsigned records, no plan."""

    chance: Any  # a Chance
    sign: Sign = _unsigned
    verify: Verify = _trusting
    contacts: Any = msgspec.field(default_factory=AlwaysInContact)  # a Contacts
    items: Items = msgspec.field(default_factory=Items)
    table: Any = Members  # makes the table of members: name, chance, members_max


class Context:
    """See the module."""

    def __init__(self, name: str, knobs: Knobs, ports: Ports) -> None:
        self.name = name
        self.knobs = knobs
        self.chance: Chance = ports.chance
        self.sign = ports.sign
        self.verify = ports.verify
        self.contacts: Contacts = ports.contacts
        self.items = ports.items
        self.members: Members = ports.table(name, self.chance, knobs.members_max)
        self.rumours = Rumours(knobs.rumours_max)
        self.health = LocalHealth(knobs.health_max)
        self.timers = Timers()
        self.counters = Counters()
        self.out: list[Effect] = []
        self.now_s = 0.0
        self.utc_minus_monotonic_s: float | None = None  # None: the clock is not synchronised
        self.gossip_due = False
        self.to_verify: dict[str, tuple[Member, bytes]] = {}
        self.active = True  # False after a farewell

    @property
    def utc_s(self) -> float | None:
        """The time by which plans are asked."""
        offset_s = self.utc_minus_monotonic_s
        return None if offset_s is None else self.now_s + offset_s

    def notify(self, notice: Notice) -> None:
        self.out.append(Notify(notice))

    def tell(self, name: str, section: int, blob: bytes) -> None:
        """Spread a rumour."""
        self.rumours.put((name, section), blob)
        if not self.gossip_due:
            self.gossip_due = True
            self.timers.at(self.now_s + self.knobs.gossip_interval_s, Timer.GOSSIP)

    def verify_soon(self, member: Member, death: bytes) -> None:
        """Probe a member out of turn, and tell it what is said of it: others hold it dead."""
        if not self.to_verify:
            self.timers.at(self.now_s, Timer.VERIFY)
        self.to_verify.setdefault(member.name, (member, death))

    def send(self, member: Member, kind: int, seq: int = 0, target: str = "") -> None:
        """A packet to a member, with what it must know first, then rumours."""
        self.send_to(member.address, kind, seq, target, self.must_know(member))

    def send_to(self, address: str, kind: int, seq: int, target: str, first: bytes = b"") -> None:
        """A packet to an address; ``first`` is its first item."""
        budget = DATAGRAM_BYTES_MAX - header_bytes(self.name, target)
        items: list[bytes] = []
        if first:
            items.append(first)
            budget -= len(first) + ITEM_OVERHEAD_BYTES
        if len(self.rumours):
            limit = retransmit_limit(self.knobs.retransmit_mult, self.members.count)
            items += self.rumours.take(budget, limit)
        self.out.append(Send(address, encode_packet(kind, self.name, seq, target, items)))

    def must_know(self, member: Member) -> bytes:
        """The accusation that the member should refute (Lifeguard's buddy), or the death that it should deny."""
        state = member.state
        if state is State.ALIVE:
            return b""
        if state is State.SUSPECT and member.suspicion is not None and self.knobs.buddy:
            return member.suspicion.blob
        if state is State.DEAD:
            return encode_item(Death(member.name, member.incarnation, self.name))
        return b""

    def gossip_now(self, member: Member) -> None:
        """Tell a member what it must know, outside of the rhythm."""
        self.send(member, Kind.GOSSIP)

    def reachable(self, name: str) -> bool:
        """Whether the plan has us in contact now; true where nothing can be predicted."""
        utc_s = self.utc_s
        return utc_s is None or self.contacts.reachable(self.name, name, utc_s)

    def can_judge(self, judge: str, name: str) -> bool:
        """Whether the plan had the two in contact around now: who was not cannot say that the other one is gone."""
        utc_s = self.utc_s
        return utc_s is None or in_contact_around(
            self.contacts, judge, name, utc_s, self.knobs.occlusion_margin_s
        )

    def returns_at_s(self, name: str) -> float | None:
        """When the plan has us in contact again, UTC."""
        utc_s = self.utc_s
        return None if utc_s is None else self.contacts.returns_at_s(self.name, name, utc_s)
