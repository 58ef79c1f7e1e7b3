"""Callers that write at the same time share a job of the store, not only its fsync: one savepoint, one count for all.

Each caller still succeeds or fails alone. What only fits without the others (a bound, a full disk) is tried again one
by one. Plain writes that stand next to each other are looked up and put as rows together
(:mod:`edgeagent.state.keystore_bulk`).
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from edgeagent.model.errors import EdgeError, StorageFull
from edgeagent.state.hlc import NONE, Version
from edgeagent.state.keystore_bulk import BulkChange
from edgeagent.state.keystore_cache import ValueCache
from edgeagent.state.keystore_types import Written
from edgeagent.state.keystore_writes import Setting, Wanted, is_plain, write_one
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

    @property
    def keys(self) -> list[str]:
        """That are written."""
        return [one.op.key for one in self.wanted if one.op.op != "get"]

    @property
    def large(self) -> dict[str, bytes]:
        """Values that are kept in chunks, by key; each is of the last put of its key."""
        return {
            one.op.key: one.value for one in self.wanted if one.entry is not None and one.value is not None
        }


Result = list[Written] | EdgeError
Waiting = tuple[Request, asyncio.Future[list[Written]]]


class Batches:
    """Of one event loop. ``cache`` hears of every write when it is asked for, and when it is done."""

    def __init__(self, store: Store, cache: ValueCache) -> None:
        self._store = store
        self._cache = cache
        self._waiting: list[Waiting] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def write(self, setting: Setting, request: Request) -> asyncio.Future[list[Written]]:
        """Its result, or what ``KeyStore.write`` raises. A caller that waits no more does not undo it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Written]] = loop.create_future()
        self._cache.begin_write(request.keys)
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
                self._resolve(batch, [error])
                return
            for one in batch:
                await self._write(setting, [one])
        except EdgeError as error:
            # An exception that is raised twice would collect the tracebacks of all its callers.
            self._resolve(batch, [type(error)(error.message, hint=error.hint) for _ in batch])
        except asyncio.CancelledError:  # the loop ends
            for request, future in batch:
                self._cache.end_write(request.keys)
                future.cancel()
            raise
        else:
            self._resolve(batch, results)

    def _resolve(self, batch: Sequence[Waiting], results: Sequence[Result]) -> None:
        for (request, future), result in zip(batch, results, strict=True):
            if isinstance(result, EdgeError):
                self._cache.end_write(request.keys)
                if not future.done():
                    future.set_exception(result)
            else:
                left = [one.entry for one in result if one.changed]
                self._cache.end_write(request.keys, left, request.large)
                if not future.done():
                    future.set_result(result)


def _write_all(connection: sqlite3.Connection, setting: Setting, requests: Sequence[Request]) -> list[Result]:
    """By the writer's thread. Raises StorageFull, and then all is to be undone."""
    change = BulkChange(connection, setting.ledger, setting.bounds, 0)
    results: list[Result] = []
    for plain, some in itertools.groupby(requests, key=_is_plain):
        if not plain:
            results += [_write_request(connection, change, setting, request) for request in some]
            continue
        alike = list(some)
        change.look_up([request.wanted[0].op.key for request in alike])
        results += [_write_lone(change, setting, request) for request in alike]
        change.put_rows()
    if any(one.changed for result in results if isinstance(result, list) for one in result):
        change.settle(setting.own_bytes_max, setting.bounds.keys_max)
    return results


def _is_plain(request: Request) -> bool:
    return len(request.wanted) == 1 and is_plain(request.wanted[0])


def _write_lone(change: BulkChange, setting: Setting, request: Request) -> Result:
    """A lone small value is refused before anything is written, or not at all."""
    change.utc_ms = request.utc_ms
    if request.after is not NONE:
        setting.ledger.clock.saw(request.after, request.utc_ms)
    try:
        return [write_one(change, setting, request.wanted[0], request.places)]
    except EdgeError as error:
        return error


def _write_request(
    connection: sqlite3.Connection, change: BulkChange, setting: Setting, request: Request
) -> Result:
    if len(request.wanted) == 1 and request.wanted[0].entry is None:
        return _write_lone(change, setting, request)
    change.utc_ms = request.utc_ms
    if request.after is not NONE:
        setting.ledger.clock.saw(request.after, request.utc_ms)
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
