"""The core of gossip: datagrams, frames, timers and commands in, effects out. No clock, no socket, no dice of its own.

A shell (UDP and TCP, or the simulator) calls one method at a time with the monotonic time in seconds, carries out the
effects that it returns, in their order, and calls ``on_timer`` for the last ``Arm``. The same object runs in both
worlds. It expects datagrams that are decrypted and whose sender is who it says it is; records carry their own
signature, checked by ``ports.verify`` before they count.

Late calls are noticed: when the earliest deadline is past by more than ``lag_tolerance_s``, we stood still, so that
answers may lie unread and our suspicions had no chance to be refuted. All deadlines move by the delay.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from edgeagent.gossip.codec import Accusation, Death, Kind, Packet, decode_packet
from edgeagent.gossip.commands import (
    Adopt,
    Ask,
    Command,
    Join,
    Leave,
    PlanChanged,
    Publish,
    ReportLag,
    Restore,
    SetNeighbours,
    SetUtc,
)
from edgeagent.gossip.context import Context, Counters, Ports
from edgeagent.gossip.dissemination import retransmit_limit
from edgeagent.gossip.effects import Effect
from edgeagent.gossip.errors import RecordRefused, WireRefused
from edgeagent.gossip.exchange import Exchange
from edgeagent.gossip.knobs import Knobs
from edgeagent.gossip.members import BURIED, Member
from edgeagent.gossip.near import Near
from edgeagent.gossip.own import OwnRecords
from edgeagent.gossip.probe import Prober
from edgeagent.gossip.records import Identity, Record, Section
from edgeagent.gossip.states import State
from edgeagent.gossip.timers import Timer
from edgeagent.gossip.view import View

__all__ = ["Mesh"]

_CLOCK_SET_S = 1.0  # a smaller change of the clock is no reason to ask the plan again
_FAREWELL_ROUNDS = 3


class Mesh:
    """One member. ``epoch_ms`` is this life's (:func:`records.next_epoch_ms`). Knobs' names say their units."""

    def __init__(self, name: str, identity: Identity, knobs: Knobs, ports: Ports, *, epoch_ms: int) -> None:
        self._context = Context(name, knobs, ports)
        self._own = OwnRecords(self._context, identity, epoch_ms)
        self._view = View(self._context, self._own)
        self._prober = Prober(self._context, self._view)
        self._near = Near(self._context)
        self._exchange = Exchange(self._context, self._view)
        self._handlers: dict[Timer, Callable[[Any], None]] = {
            Timer.PROBE: lambda _: self._prober.round_due(),
            Timer.PROBE_TIMEOUT: self._prober.timeout_due,
            Timer.PROBE_END: self._prober.end_due,
            Timer.RELAY: self._prober.relay_due,
            Timer.GOSSIP: lambda _: self._gossip_due(),
            Timer.LOAD_PUSH: lambda _: self._near.push_due(),
            Timer.LOAD_FORWARD: lambda _: self._near.forward_due(),
            Timer.SUSPICION: lambda due: self._prober.suspicion_due(*due),
            Timer.RETURN: lambda due: self._prober.return_due(*due),
            Timer.VERIFY: lambda _: self._prober.verify_due(),
            Timer.PUSH_PULL: lambda _: self._exchange.due(),
            Timer.STREAM: self._exchange.deadline_due,
            Timer.RECONNECT: lambda _: self._prober.reconnect_due(),
            Timer.SWEEP: lambda _: self._view.sweep(),
            Timer.KNOCK: self._exchange.knock_due,
            Timer.NAME: lambda _: self._own.name_due(),
        }
        self._commands: dict[type[Command], Callable[[Any], None]] = {
            Publish: self._publish,
            Adopt: lambda it: self._adopt(it.blob),
            Ask: lambda it: self._ask(it.name),
            SetUtc: lambda it: self._set_utc(it.utc_minus_monotonic_s),
            PlanChanged: lambda it: self._view.returns.look_again(it.names),
            SetNeighbours: lambda it: self._near.set_neighbours(it.names),
            ReportLag: lambda it: self._lagged(it.lag_s),
            Join: lambda it: self._exchange.join(it.addresses),
            Restore: lambda it: self._restore(it.blobs),
            Leave: lambda _: self._leave(),
        }

    # what can be read

    @property
    def counters(self) -> Counters:
        return self._context.counters

    @property
    def health(self) -> int:
        """The local health score, 0 is healthy."""
        return self._context.health.score

    @property
    def incarnation(self) -> int:
        return self._own.incarnation

    @property
    def knobs(self) -> Knobs:
        return self._context.knobs

    def member(self, name: str) -> Member | None:
        """What is held of a member; None where nothing is."""
        return self._context.members.by_name.get(name)

    def states(self) -> dict[str, State]:
        """Everybody's state but ours."""
        table = self._context.members.by_name
        return {name: one.state for name, one in table.items() if one is not self._context.members.me}

    def records(self) -> list[Record]:
        """All records held, ours too: what ``Restore`` takes after a restart."""
        table = self._context.members.by_name.values()
        return [
            record for one in table if one.state not in BURIED for record in one.records if record is not None
        ]

    # inputs

    def start(self, now_s: float) -> list[Effect]:
        """Begin to live. Before it, nothing else is called."""
        context, knobs = self._context, self._context.knobs
        context.now_s = now_s
        context.out = []
        self._own.begin()
        spread = context.chance.random  # so that members that start together do not act together
        context.timers.at(now_s + knobs.probe_interval_s * spread(), Timer.PROBE)
        context.timers.at(now_s + knobs.push_pull_interval_s * spread(), Timer.PUSH_PULL)
        context.timers.at(now_s + knobs.reconnect_interval_s * (0.5 + spread()), Timer.RECONNECT)
        context.timers.at(now_s + knobs.tombstone_s / 8, Timer.SWEEP)
        return self._end()

    def on_datagram(self, now_s: float, source: str, data: bytes) -> list[Effect]:
        """A datagram from an address. Malformed ones change nothing."""
        self._begin(now_s)
        try:
            packet = decode_packet(data)
        except WireRefused:
            self._context.counters.datagrams_refused += 1
            return self._end()
        sender = self._context.members.by_name.get(packet.sender)
        if sender is self._context.members.me:
            return self._end()  # our own, reflected
        for blob in packet.items:
            self._item(blob, packet.sender, sender)
        if sender is None:
            sender = self._context.members.by_name.get(packet.sender)
        if sender is not None:
            sender.seen_at = "" if source == sender.address else source
        self._packet(packet, source, sender)
        return self._end()

    def on_stream(self, now_s: float, stream: Hashable, data: bytes) -> list[Effect]:
        """A frame on a stream: one that ``Dial`` opened, or one that the shell accepted and named (not with an int)."""
        self._begin(now_s)
        self._exchange.frame(stream, data)
        return self._end()

    def on_stream_closed(self, now_s: float, stream: Hashable) -> list[Effect]:
        """A stream failed, or the other side ended it."""
        self._begin(now_s)
        self._exchange.closed(stream)
        return self._end()

    def on_timer(self, now_s: float, token: int) -> list[Effect]:
        """The time of an ``Arm``. Tokens of earlier ones are ignored."""
        timers = self._context.timers
        if token != timers.token:
            return []
        self._begin(now_s)
        timers.begin(now_s)
        while (due := timers.pop_due(now_s)) is not None:
            self._handlers[due[0]](due[1])
        timers.done()
        return self._end()

    def on_command(self, now_s: float, command: Command) -> list[Effect]:
        """What the shell asks. Raises RecordRefused for what no record can carry; nothing changes then."""
        self._begin(now_s)
        self._commands[type(command)](command)
        return self._end()

    # inside

    def _begin(self, now_s: float) -> None:
        context = self._context
        context.now_s = max(now_s, context.now_s)
        context.out = []
        late_s = now_s - context.timers.next_s
        if late_s > context.knobs.lag_tolerance_s > 0.0:
            context.counters.stalls += 1
            context.health.worsen()
            context.timers.shift(late_s)
            self._view.put_off(late_s)

    def _end(self) -> list[Effect]:
        out = self._context.out
        arm = self._context.timers.arm()
        if arm is not None:
            out.append(arm)
        return out

    def _item(self, blob: bytes, sender_name: str, sender: Member | None) -> None:
        try:
            item = self._context.items.read(blob)
        except WireRefused:
            self._context.counters.items_refused += 1
            return
        if isinstance(item, Record):
            is_news = bool(sender_name)  # else it comes from our own disk
            if self._view.merge(item, sender, is_news=is_news) and item.section == Section.LOAD:
                self._near.took(item, sender_name)
        elif isinstance(item, Accusation):
            self._view.accused(item, blob)
        else:
            assert isinstance(item, Death)
            self._view.condemned(item, blob)

    def _packet(self, packet: Packet, source: str, sender: Member | None) -> None:
        kind, prober = packet.kind, self._prober
        if kind == Kind.ACK:
            back = prober.acked(packet, sender)
            if back is not None:
                self._exchange.catch_up(back)
        elif kind == Kind.PING:
            prober.asked(packet, source, sender)
        elif kind == Kind.PING_REQ:
            prober.help_asked(packet, source)
        elif kind == Kind.NACK:
            prober.nacked(packet)
        if sender is None:
            return
        if sender.state is State.DEAD:
            self._from_the_grave(sender)
        elif self._view.heard(sender, answered=False):
            self._exchange.catch_up(sender)

    def _from_the_grave(self, member: Member) -> None:
        """One that we hold dead speaks: tell it, so that it refutes, and compare what we know: a partition healed."""
        context = self._context
        if context.now_s - member.told_s >= context.knobs.probe_interval_s:
            member.told_s = context.now_s
            context.gossip_now(member)
            self._exchange.catch_up(member)

    def _gossip_due(self) -> None:
        context = self._context
        context.gossip_due = bool(len(context.rumours))
        if not context.gossip_due:
            return
        context.timers.at(context.now_s + context.knobs.gossip_interval_s, Timer.GOSSIP)
        for member in context.members.ring.sample(context.knobs.gossip_nodes):
            if len(context.rumours):
                context.send(member, Kind.GOSSIP)

    def _publish(self, command: Publish) -> None:
        if command.section == Section.IDENTITY:
            raise RecordRefused("the identity is the core's own", hint="it is given at the start")
        if command.section == Section.EPHEMERIS:
            raise RecordRefused("an ephemeris is an operator's", hint="our own elements go into the place")
        self._own.publish(command.section, command.payload)
        if command.section == Section.LOAD:
            self._near.changed()

    def _adopt(self, blob: bytes) -> None:
        try:
            record = self._context.items.read(blob)
        except WireRefused as error:
            raise RecordRefused(error.message, hint=error.hint) from None
        if not isinstance(record, Record) or record.section != Section.EPHEMERIS:
            raise RecordRefused("not an ephemeris", hint="a node's other records are its own")
        member = self._context.members.by_name.get(record.name)
        if member is None or member.state in BURIED:
            raise RecordRefused(f"no member {record.name!r:.80} is known")
        held = member.version_of(record.section)
        if record.version <= held:
            raise RecordRefused(f"the ephemeris of {record.name} is as new already")
        if not self._view.merge(record):
            raise RecordRefused(
                f"the ephemeris of {record.name} is not signed by an operator of this node's",
                hint="mesh.operators of its configuration names their keys",
            )

    def _ask(self, name: str) -> None:
        member = self._context.members.by_name.get(name)
        if member is not None and member.state not in BURIED:
            self._exchange.dial(member.address)

    def _lagged(self, lag_s: float) -> None:
        if 0.0 < self._context.knobs.lag_tolerance_s < lag_s:
            self._context.health.worsen()

    def _restore(self, blobs: tuple[bytes, ...]) -> None:
        for blob in blobs:
            self._item(blob, "", None)

    def _set_utc(self, offset_s: float | None) -> None:
        context = self._context
        before = context.utc_minus_monotonic_s
        context.utc_minus_monotonic_s = offset_s
        if before is None or offset_s is None or abs(offset_s - before) > _CLOCK_SET_S:
            self._view.returns.look_again()

    def _leave(self) -> None:
        context = self._context
        self._own.farewell()
        context.active = False
        for _ in range(min(_FAREWELL_ROUNDS, retransmit_limit(1, context.members.count))):
            self._gossip_due()
