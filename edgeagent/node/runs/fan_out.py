"""A step that runs once for each item of its input, spread over the nodes; what they return is framed in their order.

An item that fails is tried again by itself, and what has been done is not done again where the step begins anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from edgeagent.model.errors import BadRequest, DeadlineExceeded, GuestFailed
from edgeagent.node.chain import as_bytes
from edgeagent.node.items import framed, read_items
from edgeagent.node.result import Result
from edgeagent.node.runs.live import LiveData
from edgeagent.node.runs.orders import Orders, saw, tier_of
from edgeagent.node.runs.progress import spec_of
from edgeagent.node.runs.record import StepRecord
from edgeagent.node.runs.spending import ran
from edgeagent.node.runs.turns import Turns
from edgeagent.node.ties import Ties

if TYPE_CHECKING:
    from edgeagent.node.runs.board import Board

__all__ = ["ITEMS_MAX", "FanOut"]

ITEMS_MAX = 4096
_AT_ONCE = 16  # items of one fan-out


class _Done(msgspec.Struct):
    """Of the calls of a fan-out; ``outputs`` by the number of the item, ``backend``: "gpu" once a GPU was of use."""

    outputs: dict[int, bytes | memoryview] = {}
    nodes: dict[str, int] = {}
    duration_us: int = 0
    cold: bool = False
    hose: str = ""
    backend: Literal["cpu", "gpu"] = "cpu"

    def add(self, index: int, node: str, result: Result, output: bytes | memoryview) -> None:
        self.outputs[index] = output
        self.nodes[node] = self.nodes.get(node, 0) + 1
        self.duration_us += result.duration_us
        self.cold = self.cold or result.cold
        if result.backend == "gpu":
            self.backend = "gpu"
        self.hose = tier_of(result)


class FanOut:
    """Of one run at its holder."""

    def __init__(self, orders: Orders, turns: Turns, *, board: Board, live: LiveData, ties: Ties) -> None:
        self._orders = orders
        self._turns = turns
        self._board = board
        self._live = live
        self._node_id = ties.node_id
        self._kind_of = ties.membership.kind_of
        self._done: dict[str, _Done] = {}

    async def run(self, step: StepRecord, ranked: Sequence[str], given: Any) -> None:
        """To its end. Raises the first EdgeError of an item that no retry mended."""
        data = given if isinstance(given, bytes | memoryview) else await asyncio.to_thread(given.read)
        items = [bytes(one) for one in read_items(data)]
        if len(items) > ITEMS_MAX:
            raise BadRequest(
                f"step {step.name!r} fans out over {len(items)} items", hint=f"at most {ITEMS_MAX}"
            )
        done = self._done.setdefault(step.name, _Done())
        step.attempts += 1
        step.state, step.node = "running", ",".join(dict.fromkeys(ranked))
        await self._board.changed(self._orders.record)
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(index: int, item: bytes) -> None:
            async with places:
                await self._item(step, ranked, index, item, done)

        tasks = [
            asyncio.ensure_future(one(index, item))
            for index, item in enumerate(items)
            if index not in done.outputs
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        del self._done[step.name]
        step.node = max(done.nodes, key=lambda node: done.nodes[node]) if done.nodes else self._node_id
        step.backend, step.hose, step.items = done.backend, done.hose, len(items)
        step.duration_ms, step.cold = done.duration_us / 1000, done.cold
        self._orders.record.decided(
            {"event": "fanned-out", "step": step.name, "items": len(items), "nodes": done.nodes}
        )
        output = framed([done.outputs[index] for index in range(len(items))])
        step.output = await self._live.take(Result(output=output))
        step.bytes_out = step.output.size

    async def _item(
        self, step: StepRecord, ranked: Sequence[str], index: int, item: bytes, done: _Done
    ) -> None:
        retries = spec_of(self._orders.record, step.name).retries
        for attempt in range(retries + 1):
            turn = (index + attempt) % len(ranked)
            order = self._orders.order(step, item, f"{step.name}.{index}.{attempt}")
            order.keep = False
            try:
                landed = await self._turns.land(order, (*ranked[turn:], *ranked[:turn]), refusals={})
            except (GuestFailed, DeadlineExceeded) as error:
                fault = self._orders.fault(step, error)
                if attempt == retries or not self._orders.is_mendable(error):
                    raise fault from None
                continue
            output = (await as_bytes(landed.result)).output
            done.add(index, landed.node, landed.result, output)
            ran(step, self._kind_of(landed.node), landed.result, len(output))
            saw(self._orders.record, landed.result)
            return
