"""Async invocations: taken from the journal in the order of arrival, run, and their outcome journaled.

Rules:

1. The journal is the queue: what is here in memory are ids, and everything can be rebuilt from the rows.
2. An outcome is kept before the row stops being ``running``. When the store cannot take it, it is held
   and offered again until it can; the place of that run stays taken, so that a full disk slows the queue
   down instead of losing results.
3. What the node caused (full queues, a full disk while loading) is no outcome: the invocation waits and
   is tried again.
4. Stopping puts running ones back; the next start begins them again.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from edgeagent.model.errors import (
    Busy,
    Cancelled,
    EdgeError,
    Internal,
    NotFound,
    StorageFull,
    StoreFailed,
    Unavailable,
)
from edgeagent.node.result import InvocationView
from edgeagent.state.invocations import Finished, Invocations, Record

if TYPE_CHECKING:
    from edgeagent.node.idempotency import Run

__all__ = ["Background", "problem_bytes"]

log = structlog.get_logger("background")

RETRY_S_FIRST, RETRY_S_MAX = 0.5, 30.0
# A module that is missing or unreadable so often does not come back by itself: about three minutes.
STORE_TRIES_MAX = 10
_NOT_ITS_FAULT = (Busy, Cancelled, StorageFull, StoreFailed, Unavailable)


class Background:
    """``at_once`` runs at a time; ``sleep`` waits between tries."""

    def __init__(
        self,
        journal: Invocations,
        run: Run,
        at_once: int,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._journal = journal
        self._run = run
        self._at_once = at_once
        self._sleep = sleep
        self._waiting: deque[str] = deque()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._watchers: dict[str, asyncio.Future[None]] = {}
        self._accepting, self._stopped = True, False
        self._recovering: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._tasks)

    async def start(self) -> None:
        """Take up what the journal holds from before; on a full disk later, and nothing runs until then."""
        try:
            self._take_up(await self._journal.recover())
        except StorageFull as error:
            log.warning("the journal waits for space on the disk", error=str(error))
            self._accepting = False
            self._recovering = asyncio.ensure_future(self._recover())

    async def _recover(self) -> None:
        ids = await self._persist(self._journal.recover)
        self._waiting.clear()  # what came meanwhile is among them
        self._accepting = True
        self._take_up(ids)

    def _take_up(self, ids: list[str]) -> None:
        if ids:
            log.info("taking up invocations", count=len(ids))
        self._waiting.extend(ids)
        self._pump()

    def add(self, invocation_id: str) -> None:
        """A row that was just journaled."""
        self._waiting.append(invocation_id)
        self._pump()

    async def status(self, invocation_id: str) -> InvocationView:
        """The row as the outside sees it; raises NotFound."""
        record = await self._journal.get(invocation_id)
        if record is None:
            raise NotFound(
                f"no invocation {invocation_id[:80]!r} here",
                hint="finished ones are kept for journal.ttl_ms",
            )
        return _view(record)

    async def finished(self, invocation_id: str) -> Record:
        """The row once it has succeeded or failed; raises NotFound when it is gone, Cancelled when the node stops."""
        while True:
            watcher = self._watchers.get(invocation_id)
            if watcher is None:
                watcher = self._watchers[invocation_id] = asyncio.get_running_loop().create_future()
            record = await self._journal.get(invocation_id)
            if record is None or record.is_finished:
                self._tell(invocation_id)
                if record is None:
                    raise NotFound(f"no invocation {invocation_id} here")
                return record
            if self._stopped:  # while the row was read: nobody tells of it any more
                raise Cancelled("the node stops")
            await asyncio.shield(watcher)

    async def drain(self) -> None:
        """Begin nothing more and wait for what runs."""
        self._accepting = False
        self._stop_recovering()
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def stop(self) -> None:
        """Stop what runs and put it back into the journal's queue; idempotent."""
        self._accepting = False
        self._stop_recovering()
        tasks = dict(self._tasks)
        for task in tasks.values():
            task.cancel()
        recovering = [self._recovering] if self._recovering else []
        await asyncio.gather(*tasks.values(), *recovering, return_exceptions=True)
        try:
            await self._journal.put_back(list(tasks))
        except EdgeError as error:  # they count as one more attempt then, nothing is lost
            log.warning("running invocations could not be put back", error=str(error))
        self._stopped = True
        for watcher in self._watchers.values():
            if not watcher.done():
                watcher.set_exception(Cancelled("the node stops"))
                watcher.exception()
        self._watchers.clear()

    def _stop_recovering(self) -> None:
        if self._recovering is not None:
            self._recovering.cancel()

    def _pump(self) -> None:
        while self._accepting and self._waiting and len(self._tasks) < self._at_once:
            invocation_id = self._waiting.popleft()
            task = asyncio.ensure_future(self._one(invocation_id))
            self._tasks[invocation_id] = task
            task.add_done_callback(functools.partial(self._ended, invocation_id))

    def _ended(self, invocation_id: str, task: asyncio.Task[None]) -> None:
        del self._tasks[invocation_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an async invocation broke", invocation=invocation_id, error=repr(error))
        self._tell(invocation_id)
        self._pump()

    def _tell(self, invocation_id: str) -> None:
        watcher = self._watchers.pop(invocation_id, None)
        if watcher is not None and not watcher.done():
            watcher.set_result(None)

    async def _one(self, invocation_id: str) -> None:
        record = await self._persist(lambda: self._journal.begin(invocation_id))
        if record is None:
            return  # run by somebody else or dropped
        finished = await self._outcome(record)
        await self._persist(lambda: self._journal.finish(invocation_id, finished))

    async def _outcome(self, record: Record) -> Finished:
        pause_s = RETRY_S_FIRST
        args = None if record.args is None else msgspec.json.decode(record.args, type=list[str])
        store_tries = 0
        while True:
            try:
                result = await self._run(record.function, record.input, args, record.wall_ms, True)
            except _NOT_ITS_FAULT as error:
                store_tries += isinstance(error, StoreFailed)
                if store_tries >= STORE_TRIES_MAX:
                    return Finished(problem=problem_bytes(error))
                log.warning("an async invocation waits", invocation=record.id, error=str(error))
            except EdgeError as error:
                return Finished(problem=problem_bytes(error))
            except Exception as error:
                log.exception("an async invocation broke", invocation=record.id)
                return Finished(problem=problem_bytes(Internal(f"a fault of this node: {error!r}")))
            else:
                return Finished(
                    output=result.output, duration_us=result.duration_us, exit_code=result.exit_code
                )
            await self._sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_S_MAX)

    async def _persist(self, write: Callable[[], Awaitable[Any]]) -> Any:
        pause_s = RETRY_S_FIRST
        while True:
            try:
                return await write()
            except (StorageFull, StoreFailed) as error:
                log.warning("the journal cannot be written, trying again", error=str(error), in_s=pause_s)
            await self._sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_S_MAX)


def problem_bytes(error: EdgeError) -> bytes:
    """An error's problem document as JSON; what JSON cannot hold is kept as text."""
    return msgspec.json.encode(error.problem(), enc_hook=repr)


def _view(record: Record) -> InvocationView:
    problem = None if record.problem is None else msgspec.json.decode(record.problem)
    succeeded = record.state == "succeeded"
    return InvocationView(
        id=record.id,
        function=record.function,
        state=record.state,
        created_at=_utc(record.created_ms),
        finished_at=_utc(record.finished_ms) if record.finished_ms else "",
        attempts=record.attempts,
        duration_us=record.duration_us if succeeded else None,
        exit_code=record.exit_code if succeeded else (problem or {}).get("exit_code"),
        output=record.output,
        problem=problem,
    )


def _utc(milliseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
