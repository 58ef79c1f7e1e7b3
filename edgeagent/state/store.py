"""The node's store: one SQLite file, one thread that writes, one that reads, the event loop waits for
neither.

Callers that arrive while an fsync is under way share the next one (group commit), so durability costs an
fsync a group and not a caller: ``commits`` against ``writes`` shows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edgeagent.model.errors import EdgeError, StoreFailed
from edgeagent.state.database import (
    READ_ONLY_HINT,
    DiskFull,
    Failure,
    ReadOnly,
    SyncLost,
    Work,
    open_reader,
    open_writer,
    run_group,
    typed,
)
from edgeagent.state.reserve import Reserve
from edgeagent.state.schema import MIGRATIONS

__all__ = ["Store"]

T = TypeVar("T")

GROUP_MAX = 512
# Callers beyond this many are refused: whoever asks faster than the disk writes must hear of it.
WAITING_MAX = 100_000


class _Job:
    __slots__ = ("future", "work")

    def __init__(self, work: Work, future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future


class _Essential:
    """Work that may use the reserve when the disk is full."""

    __slots__ = ("_work",)

    def __init__(self, work: Work) -> None:
        self._work = work

    def __call__(self, connection: sqlite3.Connection) -> Any:
        return self._work(connection)


class _Worker:
    """A thread with one connection that takes jobs in groups and resolves their futures on the loop."""

    def __init__(
        self,
        name: str,
        connection: sqlite3.Connection,
        loop: asyncio.AbstractEventLoop,
        run: Callable[[sqlite3.Connection, Sequence[Work]], list[Any]],
        *,
        group_max: int,
    ) -> None:
        self.groups = 0
        self.jobs = 0
        self._connection = connection
        self._loop = loop
        self._run = run
        self._group_max = group_max
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> asyncio.Future[Any]:
        if self._queue.qsize() >= WAITING_MAX:
            raise StoreFailed(f"{WAITING_MAX} callers wait for the state database", retry_after_s=1)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put(_Job(work, future))
        return future

    async def stop(self) -> None:
        """Do what waits, then end; the connection is closed."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _main(self) -> None:
        going = True
        while going:
            group, going = self._next_group()
            if group:
                results = self._run(self._connection, [job.work for job in group])
                self.groups += 1
                self.jobs += len(group)
                self._answer(group, results)
        with contextlib.suppress(sqlite3.Error):  # the log is complete without the last checkpoint
            self._connection.close()

    def _next_group(self) -> tuple[list[_Job], bool]:
        group: list[_Job] = []
        job = self._queue.get()
        while job is not None:
            group.append(job)
            if len(group) >= self._group_max:
                return group, True
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return group, True
        return group, False

    def _answer(self, group: Sequence[_Job], results: Sequence[Any]) -> None:
        # A closed loop has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_resolve, group, results)


def _resolve(group: Sequence[_Job], results: Sequence[Any]) -> None:
    for job, result in zip(group, results, strict=True):
        if job.future.done():
            continue
        if isinstance(result, Failure):
            job.future.set_exception(result.error)
        else:
            job.future.set_result(result)


def _read_each(connection: sqlite3.Connection, group: Sequence[Work]) -> list[Any]:
    results: list[Any] = []
    for work in group:
        try:
            results.append(work(connection))
        except sqlite3.Error as error:
            results.append(Failure(typed(error)))
        except Exception as error:  # noqa: BLE001 - whatever a caller raises is its answer
            results.append(Failure(error))
    return results


def _again(error: EdgeError) -> EdgeError:
    # An exception that is raised twice would collect the tracebacks of all its callers.
    return type(error)(error.message, hint=error.hint)


