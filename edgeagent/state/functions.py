"""The registry: which functions are deployed, one row each."""

from __future__ import annotations

import sqlite3

import msgspec

from edgeagent.model.errors import StoreFailed
from edgeagent.model.function import Deployed
from edgeagent.state.store import Store

__all__ = ["FunctionRows"]


class FunctionRows:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def all(self) -> list[Deployed]:
        """Every deployed function by name; raises StoreFailed when a row cannot be understood."""
        rows = await self._store.read(
            lambda c: c.execute("SELECT name, record FROM functions ORDER BY name").fetchall()
        )
        return [_decoded(name, record) for name, record in rows]

    async def put(self, deployed: Deployed) -> None:
        """Insert or replace, durable when it returns."""
        record = msgspec.json.encode(deployed)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO functions VALUES (?, ?)",
                (deployed.name, record),
            )

        await self._store.write(work)

    async def delete(self, name: str) -> bool:
        """Whether there was one; durable when it returns."""
        return await self._store.write(
            lambda c: c.execute("DELETE FROM functions WHERE name = ?", (name,)).rowcount > 0, essential=True
        )


def _decoded(name: str, record: bytes) -> Deployed:
    try:
        return msgspec.json.decode(record, type=Deployed)
    except msgspec.MsgspecError as error:
        raise StoreFailed(
            f"the registry's row of function {name!r} cannot be understood: {error}",
            hint="undeploy it with the edgeagent that wrote it, or restore a copy of the database",
        ) from None
