"""When occluded members are looked at again: one timer each, set by what the plan says of their return."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence

from edgeagent.gossip.context import Context
from edgeagent.gossip.members import Member
from edgeagent.gossip.states import State
from edgeagent.gossip.timers import Timer

__all__ = ["Look", "Returns"]

_AFTER_EDGE_S = 0.01  # so that a look after a margin does not fall on the window's very edge
_EARLY_S = 1e-6  # a timer this early is on time


class Look(enum.Enum):
    """What a look at an occluded member says."""

    WAIT = 0
    PROBE = 1  # it should be back
    OVERDUE = 2  # the plan has named no return for too long


class Returns:
    """See the module."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def expect(self, member: Member, returns_at_s: float | None) -> None:
        """Look at a member after its return (UTC; None: the plan names none)."""
        context = self._context
        utc_s, knobs = context.utc_s, context.knobs
        wait_s = knobs.occlusion_recheck_s
        if returns_at_s is not None and utc_s is not None and math.isfinite(returns_at_s):
            # Not below an interval: a plan that contradicts itself, or a clock that creeps, is not asked in a loop.
            wait_s = max(
                returns_at_s - utc_s + knobs.occlusion_margin_s + _AFTER_EDGE_S, knobs.probe_interval_s
            )
        self._look_at(member, context.now_s + wait_s)

    def due(self, member: Member, timer_s: float) -> Look:
        """A timer came up, set for ``timer_s``."""
        context = self._context
        if timer_s != member.return_timer_s:
            return Look.WAIT  # an earlier one has taken its place
        member.return_timer_s = math.inf
        if member.state is not State.OCCLUDED:
            return Look.WAIT
        if context.now_s < member.returns_s - _EARLY_S:
            self._look_at(member, member.returns_s)
            return Look.WAIT
        if context.can_judge(context.name, member.name):
            return Look.PROBE
        returns_at_s = context.returns_at_s(member.name)
        lost_for_s = context.now_s - max(member.since_s, member.heard_s)
        if returns_at_s is None and lost_for_s > context.knobs.occlusion_unknown_max_s:
            return Look.OVERDUE
        self.expect(member, returns_at_s)
        return Look.WAIT

    def look_again(self, names: Sequence[str] | None = None) -> None:
        """The clock was set, or the plan is new: computed returns are in doubt, of these members or of all."""
        context = self._context
        known = context.members.by_name
        for name in list(known) if names is None else names:
            member = known.get(name)
            if member is None or member.state is not State.OCCLUDED:
                continue
            if context.can_judge(context.name, name):
                self._look_at(member, context.now_s)
            else:
                self.expect(member, context.returns_at_s(name))

    def _look_at(self, member: Member, at_s: float) -> None:
        """One timer a member: an earlier one that waits is set anew as it comes up."""
        member.returns_s = at_s
        if at_s < member.return_timer_s - _EARLY_S:
            member.return_timer_s = at_s
            self._context.timers.at(at_s, Timer.RETURN, (member, at_s))