class Store:
    """See the module; ``max_pages`` > 0 bounds the file (pages of 4 KiB): beyond it, StorageFull.

    ``reserve`` is what writes that make room may use when the disk is full.
    """

    def __init__(
        self,
        path: Path,
        *,
        migrations: Sequence[str] = MIGRATIONS,
        max_pages: int = 0,
        reserve: Reserve | None = None,
    ) -> None:
        self.path = path
        self._migrations = migrations
        self._max_pages = max_pages
        self._writer: _Worker | None = None
        self._reader: _Worker | None = None
        self._lost: EdgeError | None = None
        self._reserve = reserve
        self._full = False
        self._read_only = False

    @property
    def commits(self) -> int:
        """Transactions, and with them fsyncs, since the store was opened."""
        return self._writer.groups if self._writer else 0

    @property
    def writes(self) -> int:
        """Callers served by these transactions."""
        return self._writer.jobs if self._writer else 0

    @property
    def failed(self) -> EdgeError | None:
        """Why the store takes no more writes, None while it does."""
        return self._lost

    @property
    def full(self) -> bool:
        """Whether the disk was full when last seen: what makes room is written still, the rest probably not."""
        return self._full

    @property
    def read_only(self) -> bool:
        """Whether the file system could not be written when last seen."""
        return self._read_only

    async def look_for_room(self) -> None:
        """See whether the disk is full, or read-only."""
        if self._reserve is not None:
            self._full, self._read_only = await asyncio.to_thread(self._look, self._reserve)

    def _look(self, reserve: Reserve) -> tuple[bool, bool]:
        if reserve.is_read_only():
            return self._full, True
        look = reserve.could_write if self._full else reserve.has_room
        return not look(), False

    async def open(self) -> None:
        """Open, check and migrate the file; raises StoreFailed or StorageFull."""
        writer = await asyncio.to_thread(self._open_writer)
        if self._max_pages:
            writer.execute(f"PRAGMA max_page_count={self._max_pages}")
        try:
            reader = await asyncio.to_thread(open_reader, self.path)
        except EdgeError:
            writer.close()
            raise
        loop = asyncio.get_running_loop()
        self._lost = None
        self._writer = _Worker("edgeagent-store-writer", writer, loop, self._write_group, group_max=GROUP_MAX)
        self._reader = _Worker("edgeagent-store-reader", reader, loop, _read_each, group_max=16)
        await self.look_for_room()

    async def write(self, work: Callable[[sqlite3.Connection], T], *, essential: bool = False) -> T:
        """Run ``work`` in a transaction that other callers may share; returns when it is on the disk.

        ``essential`` work makes room or lets the node start: it may use the reserve of a full disk.

        ``work`` runs on another thread, may run twice, and must use nothing but its connection. What it
        raises is raised here and undoes its statements alone. Raises StorageFull or StoreFailed, and
        then nothing was written. A caller that is cancelled while it waits may find its work done.
        """
        if self._writer is None:
            raise StoreFailed(f"the state database {self.path} is closed")
        if self._lost is not None:
            raise _again(self._lost)
        result: T = await self._writer.submit(_Essential(work) if essential else work)
        return result

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work``, which must not write, beside the writer; it sees all that was acknowledged before."""
        if self._reader is None:
            raise StoreFailed(f"the state database {self.path} is closed")
        result: T = await self._reader.submit(work)
        return result

    async def close(self) -> None:
        """Write what waits and close the file; idempotent."""
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None
        if reader is not None:
            await reader.stop()
        if writer is not None:
            await writer.stop()

    def _write_group(self, connection: sqlite3.Connection, group: Sequence[Work]) -> list[Any]:
        if self._lost is not None:
            return [Failure(_again(self._lost)) for _ in group]
        results = run_group(connection, group)
        lost = next(
            (r.error for r in results if isinstance(r, Failure) and isinstance(r.error, SyncLost)), None
        )
        if lost is not None:
            self._lost = lost
        elif any(_is_full(result) for result in results):
            self._full = True
            results = self._from_reserve(connection, group, results)
        elif any(map(_is_refused, results)) and self._reserve is not None:
            # SQLite does not say which error of the system it met.
            self._read_only = self._reserve.is_read_only()
            if self._read_only:
                results = [_not_written(self.path) if _is_refused(one) else one for one in results]
        return results

    def _from_reserve(
        self, connection: sqlite3.Connection, group: Sequence[Work], results: list[Any]
    ) -> list[Any]:
        """Essential work again, one by one, with the space that was kept back for it."""
        for at, work in enumerate(group):
            if self._reserve is not None and isinstance(work, _Essential) and _is_full(results[at]):
                self._reserve.release()
                (results[at],) = run_group(connection, [work])
                self._reserve.fill()  # at once: others would take what is left of it
        return results

    def _open_writer(self) -> sqlite3.Connection:
        try:
            return open_writer(self.path, self._migrations)
        except DiskFull:
            self._full = True
            if self._reserve is None:
                raise
            self._reserve.release()
            return open_writer(self.path, self._migrations)


def _is_full(result: Any) -> bool:
    return isinstance(result, Failure) and isinstance(result.error, DiskFull)


def _is_refused(result: Any) -> bool:
    return isinstance(result, Failure) and type(result.error) is StoreFailed


def _not_written(path: Path) -> Failure:
    return Failure(ReadOnly(f"the file system of {path} is read-only", hint=READ_ONLY_HINT))
