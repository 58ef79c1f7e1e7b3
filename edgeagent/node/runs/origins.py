"""Runs that began here: where each was last heard of, and whether anybody is left that could go on with it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Literal

from edgeagent.node.membership import Membership
from edgeagent.node.runs.record import RunRecord

if TYPE_CHECKING:
    from edgeagent.cost.estimates import Estimates

__all__ = ["Origins", "learn"]

_LOOK_S = 0.5
_LOOKS_LOST = 4  # a guardian that is just taking over is heard of by then
_LOOKS_STRANGER = (
    20  # after a start nobody is known for a while: who is a member, and alive, is heard of by then
)
_GONE = frozenset({"dead", "left"})


class Origins:
    """On the event loop's thread."""

    def __init__(self, node_id: str, membership: Membership) -> None:
        self._node_id = node_id
        self._membership = membership
        # Holder, guardian and the record's order, of those that have not ended.
        self._where: dict[str, tuple[str, str, tuple[int, int]]] = {}

    def heard(self, record: RunRecord) -> None:
        """The newest of a run, whoever's it is."""
        if record.origin != self._node_id:
            return
        if record.ended:
            self._where.pop(record.id, None)
        else:
            self._where[record.id] = (record.holder, record.guardian, record.order)

    async def watch(self, run_id: str, until_s: float) -> Literal["ended", "late", "lost"]:
        """Until the run ends, or this UTC, or until its holder and its guardian are both gone. It was heard of."""
        lost, before = 0, self._where.get(run_id)
        while (left_s := until_s - time.time()) > 0:
            await asyncio.sleep(min(left_s, _LOOK_S))
            where = self._where.get(run_id)
            if where is None:
                return "ended"
            lost = lost + 1 if where == before and self._are_gone(*where[:2]) else 0  # no news of it either
            before = where
            if lost >= (_LOOKS_LOST if self._are_gone(*where[:2], strangers=False) else _LOOKS_STRANGER):
                return "lost"
        return "late"

    def _are_gone(self, holder: str, guardian: str, *, strangers: bool = True) -> bool:
        """Those who are out of contact by the plan are not; ``strangers``: those who are no members are."""
        if self._node_id in (holder, guardian):
            return False
        gone = _GONE | {""} if strangers else _GONE
        return all(self._membership.state_of(one) in gone for one in (holder, guardian) if one)


def learn(estimates: Estimates, known: RunRecord, record: RunRecord) -> None:
    """What steps took elsewhere, for the next plan here: those that ``record`` has done and ``known`` had not."""
    before = {step.name for step in known.steps if step.state == "succeeded"}
    for step in record.steps:
        if step.state == "succeeded" and step.name not in before and step.duration_ms is not None:
            estimates.observe(
                record.functions[step.function].sha256,
                step.bytes_in or 0,
                step.duration_ms,
                step.bytes_out or 0,
            )
