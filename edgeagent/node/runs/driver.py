"""Driving a run at the node that holds it: plan the rest, hand it on to where the next step runs, or run what is ready.

Rules:

1. The rest of the workflow is planned anew before every stage, from what is known then.
2. Where one step is ready and belongs elsewhere, the run goes there (:mod:`handover`): that node places the next step.
   Where several are ready, or one fans out, this node calls them wherever they belong, and joins what they return.
3. The record is on the disk before a stage begins and after it has ended; whoever handed it on has the state before.
4. A function that fails is tried again ``retries`` times, on another node where there is one; then the run has failed
   with its reason. A node that fails is no failure of the function, and the next node is tried.
5. Outputs stay in hoses between steps of one node.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from edgeagent.model.errors import DeadlineExceeded, EdgeError, Internal, Unavailable
from edgeagent.node.placer import ask_for
from edgeagent.node.runs.ahead import Ahead
from edgeagent.node.runs.board import Board, Superseded
from edgeagent.node.runs.handover import Handover
from edgeagent.node.runs.live import LiveData
from edgeagent.node.runs.orders import Orders
from edgeagent.node.runs.progress import last_steps, ready_steps, settle_skipped, spec_of
from edgeagent.node.runs.record import RunRecord, StepRecord
from edgeagent.node.runs.spending import planned_usd, spent_usd
from edgeagent.node.runs.stage import Stage
from edgeagent.node.ties import Ties
from edgeagent.placement.errors import NoFeasibleNode

if TYPE_CHECKING:
    from edgeagent.cost.estimates import Estimates
    from edgeagent.placement.decide import Decision
    from edgeagent.placement.decision import Choice

__all__ = ["Driver"]

log = structlog.get_logger("runs")

PATIENCE_S = 5.0
TAKEN_PATIENCE_S = 15.0  # after a start, or a death, this node may not know yet who else is there
_PAUSE_S = 0.5
HOPS_MAX = 256
# No time mends these.
_FOR_GOOD = frozenset(
    {"budget", "data-source", "near", "architecture", "kind", "label", "node", "gpu", "pinned", "trust"}
)


class Driver:
    """One run at this node; ``drive`` returns when it has ended here or gone on elsewhere."""

    def __init__(
        self,
        record: RunRecord,
        ties: Ties,
        *,
        board: Board,
        handover: Handover,
        live: LiveData,
        excluded: Mapping[str, str] | None = None,
        taken_over: bool = False,
    ) -> None:
        self.record = record
        self._unsure_until_s = time.monotonic() + TAKEN_PATIENCE_S if taken_over else 0.0
        self._node_id = ties.node_id
        self._board = board
        self._placer = ties.placer
        self._handover = handover
        self._estimates = ties.estimates
        self._membership = ties.membership
        self._live = live
        self._refusal: EdgeError | None = None
        self._patient_s = 0.0
        self._excluded: dict[str, str] = dict(excluded or {})
        self._stage = Stage(record, ties, board=board, live=live, excluded=self._excluded)
        self._ahead = Ahead(record, ties.node_id, board=board, live=live, state=ties.state)
        self._looking: asyncio.Task[None] | None = None

    async def drive(self, reservation: str = "") -> bool:
        """True: the run has ended here; False: another node holds it. With a ``reservation`` the step that is ready
        runs here at once. Raises nothing but what cancels it.
        """
        record = self.record
        try:
            async with asyncio.timeout_at(self._loop_deadline_s()):
                gone = await self._on_and_on(reservation)
        except TimeoutError:
            gone = False
            self._time_out()
        except Superseded as error:
            gone = True  # whoever took over from us ends it
            self._board.note_superseded(record.id, int(error.details.get("epoch", 0)))
        except EdgeError as error:
            gone = False
            if isinstance(error, DeadlineExceeded) and Orders(record).is_late():
                self._time_out()  # the function's limit was the run's
            else:
                self._fail(error)
        except Exception as error:
            log.exception("a run broke", run=record.id)
            gone = False
            self._fail(Internal(f"a fault of this node: {error!r}"))
        finally:
            if self._looking is not None:
                self._looking.cancel()
            await self._ahead.stop()
            self._live.close()
        return not gone

    def _loop_deadline_s(self) -> float:
        left_s = self.record.deadline_ms / 1000 - time.time()
        return asyncio.get_running_loop().time() + max(0.0, left_s)

    async def _on_and_on(self, reservation: str) -> bool:
        """Whether the run has gone on elsewhere."""
        record = self.record
        while True:
            for name in settle_skipped(record):
                record.decided({"event": "skipped", "step": name})
            ready = ready_steps(record)
            if not ready:
                await self._succeed()
                return False
            if reservation:
                await self._run_reserved(ready, reservation)
                reservation = ""
                continue
            decision = await self._decided(ready)
            if await self._handed_on(ready, decision):
                return True
            try:
                await self._run_stage(ready, decision)
                self._refusal = None
            except Unavailable as error:
                if "refusals" not in error.details or self._refused_s_max() < time.monotonic():
                    raise
                self._refusal = error  # those who refused are left out of the next plan

    def _refused_s_max(self) -> float:
        """Until when refusals are no end of the run."""
        if self._refusal is None:
            self._patient_s = time.monotonic() + PATIENCE_S
        return self._patient_s

    # -- planning --------------------------------------------------------------------------------------------

    async def _decided(self, ready: Sequence[StepRecord]) -> Decision:
        """The plan of all that is left; waits a little where no node will do now."""
        until_s = max(time.monotonic() + PATIENCE_S, self._unsure_until_s)
        while True:
            asks = self.asks_of(self.record, self._estimates)
            try:
                decision = await self._placer.decide(asks, excluded=self._excluded)
                if self.record.spec.workflow.budget_usd:
                    decision = await self._within_budget(asks, decision)
            except NoFeasibleNode as error:
                unsure = self._refusal or time.monotonic() < self._unsure_until_s
                if error.details.get("constraint") in _FOR_GOOD and not unsure:
                    raise
                if time.monotonic() > until_s:
                    raise (self._refusal or error) from None
                self._excluded.clear()
                await asyncio.sleep(_PAUSE_S)
                continue
            self.record.decided(self._entry(ready, decision))
            return decision

    async def _within_budget(self, asks: Sequence[Any], decision: Decision) -> Decision:
        """The plan if the budget is enough for it, else the cheapest one. Raises NoFeasibleNode."""
        budget, spent = self.record.spec.workflow.budget_usd, spent_usd(self.record)
        left = spent + self._planned_usd(asks, decision)
        if left <= budget:
            return decision
        frugal = [msgspec.structs.replace(one, slo_class="cost") for one in asks]
        decision = await self._placer.decide(frugal, excluded=self._excluded)
        left = spent + self._planned_usd(asks, decision)
        if left <= budget:
            return decision
        raise NoFeasibleNode(
            f"the run would cost {left:.3g} USD at least, {spent:.3g} of it spent; its budget is {budget:.3g}",
            hint="workflow.budget_usd; edgeagent workflow status shows what each step cost",
            step=asks[0].name,
            constraint="budget",
        )

    def _planned_usd(self, asks: Sequence[Any], decision: Decision) -> float:
        nodes = {one.node for one in decision.choices}
        kinds = {node: self._membership.kind_of(node) for node in nodes}
        sizes = {one.name: one.bytes_out for one in asks}
        return planned_usd(((one.node, one.exec_ms, sizes[one.step]) for one in decision.choices), kinds)

    def _entry(self, ready: Sequence[StepRecord], decision: Decision) -> dict[str, Any]:
        """For the decision log: why, of the steps that are due; of those further ahead only where, for they are
        planned again.
        """
        due = {step.name for step in ready}
        return {
            "event": "planned",
            "by": self._node_id,
            "at_ms": int(time.time() * 1000),
            "ready": [step.name for step in ready],
            "steps": [
                {"step": one.step, "node": one.node, "why": one.why, "predicted_ms": one.predicted_ms}
                if one.step in due
                else {"step": one.step, "node": one.node}
                for one in decision.choices
            ],
        }

    @staticmethod
    def asks_of(record: RunRecord, estimates: Estimates) -> list[Any]:
        """The steps that are left, in an order in which each follows earlier ones; inputs come from this node."""
        left: list[str] = []
        waiting = [step.name for step in record.steps if step.state == "waiting"]
        while waiting:
            name = next(
                one for one in waiting if all(before not in waiting for before in spec_of(record, one).after)
            )
            waiting.remove(name)
            left.append(name)
        last = {step.name for step in last_steps(record)}
        sizes: dict[str, int] = {
            step.name: step.bytes_out or 0 for step in record.steps if step.state == "succeeded"
        }
        asks = []
        for name in left:
            spec = spec_of(record, name)
            ref = record.functions[spec.function]
            bytes_in = sum(sizes.get(one, 0) for one in spec.after) if spec.after else record.input.size
            ask = ask_for(
                ref,
                estimates,
                bytes_in,
                name=name,
                after=tuple(left.index(one) for one in spec.after if one in left),
                latency_ms_max=spec.latency_ms_max or math.inf,
                mbit_s_min=spec.bandwidth_mbit_s_min,
                data_latency_ms_max=spec.data_latency_ms_max or math.inf,
                data_mbit_s_min=spec.data_mbit_s_min,
                slo_class=record.spec.workflow.slo_class,
                returns_to=record.origin if name in last else "",
                wall_ms=spec.timeout_ms or float(ref.manifest.limits.wall_ms),
                needs=(*ref.manifest.place.needs, *spec.needs),
                near=spec.near or ref.manifest.place.near,
                data_source=spec.data_source or ref.manifest.place.data_source,
            )
            sizes[name] = ask.bytes_out
            asks.append(ask)
        return asks

    # -- going on --------------------------------------------------------------------------------------------

    async def _handed_on(self, ready: Sequence[StepRecord], decision: Decision) -> bool:
        record, step = self.record, ready[0]
        choice = _choice(decision, step.name)
        away = choice.node != self._node_id
        if len(ready) > 1 or not away or spec_of(record, step.name).fan_out or record.hops >= HOPS_MAX:
            return False
        if not record.functions[step.function].repeatable:
            return False  # it is called once, from here
        step.why, step.predicted_ms, step.node = choice.why, choice.predicted_ms, choice.node
        self._ahead.state_to(choice, decision.choices)
        for node in choice.ranked:
            if node == self._node_id:
                return False
            if node in self._excluded:
                continue
            why_not = await self._handover.give(self.record, step.name, node, self._live)
            if not why_not:
                return True
            self._excluded[node] = why_not
            record.decided({"event": "refused", "step": step.name, "node": node, "why": why_not})
        return False

    async def _run_reserved(self, ready: Sequence[StepRecord], reservation: str) -> None:
        """The step that this node took the run for."""
        if len(ready) == 1 and not spec_of(self.record, ready[0].name).fan_out:
            self._looking = asyncio.ensure_future(self._look_ahead(ready))
            await self._stage.run([(ready[0], (self._node_id,))], reservation)

    async def _look_ahead(self, ready: Sequence[StepRecord]) -> None:
        """While a step runs that this node took the run for: where will the next ones?"""
        try:
            decision = await self._placer.decide(
                self.asks_of(self.record, self._estimates), excluded=self._excluded
            )
        except EdgeError:  # the next stage says so, where it is still so
            return
        self._ahead.begin(decision.choices, [step.name for step in ready])

    async def _run_stage(self, ready: Sequence[StepRecord], decision: Decision) -> None:
        chosen = []
        for step in ready:
            choice = _choice(decision, step.name)
            step.why, step.predicted_ms = choice.why, choice.predicted_ms
            ranked = tuple(one for one in choice.ranked if one not in self._excluded) or (choice.node,)
            chosen.append((step, ranked))
        self._ahead.begin(decision.choices, [step.name for step in ready])
        await self._stage.run(chosen, following=self._following(ready, decision))

    def _following(self, ready: Sequence[StepRecord], decision: Decision) -> dict[str, tuple[str, ...]]:
        """Where the steps after these are to run: what these write is read there."""
        found: dict[str, dict[str, None]] = {step.name: {} for step in ready}
        for choice in decision.choices:
            for before in spec_of(self.record, choice.step).after:
                found.get(before, {})[choice.node] = None
        return {name: tuple(nodes) for name, nodes in found.items()}

    # -- ends ------------------------------------------------------------------------------------------------

    async def _succeed(self) -> None:
        record = self.record
        ends = [step for step in last_steps(record) if step.state == "succeeded" and step.output is not None]
        data = await self._live.joined([step.output for step in ends if step.output is not None])
        record.output = await self._board.store.keep(data)
        record.state = "succeeded"
        record.finished_ms = int(time.time() * 1000)

    def _time_out(self) -> None:
        record = self.record
        # One that failed had retries left, but no time.
        step = next((one.name for one in record.steps if one.state not in {"succeeded", "skipped"}), "")
        late = DeadlineExceeded(
            f"the run had {record.deadline_ms - record.created_ms} ms; step {step!r} had not ended", step=step
        )
        record.state, record.problem = "timed_out", late.problem()
        record.finished_ms = int(time.time() * 1000)

    def _fail(self, error: EdgeError) -> None:
        record, name = self.record, str(error.details.get("step", ""))
        record.state, record.problem = "failed", {**error.problem(), "step": name}
        record.finished_ms = int(time.time() * 1000)
        for one in record.steps:
            if one.state in {"placed", "running"}:
                one.state = "failed" if one.name == name else "waiting"


def _choice(decision: Decision, step: str) -> Choice:
    return next(one for one in decision.choices if one.step == step)
