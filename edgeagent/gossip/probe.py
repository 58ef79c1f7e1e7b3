"""Probing: SWIM's ping, ping-req and ack, with Lifeguard's nacks and scaled time-outs.

One round, for one member, with ``scale`` = local health + 1:

    0                  ping
    timeout * scale    no ack: ping-req to k helpers; they ping it in turn, answer with its ack, or with a nack after
                       0.8 timeouts
    interval * scale   still no ack: the plan is asked, then the member is suspected (:mod:`view`)

An ack counts up to the end of the interval, from whichever way it comes. A failed probe worsens our own health by the
helpers that did not even send a nack, or by one where there was no helper: then the fault may be ours.

Besides the round's member, members are probed at their return from an occlusion, when others hold them dead, before
a suspicion runs out, and, now and then, in their graves: a partition heals when somebody asks across it.
"""

from __future__ import annotations

import enum

from edgeagent.gossip.codec import Kind, Packet
from edgeagent.gossip.context import Context
from edgeagent.gossip.effects import RoundTrip
from edgeagent.gossip.members import BURIED, Member
from edgeagent.gossip.states import State
from edgeagent.gossip.suspicion import Suspicion
from edgeagent.gossip.timers import Timer
from edgeagent.gossip.view import View

__all__ = ["Prober"]

_NACK_SHARE = 0.8  # of the time-out: the nack must arrive before the asker's own end
_SKIPS_MAX = 16  # occluded members that one round passes over
_RELAYS_MAX = 1024
_HEARD_INTERVALS = 3.0  # a member heard in so many intervals is probed, whatever the plan says
_SEQ_MASK = 2**32 - 1


class _Why(enum.Enum):
    ROUND = 0
    RETURN = 1
    VERIFY = 2
    GRAVE = 3
    ASK = 4


class _Probe:
    __slots__ = ("helpers", "incarnation", "member", "nacks", "sent_s", "why")

    def __init__(self, member: Member, sent_s: float, why: _Why) -> None:
        self.member = member
        self.incarnation = member.incarnation
        self.sent_s = sent_s
        self.why = why
        self.helpers = 0
        self.nacks = 0


class _Relay:
    __slots__ = ("address", "nacked", "seq", "target")

    def __init__(self, address: str, seq: int, target: str) -> None:
        self.address = address
        self.seq = seq
        self.target = target
        self.nacked = False


