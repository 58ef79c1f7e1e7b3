"""Callers that write at the same time share a job of the store, not only its fsync: one savepoint, one count for all.

Each caller still succeeds or fails alone. What only fits without the others (a bound, a full disk) is tried again one
by one.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edgeagent.model.errors import EdgeError, StorageFull
from edgeagent.state.hlc import NONE, Version
from edgeagent.state.keystore_rows import Change
from edgeagent.state.keystore_types import Written
from edgeagent.state.keystore_writes import Setting, Wanted, write_one
from edgeagent.state.segments import Place
from edgeagent.state.store import Store

__all__ = ["Batches", "Request"]

_BATCH_MAX = 256


class Request(NamedTuple):
    """One caller's operations; ``places``: of chunks that are new; ``after``: their versions are above this one."""

    wanted: Sequence[Wanted]
    places: Mapping[bytes, Place]
    utc_ms: int
    after: Version = NONE

    @property
    def makes_room(self) -> bool:
        return all(one.op.op == "delete" for one in self.wanted)


Result = list[Written] | EdgeError
Waiting = tuple[Request, asyncio.Future[list[Written]]]


class Batches:
    """Of one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[Waiting] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def write(self, setting: Setting, request: Request) -> asyncio.Future[list[Written]]:
        """Its result, or what ``KeyStore.write`` raises. A caller that waits no more does not undo it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Written]] = loop.create_future()
        self._waiting.append((request, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._flush, setting)
        return future

    def _flush(self, setting: Setting) -> None:
        waiting, self._waiting = self._waiting, []
        for at in range(0, len(waiting), _BATCH_MAX):
            task = asyncio.ensure_future(self._write(setting, waiting[at : at + _BATCH_MAX]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _write(self, setting: Setting, batch: Sequence[Waiting]) -> None:
        requests = [request for request, _ in batch]
        try:
            results = await self._store.write(
                lambda c: _write_all(c, setting, requests), essential=all(one.makes_room for one in requests)
            )
        except StorageFull as error:
            if len(batch) == 1:
                _resolve(batch, [error])
                return
            for one in batch:
                await self._write(setting, [one])
        except EdgeError as error:
            # An exception that is raised twice would collect the tracebacks of all its callers.
            _resolve(batch, [type(error)(error.message, hint=error.hint) for _ in batch])
        except asyncio.CancelledError:  # the loop ends
            for _, future in batch:
                future.cancel()
            raise
        else:
            _resolve(batch, results)


def _resolve(batch: Sequence[Waiting], results: Sequence[Result]) -> None:
    for (_, future), result in zip(batch, results, strict=True):
        if future.done():
            continue
        if isinstance(result, EdgeError):
            future.set_exception(result)
        else:
            future.set_result(result)


def _write_all(connection: sqlite3.Connection, setting: Setting, requests: Sequence[Request]) -> list[Result]:
    """By the writer's thread. Raises StorageFull, and then all is to be undone."""
    change = Change(connection, setting.ledger, setting.bounds, 0)
    results = [_write_request(connection, change, setting, request) for request in requests]
    if any(one.changed for result in results if isinstance(result, list) for one in result):
        change.settle(setting.own_bytes_max, setting.bounds.keys_max)
    return results


def _write_request(
    connection: sqlite3.Connection, change: Change, setting: Setting, request: Request
) -> Result:
    change.utc_ms = request.utc_ms
    if request.after > NONE:
        setting.ledger.clock.saw(request.after, request.utc_ms)
    # A lone small value is refused before anything is written, or not at all.
    is_lone = len(request.wanted) == 1 and request.wanted[0].entry is None
    if is_lone:
        try:
            return [write_one(change, setting, request.wanted[0], request.places)]
        except EdgeError as error:
            return error
    counts = change.counts
    connection.execute("SAVEPOINT request")
    result: Result
    try:
        result = [write_one(change, setting, one, request.places) for one in request.wanted]
    except EdgeError as error:
        connection.execute("ROLLBACK TO request")
        change.counts = counts
        result = error
    connection.execute("RELEASE request")
    return result
