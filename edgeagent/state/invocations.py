"""The journal of invocations: what was accepted and not yet run, and what came of it.

Rules:

1. An async invocation is a row before its id is given out, and stays one until it has succeeded or failed.
2. ``queued`` and ``running`` rows are never dropped. Finished ones are: after ``ttl_ms``, and oldest
   first when the journal's bounds are reached. When everything that is kept still waits, a new one is
   refused (Busy, StorageFull).
3. ``attempts`` counts runs that began. A run that the node did not survive is begun again, up to
   ``attempts_max`` times, so that a function which kills the node cannot do so for ever.
4. An Idempotency-Key names one row. The same key with another fingerprint is KeyReused.
5. The result of an accepted invocation may pass ``bytes_max``: by then it must be kept, and no more than
   run at once can do so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from edgeagent.model.errors import Busy, Internal, KeyReused, StorageFull
from edgeagent.state.store import Store

__all__ = ["Finished", "Invocations", "JournalBounds", "Record", "State", "Totals"]

State = Literal["queued", "running", "succeeded", "failed"]

ROW_BYTES = 512  # what a row costs beside its blobs, roughly
# 2024-01-01: a clock before it has not been set since boot.
CLOCK_SET_MS = 1_704_067_200_000
_EVICTED_AT_ONCE = 64
_PAGES_FREED_AT_ONCE = 4096
_FINISHED = "state IN ('succeeded', 'failed')"
_COLUMNS = (
    "id, key, fingerprint, function, state, wall_ms, attempts, created_ms, finished_ms, duration_us,"
    " exit_code, args, problem, input, output"
)


class Record(msgspec.Struct, frozen=True):
    """A row; ``args`` and ``problem`` are JSON, ``wall_ms`` 0 means the manifest's limit.

    ``input`` is filled by ``begin`` alone.
    """

    id: str
    key: str | None
    fingerprint: bytes
    function: str
    state: State
    wall_ms: float
    attempts: int
    created_ms: int
    finished_ms: int
    duration_us: int
    exit_code: int
    args: bytes | None
    problem: bytes | None
    input: bytes
    output: bytes

    @property
    def is_finished(self) -> bool:
        return self.state in ("succeeded", "failed")


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run: an output, or a problem (RFC 9457, JSON)."""

    output: bytes | memoryview = b""
    problem: bytes | None = None
    duration_us: int = 0
    exit_code: int = 0


class JournalBounds(msgspec.Struct, frozen=True, kw_only=True):
    records_max: int
    bytes_max: int
    ttl_ms: int
    attempts_max: int


class Totals(msgspec.Struct, frozen=True):
    records: int
    pending: int
    bytes: int


