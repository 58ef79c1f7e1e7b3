"""The registry of workflows, one row each."""

from __future__ import annotations

import sqlite3

import msgspec

from edgeagent.model.errors import StoreFailed
from edgeagent.model.workflow import Workflow
from edgeagent.state.store import Store

__all__ = ["WorkflowRows"]


class WorkflowRows:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def all(self) -> list[Workflow]:
        """Every deployed workflow by name; raises StoreFailed when a row cannot be understood."""
        rows = await self._store.read(
            lambda c: c.execute("SELECT name, record FROM workflows ORDER BY name").fetchall()
        )
        return [_decoded(name, record) for name, record in rows]

    async def put(self, workflow: Workflow) -> None:
        """Insert or replace, durable when it returns."""
        row = (workflow.workflow.name, msgspec.json.encode(workflow))

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO workflows VALUES (?, ?)", row)

        await self._store.write(work)

    async def delete(self, name: str) -> bool:
        """Whether there was one; durable when it returns."""
        return await self._store.write(
            lambda c: c.execute("DELETE FROM workflows WHERE name = ?", (name,)).rowcount > 0, essential=True
        )


def _decoded(name: str, record: bytes) -> Workflow:
    try:
        return msgspec.json.decode(record, type=Workflow)
    except msgspec.MsgspecError as error:
        raise StoreFailed(
            f"the registry's row of workflow {name!r} cannot be understood: {error}",
            hint="undeploy it with the edgeagent that wrote it, or restore a copy of the database",
        ) from None
