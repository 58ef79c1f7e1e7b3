"""Load, for neighbours only: pushed by its owner at once, passed on in batches while it has hops left.

A node's load is of use where work could go to, which is a few links away (DESIGN: "told, and only nearby"). Neighbours
are those that the shell names from the link graph; where it names none, the next ``neighbours_max`` names in order
after ours, which spreads the work evenly.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from edgeagent.gossip.codec import (
    DATAGRAM_BYTES_MAX,
    ITEM_OVERHEAD_BYTES,
    Kind,
    encode_packet,
    encode_record,
    header_bytes,
)
from edgeagent.gossip.context import Context
from edgeagent.gossip.effects import Send
from edgeagent.gossip.members import Member
from edgeagent.gossip.records import Record, Section
from edgeagent.gossip.states import State
from edgeagent.gossip.timers import Timer

__all__ = ["Near"]

_REACHED = frozenset({State.ALIVE, State.SUSPECT})


class Near:
    """See the module."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._named: tuple[str, ...] | None = None
        self._default: list[Member] = []
        self._default_of = -1
        self._pushed_s = -1e9
        self._push_due = False
        self._forward: dict[str, tuple[Record, str]] = {}  # origin: its record, and who brought it

    def set_neighbours(self, names: Sequence[str] | None) -> None:
        """Who the link graph has next to us; None: nobody says."""
        self._named = None if names is None else tuple(names[: self._context.knobs.neighbours_max])

    def neighbours(self) -> list[Member]:
        """Those to whom load goes now: alive or suspect."""
        members = self._context.members
        if self._named is not None:
            known = (members.by_name.get(name) for name in self._named)
            return [one for one in known if one is not None and one.state in _REACHED]
        if self._default_of != members.ring.changes:
            self._default_of = members.ring.changes
            ring = sorted((members.ring[place] for place in range(len(members.ring))), key=_name)
            start = bisect.bisect(ring, self._context.name, key=_name)
            self._default = (ring[start:] + ring[:start])[: self._context.knobs.neighbours_max]
        return self._default

    def changed(self) -> None:
        """Our load is new: push it, or as soon as the pace allows."""
        context = self._context
        if self._push_due or not context.knobs.load_hops:
            return
        at_s = self._pushed_s + context.knobs.load_interval_s
        if at_s <= context.now_s:
            self.push_due()
        else:
            self._push_due = True
            context.timers.at(at_s, Timer.LOAD_PUSH)

    def push_due(self) -> None:
        """Push our newest load."""
        context = self._context
        self._push_due = False
        record = context.members.me.records[Section.LOAD]
        if record is None:
            return
        self._pushed_s = context.now_s
        data = encode_packet(Kind.GOSSIP, context.name, 0, "", [record.blob])
        context.out += [Send(member.address, data) for member in self.neighbours()]

    def took(self, record: Record, sender: str) -> None:
        """A load record is new here: it goes on while it has hops."""
        context = self._context
        if not record.hops:
            return
        if not self._forward:
            context.timers.at(context.now_s + context.knobs.load_forward_interval_s, Timer.LOAD_FORWARD)
        self._forward[record.name] = (record, sender)

    def forward_due(self) -> None:
        """Pass on what has come in, to each neighbour what it has neither written nor brought."""
        context, forward = self._context, self._forward
        self._forward = {}
        fewer = [
            (_with_fewer_hops(record, context.knobs.load_hops), sender) for record, sender in forward.values()
        ]
        for member in self.neighbours():
            blobs = [one.blob for one, sender in fewer if member.name not in {one.name, sender}]
            self._send_all(member, blobs)

    def _send_all(self, member: Member, blobs: list[bytes]) -> None:
        context = self._context
        room = DATAGRAM_BYTES_MAX - header_bytes(context.name, "")
        batch: list[bytes] = []
        left = room
        for blob in [*blobs, b""]:  # the empty one flushes
            size = len(blob) + ITEM_OVERHEAD_BYTES
            if batch and (not blob or size > left):
                context.out.append(
                    Send(member.address, encode_packet(Kind.GOSSIP, context.name, 0, "", batch))
                )
                batch, left = [], room
            if blob:
                batch.append(blob)
                left -= size


def _name(member: Member) -> str:
    return member.name


def _with_fewer_hops(record: Record, hops_max: int) -> Record:
    hops = max(0, min(record.hops, hops_max) - 1)
    return encode_record(
        record.name, record.section, record.version, record.payload, signature=record.signature, hops=hops
    )