class Invocations:
    """``now_ms`` is the time in milliseconds since 1970 UTC."""

    def __init__(self, store: Store, bounds: JournalBounds, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._bounds = bounds
        self._now_ms = now_ms

    async def submit(
        self,
        invocation_id: str,
        *,
        key: str | None,
        fingerprint: bytes,
        function: str,
        body: bytes | memoryview,
        args: bytes | None,
        wall_ms: float,
    ) -> str:
        """Journal an accepted invocation; its id, or that of the one with this key. Durable when it returns.

        Raises KeyReused, Busy (``records_max`` wait) and StorageFull (``bytes_max`` waits, or the disk
        is full).
        """
        now = self._now_ms()
        size = ROW_BYTES + len(body) + len(args or b"")

        def work(connection: sqlite3.Connection) -> str:
            known = _holder(connection, key, fingerprint)
            if known is not None:
                return known
            self._make_room(connection, size)
            connection.execute(
                "INSERT INTO invocations (id, key, fingerprint, function, state, wall_ms, created_ms,"
                " size_bytes, args, input) VALUES (?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?)",
                (invocation_id, key, fingerprint, function, wall_ms, now, size, args, body),
            )
            return invocation_id

        return await self._store.write(work)

    async def keep(
        self, invocation_id: str, *, key: str, fingerprint: bytes, function: str, finished: Finished
    ) -> None:
        """Journal the outcome of a synchronous run under its key; a row that already holds the key stays."""
        now = self._now_ms()
        size = _size(finished)
        row = (invocation_id, key, fingerprint, function, _state(finished), now, now)
        outcome = (finished.duration_us, finished.exit_code, size, finished.problem, finished.output)

        def work(connection: sqlite3.Connection) -> None:
            if _holder(connection, key, fingerprint) is not None:
                return
            self._make_room(connection, size)
            connection.execute(
                "INSERT INTO invocations (id, key, fingerprint, function, state, attempts, created_ms,"
                " finished_ms, duration_us, exit_code, size_bytes, problem, input, output)"
                " VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, x'', ?)",
                (*row, *outcome),
            )

        await self._store.write(work)

    async def begin(self, invocation_id: str) -> Record | None:
        """Mark as running and count the attempt; None when it no longer waits."""

        def work(connection: sqlite3.Connection) -> Record | None:
            begun = connection.execute(
                "UPDATE invocations SET state = 'running', attempts = attempts + 1"
                " WHERE id = ? AND state = 'queued'",
                (invocation_id,),
            ).rowcount
            return _one(connection, invocation_id, with_input=True) if begun else None

        return await self._store.write(work)

    async def finish(self, invocation_id: str, finished: Finished) -> None:
        """Keep what came of a run; its input is dropped."""
        now = self._now_ms()
        size = _size(finished)

        outcome = (_state(finished), now, finished.duration_us, finished.exit_code, size)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE invocations SET state = ?, finished_ms = ?, duration_us = ?, exit_code = ?,"
                " size_bytes = ?, problem = ?, output = ?, input = x'' WHERE id = ? AND state = 'running'",
                (*outcome, finished.problem, finished.output, invocation_id),
            )
            self._evict(connection, self._bounds.bytes_max, self._bounds.records_max, keep=invocation_id)

        await self._store.write(work)

    async def put_back(self, invocation_ids: Sequence[str]) -> None:
        """Runs that the node itself stopped wait again, and were no attempts."""
        marks = [(invocation_id,) for invocation_id in invocation_ids]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "UPDATE invocations SET state = 'queued', attempts = attempts - 1"
                " WHERE id = ? AND state = 'running'",
                marks,
            )

        if marks:
            await self._store.write(work)

    async def recover(self) -> list[str]:
        """After a start: the ids that wait, oldest first, with the runs that the last process left behind."""
        now = self._now_ms()
        most = self._bounds.attempts_max
        problem = msgspec.json.encode(
            Internal(f"the node stopped {most} times while this invocation ran", attempts=most).problem()
        )

        def work(connection: sqlite3.Connection) -> list[str]:
            connection.execute(
                "UPDATE invocations SET state = 'failed', finished_ms = ?, problem = ?, input = x'',"
                " size_bytes = ? WHERE state = 'running' AND attempts >= ?",
                (now, problem, ROW_BYTES + len(problem), most),
            )
            connection.execute("UPDATE invocations SET state = 'queued' WHERE state = 'running'")
            rows = connection.execute(
                "SELECT id FROM invocations WHERE state IN ('queued', 'running') ORDER BY seq"
            )
            return [row[0] for row in rows]

        return await self._store.write(work, essential=True)

    async def get(self, invocation_id: str) -> Record | None:
        """The row without its input."""
        return await self._store.read(lambda c: _one(c, invocation_id))

    async def by_key(self, key: str, fingerprint: bytes) -> Record | None:
        """The row that holds ``key``; raises KeyReused when it is of another request."""

        def work(connection: sqlite3.Connection) -> Record | None:
            holder = _holder(connection, key, fingerprint)
            return None if holder is None else _one(connection, holder)

        return await self._store.read(work)

    async def totals(self) -> Totals:
        return await self._store.read(_totals)

    async def sweep(self) -> int:
        """Drop what is past its time, give free pages back to the file system; how many rows went."""
        now = self._now_ms()
        if now < CLOCK_SET_MS:
            return 0

        def work(connection: sqlite3.Connection) -> int:
            # Finished before the clock was set: their time starts now, else they would all be past it at
            # once.
            connection.execute(
                f"UPDATE invocations SET finished_ms = ? WHERE {_FINISHED} AND finished_ms < ?",  # noqa: S608
                (now, CLOCK_SET_MS),
            )
            gone = connection.execute(
                f"DELETE FROM invocations WHERE {_FINISHED} AND finished_ms < ?",  # noqa: S608
                (now - self._bounds.ttl_ms,),
            ).rowcount
            free = connection.execute("PRAGMA freelist_count").fetchone()[0]
            for _ in range(min(free, _PAGES_FREED_AT_ONCE)):
                # sqlite3 steps a pragma without columns once, which frees one page.
                connection.execute("PRAGMA incremental_vacuum")
            return gone

        return await self._store.write(work, essential=True)

    def _make_room(self, connection: sqlite3.Connection, size_bytes: int) -> None:
        bounds = self._bounds
        self._evict(connection, bounds.bytes_max - size_bytes, bounds.records_max - 1)
        totals = _totals(connection)
        if totals.records >= bounds.records_max:
            raise Busy(
                f"{totals.pending} invocations wait (journal.records_max = {bounds.records_max})",
                retry_after_s=5,
            )
        if totals.bytes + size_bytes > bounds.bytes_max:
            raise StorageFull(
                f"the journal holds {totals.bytes} bytes that still wait, {size_bytes} more are over"
                f" journal.bytes_max = {bounds.bytes_max}",
                hint="wait until invocations have finished, or raise journal.bytes_max",
                retry_after_s=5,
            )

    def _evict(
        self, connection: sqlite3.Connection, bytes_max: int, records_max: int, keep: str = ""
    ) -> None:
        totals = _totals(connection)
        while totals.bytes > bytes_max or totals.records > records_max:
            # One by one near the bound, so that no more goes than must.
            count = min(_EVICTED_AT_ONCE, max(1, totals.records - records_max))
            gone = connection.execute(
                f"DELETE FROM invocations WHERE seq IN (SELECT seq FROM invocations WHERE {_FINISHED}"  # noqa: S608
                " AND id != ? ORDER BY seq LIMIT ?)",
                (keep, count),
            ).rowcount
            if gone == 0:
                return
            totals = _totals(connection)