class Prober:
    """See the module."""

    def __init__(self, context: Context, view: View) -> None:
        self._context = context
        self._view = view
        self._open: dict[int, _Probe] = {}
        self._relays: dict[int, _Relay] = {}
        self._seq = int(context.chance.random() * 2**31)  # so that a former life's acks fit nothing

    # ours

    def round_due(self) -> None:
        """The next member of the round."""
        context = self._context
        context.timers.at(context.now_s + context.knobs.probe_interval_s * context.health.scale, Timer.PROBE)
        ring = context.members.ring
        for _ in range(_SKIPS_MAX):
            member = ring.next()
            if member is None:
                return
            if context.reachable(member.name) or self._was_heard(member):
                self._probe(member, _Why.ROUND)
                return
            self._view.contact_lost(member)

    def return_due(self, member: Member, timer_s: float) -> None:
        """A member that was occluded should be back."""
        if self._view.return_due(member, timer_s):
            self._probe(member, _Why.RETURN)

    def verify_due(self) -> None:
        """The next of those that others hold dead."""
        context = self._context
        while context.to_verify:
            name = next(iter(context.to_verify))
            member, death = context.to_verify.pop(name)
            if member.state is State.ALIVE:
                self._probe(member, _Why.VERIFY, death)
                break
        if context.to_verify:
            context.timers.at(context.now_s + context.knobs.verify_interval_s, Timer.VERIFY)

    def suspicion_due(self, member: Member, suspicion: Suspicion, timer_s: float) -> None:
        """A suspicion is about to run out, or does: the suspect is asked once more."""
        if self._view.suspicion_due(member, suspicion, timer_s):
            self._probe(member, _Why.ASK)

    def reconnect_due(self) -> None:
        """One of the dead: it may have been a partition."""
        context = self._context
        context.timers.at(context.now_s + context.knobs.reconnect_interval_s, Timer.RECONNECT)
        graves = context.members.graves
        for _ in range(_SKIPS_MAX):
            member = graves.next()
            if member is None:
                return
            if member.state is State.DEAD and context.reachable(member.name):
                self._probe(member, _Why.GRAVE)
                return

    def timeout_due(self, seq: int) -> None:
        """No ack in time: try where its datagrams come from, if that is elsewhere, and ask for help."""
        probe = self._open.get(seq)
        if probe is None:
            return
        context, member = self._context, probe.member
        if probe.why is _Why.GRAVE or (member.state in BURIED):
            del self._open[seq]
            return
        if member.seen_at:
            context.send_to(member.seen_at, Kind.PING, seq, member.name, context.must_know(member))
        for helper in context.members.ring.sample(context.knobs.indirect_probes, but=member):
            if helper.state is State.ALIVE and self._can_help(helper, member):
                probe.helpers += 1
                context.send(helper, Kind.PING_REQ, seq, member.name)
        end_s = probe.sent_s + context.knobs.probe_interval_s * context.health.scale
        if context.knobs.lag_tolerance_s:  # helpers asked late still get their time
            end_s = max(end_s, context.now_s + context.knobs.probe_timeout_s)
        context.timers.at(end_s, Timer.PROBE_END, seq)

    def end_due(self, seq: int) -> None:
        """No ack at all."""
        probe = self._open.pop(seq, None)
        if probe is None:
            return
        if probe.why is _Why.ASK:
            return  # it is suspected already
        context = self._context
        context.counters.probes_failed += 1
        if not context.knobs.nacks or not probe.helpers:
            context.health.worsen()
        else:
            context.health.worsen(max(0, probe.helpers - probe.nacks))
        member = probe.member
        if member.incarnation == probe.incarnation:
            self._view.probe_failed(member)
        else:  # it has spoken up meanwhile, to others
            self._view.returns.look_again((member.name,))

    def acked(self, packet: Packet, sender: Member | None) -> Member | None:
        """An ack: ends a probe of ours, or goes on to whom we help. Returns the member that came back, if one did."""
        seq = packet.seq
        relay = self._relays.get(seq)
        if relay is not None and relay.target == packet.target:
            del self._relays[seq]
            self._context.send_to(relay.address, Kind.ACK, relay.seq, relay.target)
        probe = self._open.get(seq)
        if probe is None or probe.member.name != packet.target:
            return None
        del self._open[seq]
        self._context.health.improve()
        if sender is probe.member:
            self._context.notify(RoundTrip(sender.name, self._context.now_s - probe.sent_s))
        is_back = self._view.heard(probe.member, answered=True)
        return probe.member if is_back and sender is not None else None

    def nacked(self, packet: Packet) -> None:
        """A helper lives, and has no answer either."""
        probe = self._open.get(packet.seq)
        if probe is not None and probe.member.name == packet.target:
            probe.nacks += 1

    def _probe(self, member: Member, why: _Why, first: bytes = b"") -> None:
        context = self._context
        seq = self._take_seq()
        self._open[seq] = _Probe(member, context.now_s, why)
        context.counters.probes += 1
        context.send_to(member.address, Kind.PING, seq, member.name, first or context.must_know(member))
        context.timers.at(
            context.now_s + context.knobs.probe_timeout_s * context.health.scale, Timer.PROBE_TIMEOUT, seq
        )

    def _was_heard(self, member: Member) -> bool:
        context = self._context
        return context.now_s - member.heard_s < _HEARD_INTERVALS * context.knobs.probe_interval_s

    def _can_help(self, helper: Member, member: Member) -> bool:
        context = self._context
        utc_s = context.utc_s
        return utc_s is None or (
            context.contacts.reachable(context.name, helper.name, utc_s)
            and context.contacts.reachable(helper.name, member.name, utc_s)
        )

    def _take_seq(self) -> int:
        self._seq = (self._seq + 1) & _SEQ_MASK
        return self._seq

    # others'

    def asked(self, packet: Packet, source: str, sender: Member | None) -> None:
        """A ping for us: ack. The answer goes where the ping came from: what we know of the sender may be old."""
        context = self._context
        if packet.target == context.name:
            first = context.must_know(sender) if sender is not None else b""
            context.send_to(source, Kind.ACK, packet.seq, context.name, first)

    def help_asked(self, packet: Packet, source: str) -> None:
        """A ping-req: ping its target, which must be one that we know (never an address that a packet names)."""
        context = self._context
        member = context.members.by_name.get(packet.target)
        if member is None or member is context.members.me or len(self._relays) >= _RELAYS_MAX:
            if context.knobs.nacks:
                context.send_to(source, Kind.NACK, packet.seq, packet.target)
            return
        seq = self._take_seq()
        self._relays[seq] = _Relay(source, packet.seq, packet.target)
        for address in filter(None, (member.address, member.seen_at)):
            context.send_to(address, Kind.PING, seq, member.name, context.must_know(member))
        context.timers.at(context.now_s + _NACK_SHARE * context.knobs.probe_timeout_s, Timer.RELAY, seq)

    def relay_due(self, seq: int) -> None:
        """No ack for whom we help: say so, and keep the way open for a late one."""
        relay = self._relays.get(seq)
        if relay is None:
            return
        context = self._context
        if relay.nacked or not context.knobs.nacks:
            del self._relays[seq]
            return
        relay.nacked = True
        context.send_to(relay.address, Kind.NACK, relay.seq, relay.target)
        context.timers.at(context.now_s + context.knobs.probe_interval_s, Timer.RELAY, seq)
