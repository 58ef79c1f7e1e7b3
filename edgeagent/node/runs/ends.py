"""How runs end at this node: on its disk first, then at their origin; or they go on elsewhere.

The end of a run is the one write that nobody repeats who asks: where the disk is full just then, it is written as soon
as there is room, and until then the run has not ended for anybody.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from edgeagent.model.errors import DeadlineExceeded, StorageFull, StoreFailed
from edgeagent.node.runs.board import PAUSE_S_FIRST, PAUSE_S_MAX, Board
from edgeagent.node.runs.handover import HOLD
from edgeagent.node.runs.record import RunRecord

__all__ = ["ORIGIN", "Ends"]

log = structlog.get_logger("runs")

ORIGIN = "origin"


class Ends:
    """On the event loop's thread."""

    def __init__(self, node_id: str, board: Board) -> None:
        self._node_id = node_id
        self._board = board
        self._store = board.store
        self._undelivered: set[str] = set()  # ended here, for another node that has not heard of it
        self._writing: dict[str, asyncio.Event] = {}  # ends that are not on the disk yet

    def is_undelivered(self, run_id: str) -> bool:
        return run_id in self._undelivered

    async def finish(self, record: RunRecord) -> None:
        """The end, on the disk here, then at the origin."""
        record.version += 1
        role = ORIGIN if record.origin == self._node_id else HOLD
        if not await self._keep(record, role):
            return
        self._board.events.saw(record)
        log.info("run ended", run=record.id, workflow=record.workflow, state=record.state)
        if record.origin != self._node_id:
            await self.deliver(record)

    async def deliver(self, record: RunRecord) -> None:
        """Held here, and guarded elsewhere, until the origin has it."""
        self._undelivered.add(record.id)
        await self._board.deliver(record)
        self._undelivered.discard(record.id)
        record.version += 1
        await self._keep(record, "")

    async def let_go(self, record: RunRecord) -> None:
        """It goes on elsewhere, or has ended there: what is here of it may be forgotten."""
        if record.origin != self._node_id:  # which waits for its end
            record.version += 1
            await self._keep(record, "")
            self._board.events.left(record)

    async def time_out(self, record: RunRecord) -> None:
        """At its origin: nobody ended it in time."""
        late = DeadlineExceeded(
            f"the run had {record.deadline_ms - record.created_ms} ms; last heard of at {record.holder[:12]}"
        )
        record.state, record.problem = "timed_out", late.problem()
        record.finished_ms = int(time.time() * 1000)
        record.epoch, record.version = record.epoch + 1, 0
        if await self._keep(record, ORIGIN):
            self._board.events.saw(record)

    async def written(self, run_id: str) -> None:
        """Until an end that came about here is on the disk, if one did."""
        writing = self._writing.get(run_id)
        if writing is not None:
            await writing.wait()

    async def _keep(self, record: RunRecord, role: str) -> bool:
        """Whether it was newer than what is here, when the disk has taken it: tried again until it does."""
        done = self._writing.setdefault(record.id, asyncio.Event())
        pause_s = PAUSE_S_FIRST
        try:
            while True:
                try:
                    return await self._store.put(record, role)
                except (StorageFull, StoreFailed) as error:
                    log.warning(
                        "the end of a run waits for the disk",
                        run=record.id, state=record.state, why=error.message, again_in_s=pause_s,
                    )  # fmt: skip
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, PAUSE_S_MAX)
        finally:
            done.set()
            if self._writing.get(record.id) is done:
                del self._writing[record.id]
