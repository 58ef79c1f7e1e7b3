"""One stage of a run at its holder: the steps that are ready, each called where it belongs, all at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from edgeagent.hose.settings import TIERS
from edgeagent.model.errors import BadRequest, EdgeError, GuestFailed, Unavailable
from edgeagent.model.run_tag import RunTag
from edgeagent.node.chain import as_bytes
from edgeagent.node.forwarder import Landed, Order
from edgeagent.node.items import framed, read_items
from edgeagent.node.reservation_desk import ReserveReply
from edgeagent.node.result import Result
from edgeagent.node.runs.live import LiveData
from edgeagent.node.runs.progress import inputs_of, spec_of
from edgeagent.node.runs.record import RunRecord, StepRecord
from edgeagent.node.ties import Ties
from edgeagent.placement.errors import NotAdmitted
from edgeagent.state.session import joined_sessions

if TYPE_CHECKING:
    from edgeagent.node.runs.board import Board

__all__ = ["Chosen", "Stage"]

Chosen = tuple[StepRecord, tuple[str, ...]]
ITEMS_MAX = 4096
_AT_ONCE = 16  # items of one fan-out


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
        self._live = live
        self._excluded = excluded

    async def run(self, chosen: Sequence[Chosen], reservation: str = "") -> None:
        """All of them to their ends. Raises the first EdgeError that ends the run, with ``details["step"]``."""
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
        size = len(given) if isinstance(given, bytes | memoryview) else given.size
        step.bytes_in = size
        for attempt in range(spec.retries + 1):
            try:
                if spec.fan_out:
                    await self._each(step, ranked, given)
                else:
                    await self._call(step, ranked, given, reservation)
                break
            except GuestFailed as error:
                reservation, step.state = "", "waiting"
                step.problem = error.problem()
                if attempt >= spec.retries:
                    step.state = "failed"
                    error.details.setdefault("step", step.name)
                    raise
                ranked = (*ranked[1:], *ranked[:1])  # elsewhere, where there is elsewhere
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

    async def _input(self, step: StepRecord) -> Any:
        refs = inputs_of(self._record, step.name)
        return await (self._live.given(refs[0]) if len(refs) == 1 else self._live.joined(refs))

    def _order(self, step: StepRecord, given: Any, key: str) -> Order:
        record, spec = self._record, spec_of(self._record, step.name)
        left_s = max(0.001, record.deadline_ms / 1000 - time.time())
        return Order(
            ref=record.functions[step.function],
            given=given,
            args=spec.args,
            deadline_s=time.monotonic() + left_s,
            wall_ms=spec.timeout_ms,
            traceparent=record.traceparent,
            key=f"{record.id}.{record.epoch}.{key}.{step.attempts}",
            sources=(record.origin, record.guardian),
            keep=True,
            tag=RunTag(record.id, record.epoch, record.session),
        )

    async def _call(self, step: StepRecord, ranked: Sequence[str], given: Any, reservation: str) -> None:
        step.attempts += 1
        order = self._order(step, given, step.name)
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
                landed = await self._forwarder.land(order, ranked, told=told, refusals=refusals)
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
        self._saw(result)
        step.node, step.backend = landed.node, "cpu"
        step.duration_ms, step.cold = result.duration_us / 1000, result.cold
        step.hose, step.exit_code = _tier(result), result.exit_code
        output = await self._live.take(result)
        step.output, step.bytes_out = output, output.size
        self._estimates.observe(
            self._record.functions[step.function].sha256, step.bytes_in or 0, step.duration_ms, output.size
        )

    def _saw(self, result: Result) -> None:
        """What a step has seen of state, those after it are to see too."""
        if result.session:
            self._record.session = joined_sessions(self._record.session, result.session)

    # -- fan-out ---------------------------------------------------------------------------------------------

    async def _each(self, step: StepRecord, ranked: Sequence[str], given: Any) -> None:
        """One call for each item, spread over the nodes; what they return is framed in the order of the items."""
        data = given if isinstance(given, bytes | memoryview) else await asyncio.to_thread(given.read)
        items = [bytes(one) for one in read_items(data)]
        if len(items) > ITEMS_MAX:
            raise BadRequest(
                f"step {step.name!r} fans out over {len(items)} items", hint=f"at most {ITEMS_MAX}"
            )
        step.attempts += 1
        places = asyncio.Semaphore(_AT_ONCE)
        step.state, step.node = "running", ",".join(dict.fromkeys(ranked))
        await self._board.changed(self._record)
        nodes: dict[str, int] = {}
        total = _Total()

        async def one(index: int, item: bytes) -> bytes | memoryview:
            turn = index % len(ranked)
            order = self._order(step, item, f"{step.name}.{index}")
            order.keep = False
            async with places:
                landed = await self._forwarder.land(order, (*ranked[turn:], *ranked[:turn]))
            nodes[landed.node] = nodes.get(landed.node, 0) + 1
            total.add(landed.result)
            self._saw(landed.result)
            return (await as_bytes(landed.result)).output

        tasks = [asyncio.ensure_future(one(index, item)) for index, item in enumerate(items)]
        try:
            outputs = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        step.node = max(nodes, key=lambda node: nodes[node]) if nodes else self._node_id
        step.backend, step.hose, step.items = "cpu", total.hose, len(items)
        step.duration_ms, step.cold = total.duration_us / 1000, total.cold
        self._record.decided({"event": "fanned-out", "step": step.name, "items": len(items), "nodes": nodes})
        step.output = await self._live.take(Result(output=framed(outputs)))
        step.bytes_out = step.output.size


class _Total(msgspec.Struct):
    """Of the calls of a fan-out."""

    duration_us: int = 0
    cold: bool = False
    hose: str = ""

    def add(self, result: Result) -> None:
        self.duration_us += result.duration_us
        self.cold = self.cold or result.cold
        self.hose = _tier(result)


def _tier(result: Result) -> str:
    return result.steps[-1].hose if result.steps else TIERS[result.hose.tier]
