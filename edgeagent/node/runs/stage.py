"""One stage of a run at its holder: the steps that are ready, each called where it belongs, all at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from edgeagent.model.errors import DeadlineExceeded, EdgeError, GuestFailed, Unavailable
from edgeagent.node.forwarder import Landed
from edgeagent.node.reservation_desk import ReserveReply
from edgeagent.node.result import Result
from edgeagent.node.runs.fan_out import FanOut
from edgeagent.node.runs.live import LiveData
from edgeagent.node.runs.orders import Orders, saw, tier_of
from edgeagent.node.runs.progress import inputs_of, spec_of
from edgeagent.node.runs.record import RunRecord, StepRecord
from edgeagent.node.runs.spending import ran
from edgeagent.node.runs.turns import Turns
from edgeagent.node.ties import Ties
from edgeagent.placement.errors import NotAdmitted

if TYPE_CHECKING:
    from edgeagent.node.runs.board import Board

__all__ = ["Chosen", "Stage"]

Chosen = tuple[StepRecord, tuple[str, ...]]


class Stage:
    """Of one run."""

    def __init__(
        self,
        record: RunRecord,
        ties: Ties,
        *,
        board: Board,
        live: LiveData,
        excluded: dict[str, str],
    ) -> None:
        self._record = record
        self._node_id = ties.node_id
        self._board = board
        self._forwarder = ties.forwarder
        self._estimates = ties.estimates
        self._kind_of = ties.membership.kind_of
        self._live = live
        self._excluded = excluded
        self._turns = Turns(ties.forwarder)
        self._orders = Orders(record)
        self._fan_out = FanOut(self._orders, self._turns, board=board, live=live, ties=ties)

    async def run(
        self,
        chosen: Sequence[Chosen],
        reservation: str = "",
        following: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    ) -> None:
        """All of them to their ends. ``following``: by step, where those after it are to run. Raises the first
        EdgeError that ends the run, with ``details["step"]``.
        """
        self._orders.following = following
        tasks = [asyncio.ensure_future(self._one(*one, reservation)) for one in chosen]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._board.changed(self._record, durable=True)

    async def _one(self, step: StepRecord, ranked: Sequence[str], reservation: str) -> None:
        spec, begun = spec_of(self._record, step.name), time.monotonic()
        given = await self._input(step)
        step.bytes_in = len(given) if isinstance(given, bytes | memoryview) else given.size
        try:
            if spec.fan_out:
                await self._fan_out.run(step, ranked, given)
            else:
                await self._tried(step, ranked, given, reservation)
        except NotAdmitted:  # what was reserved has expired: the next plan says where
            step.state = "waiting"
            return
        except EdgeError as error:
            nobody = isinstance(error, Unavailable) and "refusals" in error.details
            step.state, step.problem = "waiting" if nobody else "failed", error.problem()
            error.details.setdefault("step", step.name)
            raise
        step.state, step.problem = "succeeded", None
        step.measured_ms = round((time.monotonic() - begun) * 1000, 3)
        await self._board.changed(self._record)

    async def _tried(self, step: StepRecord, ranked: Sequence[str], given: Any, reservation: str) -> None:
        """As often as the workflow allows."""
        for left in range(spec_of(self._record, step.name).retries, -1, -1):
            try:
                await self._call(step, ranked, given, reservation)
                return
            except (GuestFailed, DeadlineExceeded) as error:
                fault = self._orders.fault(step, error)
                if not left or not self._orders.is_mendable(error):
                    raise fault from None
                reservation, step.state, step.problem = "", "waiting", fault.problem()
                ranked = (*ranked[1:], *ranked[:1])  # elsewhere, where there is elsewhere

    async def _input(self, step: StepRecord) -> Any:
        refs = inputs_of(self._record, step.name)
        return await (self._live.given(refs[0]) if len(refs) == 1 else self._live.joined(refs))

    async def _call(self, step: StepRecord, ranked: Sequence[str], given: Any, reservation: str) -> None:
        step.attempts += 1
        order = self._orders.order(step, given, step.name)
        if reservation:
            await self._begins(step, self._node_id)
            begun = time.monotonic()
            held = ReserveReply(id=reservation, node=self._node_id, expires_ms=0.0)
            result = await self._forwarder.run_at(order, self._node_id, held)
            landed = Landed(
                node=self._node_id, result=result, refusals={}, measured_ms=(time.monotonic() - begun) * 1000
            )
        else:

            async def told(node: str) -> None:
                await self._begins(step, node)

            refusals: dict[str, str] = {}
            try:
                landed = await self._turns.land(order, ranked, told=told, refusals=refusals)
            finally:
                self._note(step, refusals)
        await self._settle(step, landed)
        if reservation:
            step.hose = "wire"  # its input came with the run

    async def _begins(self, step: StepRecord, node: str) -> None:
        if step.state == "running":
            step.attempts += 1
        step.state, step.node = "running", node
        await self._board.changed(self._record)

    def _note(self, step: StepRecord, refusals: dict[str, str]) -> None:
        for node, why in refusals.items():
            self._excluded[node] = why
            self._record.decided({"event": "refused", "step": step.name, "node": node, "why": why})

    async def _settle(self, step: StepRecord, landed: Landed) -> None:
        result: Result = landed.result
        saw(self._record, result)
        step.node, step.backend = landed.node, result.backend
        step.duration_ms, step.cold = result.duration_us / 1000, result.cold
        step.hose, step.exit_code = tier_of(result), result.exit_code
        output = await self._live.take(result)
        step.output, step.bytes_out = output, output.size
        ran(step, self._kind_of(landed.node), result, output.size)
        self._estimates.observe(
            self._record.functions[step.function].sha256, step.bytes_in or 0, step.duration_ms, output.size
        )