def _state(finished: Finished) -> State:
    return "succeeded" if finished.problem is None else "failed"


def _size(finished: Finished) -> int:
    return ROW_BYTES + len(finished.output) + len(finished.problem or b"")


def _totals(connection: sqlite3.Connection) -> Totals:
    return Totals(*connection.execute("SELECT records, pending, bytes FROM journal_totals").fetchone())


def _one(connection: sqlite3.Connection, invocation_id: str, *, with_input: bool = False) -> Record | None:
    # Whoever asks how an invocation stands does not want its input, which may be large.
    columns = _COLUMNS if with_input else _COLUMNS.replace("input", "x''")
    row: tuple[Any, ...] | None = connection.execute(
        f"SELECT {columns} FROM invocations WHERE id = ?",  # noqa: S608 - names from this file
        (invocation_id,),
    ).fetchone()
    return None if row is None else Record(*row)


def _holder(connection: sqlite3.Connection, key: str | None, fingerprint: bytes) -> str | None:
    """The id of the row that holds ``key``; raises KeyReused when it is of another request."""
    if key is None:
        return None
    row = connection.execute("SELECT id, fingerprint FROM invocations WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    if row[1] != fingerprint:
        raise KeyReused(
            "this Idempotency-Key was used with another function, body or arguments", invocation=row[0]
        )
    return str(row[0])
