"""Our view of the others: what records, rumours, probes and the plan do to it, by the table of :mod:`states`."""

from __future__ import annotations

import math

from edgeagent.gossip.codec import Accusation, Death, Kind, encode_item
from edgeagent.gossip.context import Context
from edgeagent.gossip.effects import MemberChanged, RecordChanged
from edgeagent.gossip.members import Member
from edgeagent.gossip.own import OwnRecords
from edgeagent.gossip.records import Record, Section, Trust
from edgeagent.gossip.returns import Look, Returns
from edgeagent.gossip.states import Event, State, next_state
from edgeagent.gossip.suspicion import Suspicion
from edgeagent.gossip.timers import Timer

__all__ = ["View"]

_LOAD = int(Section.LOAD)
_EARLY_S = 1e-6  # a timer this early is on time


class View:
    """See the module."""

    def __init__(self, context: Context, own: OwnRecords) -> None:
        self._context = context
        self._own = own
        self._members = context.members
        self.returns = Returns(context)

    # records

    def merge(self, record: Record, sender: Member | None = None, *, is_news: bool = True) -> bool:
        """Take a record that is newer than ours and verified; whether it was taken. One that its own writer sends
        although we hold a newer one is answered with that: the writer has lost its memory. ``is_news``: to others too.
        """
        context = self._context
        if record.name == context.name and record.section != Section.EPHEMERIS:
            self._own.seen(record)
            return False
        member = self._members.by_name.get(record.name)
        if member is not None:
            held = member.version_of(record.section)
            if record.version <= held:
                if record.version < held and member is sender:
                    self._remind(member, record.section)
                return False
        elif record.section:
            return False  # the identity comes first; anti-entropy brings the rest
        trust = context.verify(record)
        if trust is Trust.REFUSED or (member is not None and trust < member.trust):
            context.counters.records_refused += 1
            return False
        if member is None:
            member = self._admit(record, trust)
            if member is None:
                return False
        elif trust > member.trust:
            self._members.set_trust(member, trust)
        self._members.put(member, record)
        if record.identity is not None:
            member.address = record.identity.endpoints[0]
            self.apply(member, Event.WITHDRAWN if record.identity.left else Event.REFUTED)
        if is_news and record.section != _LOAD:
            context.tell(record.name, record.section, record.blob)
        context.notify(RecordChanged(record))
        return True

    def _admit(self, record: Record, trust: Trust) -> Member | None:
        member, gone = self._members.admit(record.name, trust, self._context.now_s)
        if gone is not None:
            self._forgotten(*gone)
        if member is None:
            self._context.counters.table_full += 1
            return None
        self._context.notify(MemberChanged(record.name, None, State.ALIVE, record.version))
        return member

    def _remind(self, member: Member, section: int) -> None:
        held = member.records[section]
        if held is not None and self._context.now_s - member.told_s > self._context.knobs.gossip_interval_s:
            member.told_s = self._context.now_s
            self._context.rumours.put((member.name, section), held.blob)
            self._context.gossip_now(member)

    def _set_right(self, accuser: Member, member: Member) -> None:
        """Somebody accuses a former incarnation: it has not heard of the present one, which we hold."""
        context, identity = self._context, member.records[0]
        if identity is None or context.now_s - member.told_s < context.knobs.gossip_interval_s:
            return
        member.told_s = context.now_s
        if accuser.address:
            context.send_to(accuser.address, Kind.GOSSIP, 0, "", identity.blob)

    def _forgotten(self, member: Member, state: State) -> None:
        self._context.rumours.drop((member.name, 0))
        self._context.notify(MemberChanged(member.name, state, None, member.incarnation))

    def sweep(self) -> None:
        """Forget tombstones past their age."""
        context = self._context
        knobs = context.knobs
        context.timers.at(context.now_s + knobs.tombstone_s / 8, Timer.SWEEP)
        graves = self._members.graves
        for member in [graves[place] for place in range(len(graves))]:
            if context.now_s - member.since_s >= knobs.tombstone_s:
                self._forgotten(member, self._members.forget(member))

    # transitions

    def apply(self, member: Member, event: Event, returns_at_s: float | None = None) -> bool:
        """Move a member by the table; whether its state changed."""
        before = member.state
        after = next_state(before, event)
        if after is before:
            return False
        self._members.move(member, after)
        member.since_s = self._context.now_s
        if before is State.SUSPECT:
            member.suspicion = None
        self._context.notify(MemberChanged(member.name, before, after, member.incarnation, returns_at_s))
        return True

    def heard(self, member: Member, *, answered: bool) -> bool:
        """A packet came from a member; ``answered``: to a probe of ours. Whether it is back from an occlusion."""
        context = self._context
        member.heard_s = context.now_s
        state = member.state
        if state is State.ALIVE:
            return False
        if state is State.OCCLUDED:
            return self.apply(member, Event.HEARD)
        if answered and self.apply(member, Event.HEARD):
            context.rumours.drop((member.name, 0))
        return False

    # suspicion

    def probe_failed(self, member: Member) -> None:
        """No answer, direct or indirect. Before anybody is suspected, the plan is asked."""
        context = self._context
        if member.state is State.SUSPECT and member.suspicion is not None:
            if not member.suspicion.own:
                member.suspicion.own = True
                self._confirm(member, context.name, encode_item(self._accusation(member)))
        elif member.state in {State.ALIVE, State.OCCLUDED}:
            if context.can_judge(context.name, member.name):
                self._suspect(member, Event.PROBE_FAILED)
            else:
                self.contact_lost(member)

    def accused(self, item: Accusation, blob: bytes) -> None:
        """A rumour: somebody suspects somebody."""
        member = self._judged(item)
        if member is None:
            return
        if member.state is State.SUSPECT:
            self._confirm(member, item.accuser, blob)
        elif next_state(member.state, Event.ACCUSED) is State.SUSPECT:
            self._suspect(member, Event.ACCUSED, item.accuser, blob)

    def condemned(self, item: Death, blob: bytes) -> None:
        """A rumour: somebody is dead."""
        member = self._judged(item)
        if member is None:
            return
        if member.state is State.ALIVE:
            self._context.verify_soon(member, blob)
        elif self.apply(member, Event.CONDEMNED):
            self._context.tell(member.name, 0, blob)

    def suspicion_due(self, member: Member, suspicion: Suspicion, timer_s: float) -> bool:
        """A suspicion may have run out; whether the suspect is to be asked first. It gets one probe's time to answer:
        refutations get lost, above all where few members are in reach to repeat them.
        """
        context = self._context
        if member.suspicion is not suspicion or timer_s != suspicion.timer_s:
            return False  # a timer of a suspicion that is over, or one that has an earlier timer
        suspicion.timer_s = math.inf
        if context.now_s < self._end_s(suspicion) - _EARLY_S:
            self._await_end(member, suspicion)
        elif context.knobs.buddy and suspicion.asked_s is None:
            suspicion.asked_s = context.now_s
            self._await_end(member, suspicion)
            return True
        elif not suspicion.overdue and not context.can_judge(context.name, member.name):
            self.contact_lost(member)
        elif self.apply(member, Event.EXPIRED):
            context.tell(member.name, 0, encode_item(Death(member.name, member.incarnation, context.name)))
        return False

    def _end_s(self, suspicion: Suspicion) -> float:
        """When it runs out or, where the suspect is yet to be asked, a probe's time before."""
        knobs, asked_s = self._context.knobs, suspicion.asked_s
        answer_s = knobs.probe_interval_s * self._context.health.scale
        if asked_s is not None:
            return max(suspicion.deadline_s, asked_s + answer_s)
        return suspicion.deadline_s - (answer_s if knobs.buddy else 0.0)

    def _await_end(self, member: Member, suspicion: Suspicion) -> None:
        at_s = max(self._end_s(suspicion), self._context.now_s)
        if at_s < suspicion.timer_s - _EARLY_S:
            suspicion.timer_s = at_s
            self._context.timers.at(at_s, Timer.SUSPICION, (member, suspicion, at_s))

    def put_off(self, by_s: float) -> None:
        """We stood still for so long: no suspicion runs meanwhile."""
        ring = self._members.ring
        for place in range(len(ring)):
            suspicion = ring[place].suspicion
            if suspicion is not None:
                suspicion.started_s += by_s
                if suspicion.asked_s is not None:
                    suspicion.asked_s += by_s

    def _judged(self, item: Accusation | Death) -> Member | None:
        """The member that a claim is about, where the claim counts (rules 2 and 4 of :mod:`states`)."""
        context = self._context
        if item.name == context.name:
            self._own.accused(item.incarnation, item.accuser)
            return None
        known = self._members.by_name
        member, accuser = known.get(item.name), known.get(item.accuser)
        if member is None or item.incarnation != member.incarnation or accuser is None:
            context.counters.accusations_ignored += 1
            if member is not None and accuser is not None and item.incarnation < member.incarnation:
                self._set_right(accuser, member)
            return None
        if (
            accuser is member
            or accuser.trust is not Trust.VERIFIED
            or not context.can_judge(item.accuser, item.name)
        ):
            context.counters.accusations_ignored += 1
            return None
        return member

    def _accusation(self, member: Member) -> Accusation:
        return Accusation(member.name, member.incarnation, self._context.name)

    def _suspect(self, member: Member, event: Event, accuser: str = "", blob: bytes = b"") -> None:
        context = self._context
        suspicion = Suspicion(
            context.knobs,
            self._members.count,
            now_s=context.now_s,
            accuser=accuser or context.name,
            blob=blob or encode_item(self._accusation(member)),
        )
        suspicion.own = not accuser
        suspicion.overdue = event is Event.OVERDUE
        self.apply(member, event)
        member.suspicion = suspicion
        self._await_end(member, suspicion)
        context.tell(member.name, 0, suspicion.blob)

    def _confirm(self, member: Member, accuser: str, blob: bytes) -> None:
        suspicion = member.suspicion
        if suspicion is not None and suspicion.confirm(accuser):
            self._await_end(member, suspicion)
            self._context.tell(member.name, 0, blob)

    # occlusion

    def contact_lost(self, member: Member) -> None:
        """The plan has us out of contact: no probes until the computed return. One that is suspected because the plan
        has long had no return for it stays so.
        """
        context = self._context
        if member.suspicion is not None and member.suspicion.overdue:
            return
        returns_at_s = context.returns_at_s(member.name)
        if member.state is State.SUSPECT:
            context.rumours.drop((member.name, 0))
        if self.apply(member, Event.CONTACT_LOST, returns_at_s):
            context.counters.occlusions += 1
        self.returns.expect(member, returns_at_s)

    def return_due(self, member: Member, timer_s: float) -> bool:
        """An occluded member may be back; whether to probe it now. ``timer_s``: for when the timer was set."""
        look = self.returns.due(member, timer_s)
        if look is Look.OVERDUE:
            self._suspect(member, Event.OVERDUE)
        return look is Look.PROBE
