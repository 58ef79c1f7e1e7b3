"""The registry of workflows, and the records of runs: fencing, bounds, what is found again."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeagent.model.errors import Busy, StoreFailed
from edgeagent.model.workflow import Trigger, Workflow, WorkflowSection, WorkflowStep
from edgeagent.state.runs import RunRow, RunRows
from edgeagent.state.schema import MIGRATIONS
from edgeagent.state.store import Store
from edgeagent.state.workflows import WorkflowRows


def with_store(path: Path, scenario: Callable[[Store], Awaitable[None]]) -> None:
    async def main() -> None:
        store = Store(path)
        await store.open()
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(main())


def workflow(name: str, function: str = "f") -> Workflow:
    return Workflow(
        workflow=WorkflowSection(name=name),
        step=(
            WorkflowStep(name="a", function=function),
            WorkflowStep(name="b", function=function, after=("a",), args=("x",)),
        ),
        trigger=(Trigger(over=(1.0, 2.0, 3.0)),),
    )


def row(run_id: str, **fields: Any) -> RunRow:
    plain: dict[str, Any] = {
        "workflow": "w",
        "state": "running",
        "role": "holder",
        "epoch": 1,
        "version": 1,
        "created_ms": 100,
        "updated_ms": 100,
        "record": b"r",
    }
    return RunRow(id=run_id, **{**plain, **fields})


def test_workflows_come_back_as_they_were_put(tmp_path: Path) -> None:
    async def put(store: Store) -> None:
        rows = WorkflowRows(store)
        for one in (workflow("b"), workflow("a"), workflow("b", "g"), workflow("gone")):
            await rows.put(one)
        assert await rows.delete("gone")
        assert not await rows.delete("gone")

    async def read(store: Store) -> None:
        assert await WorkflowRows(store).all() == [workflow("a"), workflow("b", "g")]

    with_store(tmp_path / "db", put)
    with_store(tmp_path / "db", read)


def test_a_workflow_that_cannot_be_understood_is_named(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await store.write(lambda c: c.execute("INSERT INTO workflows VALUES ('odd', x'7b7d')").rowcount)
        with pytest.raises(StoreFailed, match="'odd'"):
            await WorkflowRows(store).all()

    with_store(tmp_path / "db", scenario)


def test_only_what_is_newer_replaces_a_run(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        rows = RunRows(store, 10)
        assert await rows.put(row("r", epoch=1, version=5))
        assert not await rows.put(row("r", epoch=1, version=5, record=b"again"))
        assert not await rows.put(row("r", epoch=1, version=4, record=b"late"))
        assert await rows.put(row("r", epoch=2, version=1, record=b"taken over", role="guardian"))
        assert not await rows.put(row("r", epoch=1, version=99, record=b"fenced", state="failed"))
        held = await rows.get("r")
        assert held == row("r", epoch=2, version=1, record=b"taken over", role="guardian")
        assert await rows.get("other") is None

    with_store(tmp_path / "db", scenario)


def test_of_writers_at_once_the_newest_stays(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        rows = RunRows(store, 10)
        versions = [3, 7, 1, 7, 5, 2]
        taken = await asyncio.gather(*[rows.put(row("r", version=v)) for v in versions])
        assert taken == [True, True, False, False, False, False]

    with_store(tmp_path / "db", scenario)


def test_runs_are_found_by_state_age_and_workflow(tmp_path: Path) -> None:
    async def put(store: Store) -> None:
        rows = RunRows(store, 10)
        await rows.put(row("new", created_ms=300))
        await rows.put(row("old", created_ms=100))
        await rows.put(
            row("done", created_ms=200, updated_ms=250, state="succeeded", workflow="v", role="origin")
        )
        await rows.put(row("late", created_ms=250, updated_ms=400, state="timed_out", role="origin"))

    async def read(store: Store) -> None:
        rows = RunRows(store, 10)
        assert [one.id for one in await rows.unfinished()] == ["old", "new"]
        assert [one.id for one in await rows.latest(3)] == ["new", "late", "done"]
        assert [one.id for one in await rows.latest(9, "v")] == ["done"]
        assert await rows.latest(-1) == []
        assert [one.is_finished for one in await rows.latest(2)] == [False, True]
        assert await rows.sweep(250) == 0
        assert await rows.sweep(251) == 1
        assert await rows.sweep(10_000) == 1
        assert [one.id for one in await rows.latest(9)] == ["new", "old"], "unfinished ones stay"

    with_store(tmp_path / "db", put)
    with_store(tmp_path / "db", read)


def test_the_oldest_finished_go_first_and_unfinished_never(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        rows = RunRows(store, 3)
        await rows.put(row("a"))
        await rows.put(row("b", state="failed", updated_ms=200, role="origin"))
        await rows.put(row("c", state="succeeded", updated_ms=150, role="origin"))
        assert await rows.put(row("d"))
        assert [await rows.get(i) is None for i in "abcd"] == [False, False, True, False]
        assert await rows.put(row("e"))
        with pytest.raises(Busy) as busy:
            await rows.put(row("f"))
        assert busy.value.retry_after_s
        ended = row("e", version=2, state="succeeded", role="origin")
        assert await rows.put(ended), "one that is kept may always go on"
        assert await rows.put(row("f"))
        assert await rows.get("e") is None

    with_store(tmp_path / "db", scenario)


def test_copies_of_what_goes_on_elsewhere_make_room_and_results_to_deliver_do_not(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        rows = RunRows(store, 2)
        await rows.put(row("held", state="succeeded"))
        await rows.put(row("guarded", role="guardian"))
        assert await rows.put(row("guarded", role="", version=2))
        assert [one.id for one in await rows.latest(9)] == ["held"]
        assert await rows.put(row("next"))
        assert await rows.get("guarded") is None
        with pytest.raises(Busy):
            await rows.put(row("more"))
        assert await rows.put(row("next", role="", version=2))
        assert await rows.sweep(10_000) == 1
        assert [one.id for one in await rows.latest(9)] == ["held"]

    with_store(tmp_path / "db", scenario)


def test_a_database_of_the_version_before_is_taken_up(tmp_path: Path) -> None:
    async def before() -> None:
        store = Store(tmp_path / "db", migrations=MIGRATIONS[:1])
        await store.open()
        await store.write(lambda c: c.execute("INSERT INTO code_index VALUES ('k', '1')").rowcount)
        await store.close()

    async def scenario(store: Store) -> None:
        assert await store.read(lambda c: c.execute("SELECT sha256 FROM code_index").fetchall()) == [("1",)]
        assert await RunRows(store, 1).put(row("a"))

    asyncio.run(before())
    with_store(tmp_path / "db", scenario)


def test_a_run_is_looked_up_by_index(tmp_path: Path) -> None:
    """Records are large: no look may read them all."""
    connection = sqlite3.connect(":memory:")
    for step in MIGRATIONS:
        connection.executescript(step)
    for query in (
        "SELECT record FROM runs WHERE state = 'running' ORDER BY created_ms, id",
        "SELECT record FROM runs WHERE workflow = 'w' ORDER BY created_ms DESC, id LIMIT 3",
        "SELECT record FROM runs ORDER BY created_ms DESC, id LIMIT 3",
        "SELECT count(*) FROM runs",
    ):
        plan = connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
        assert any("INDEX" in step[3] for step in plan), plan
    connection.close()


def test_a_row_says_what_it_holds() -> None:
    assert msgspec.structs.replace(row("a"), state="failed").is_finished
