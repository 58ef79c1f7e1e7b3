"""The records of workflow runs that this node keeps, its own and copies of others'.

Rules:

1. A record is replaced only by one with a higher (epoch, version): what comes late or from a holder that has been
   replaced changes nothing (fencing).
2. Unfinished runs are never dropped, nor finished ones that a holder has still to deliver. All others are, also copies
   of runs that have gone on elsewhere (role ""): by ``sweep``, and the oldest first when ``runs_max`` are kept. When
   none of those that are kept may go, a new one is refused (Busy).
"""

from __future__ import annotations

import sqlite3
from typing import Literal

import msgspec

from edgeagent.model.errors import Busy
from edgeagent.state.store import Store

__all__ = ["Role", "RunRow", "RunRows", "RunState"]

RunState = Literal["running", "succeeded", "failed", "timed_out"]
Role = Literal["origin", "holder", "guardian", ""]

_RETRY_S = 5.0
_STALE = "role = '' AND state = 'running'"
_OVER = "(role = '' OR (state <> 'running' AND role <> 'holder'))"
_COLUMNS = "id, workflow, state, role, epoch, version, created_ms, updated_ms, record"


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """``role`` is what this node is to the run, ``record`` the run itself as its writer encoded it.

    Times are milliseconds since 1970 UTC.
    """

    id: str
    workflow: str
    state: RunState
    role: Role
    epoch: int
    version: int
    created_ms: int
    updated_ms: int
    record: bytes

    @property
    def is_finished(self) -> bool:
        return self.state != "running"


class RunRows:
    def __init__(self, store: Store, runs_max: int) -> None:
        self._store = store
        self._runs_max = runs_max

    async def put(self, row: RunRow) -> bool:
        """Keep it if it is newer than what is kept; whether it was. Durable when it returns.

        Raises Busy when ``runs_max`` unfinished ones are kept, and StorageFull.
        """

        def work(connection: sqlite3.Connection) -> bool:
            held = connection.execute("SELECT epoch, version FROM runs WHERE id = ?", (row.id,)).fetchone()
            if held is not None and tuple(held) >= (row.epoch, row.version):
                return False
            if held is None:
                self._make_room(connection)
            connection.execute(
                f"INSERT OR REPLACE INTO runs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                msgspec.structs.astuple(row),
            )
            return True

        return await self._store.write(work)

    async def get(self, run_id: str) -> RunRow | None:
        return await self._store.read(lambda c: _one(c, run_id))

    async def unfinished(self) -> list[RunRow]:
        """The oldest first."""
        return await self._store.read(
            lambda c: _rows(c, "WHERE state = 'running' ORDER BY created_ms, id", ())
        )

    async def latest(self, limit: int, workflow: str | None = None) -> list[RunRow]:
        """The latest first, of all workflows or of one; but for what is a former guardian's or holder's."""
        where, given = ("", ()) if workflow is None else ("AND workflow = ? ", (workflow,))
        return await self._store.read(
            lambda c: _rows(
                c,
                f"WHERE NOT ({_STALE}) {where}ORDER BY created_ms DESC, id LIMIT ?",
                (*given, max(0, limit)),
            )
        )

    async def sweep(self, older_than_ms: int) -> int:
        """Drop those that are over here, finished or somebody else's, last changed before that time; how many."""
        return await self._store.write(
            lambda c: (
                c.execute(
                    f"DELETE FROM runs WHERE {_OVER} AND updated_ms < ?",  # noqa: S608 - our own words
                    (older_than_ms,),
                ).rowcount
            ),
            essential=True,
        )

    def _make_room(self, connection: sqlite3.Connection) -> None:
        (kept,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        over = kept + 1 - self._runs_max
        if over <= 0:
            return
        dropped = connection.execute(
            f"DELETE FROM runs WHERE id IN (SELECT id FROM runs WHERE {_OVER}"  # noqa: S608 - our own words
            " ORDER BY updated_ms, id LIMIT ?)",
            (over,),
        ).rowcount
        if dropped < over:
            raise Busy(
                f"{self._runs_max} runs of workflows are unfinished here already",
                hint="wait for some to end",
                retry_after_s=_RETRY_S,
            )


def _one(connection: sqlite3.Connection, run_id: str) -> RunRow | None:
    return next(iter(_rows(connection, "WHERE id = ?", (run_id,))), None)


def _rows(connection: sqlite3.Connection, tail: str, given: tuple[object, ...]) -> list[RunRow]:
    found = connection.execute(f"SELECT {_COLUMNS} FROM runs {tail}", given).fetchall()  # noqa: S608 - our own words
    return [RunRow(**dict(zip(RunRow.__struct_fields__, row, strict=True))) for row in found]
