"""The end of a run is written when the disk has room, and nobody hears of it before."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from edgeagent.model.errors import EdgeError, StorageFull, StoreFailed
from edgeagent.node.runs import ends
from edgeagent.node.runs.board import Board
from edgeagent.node.runs.ends import ORIGIN, Ends
from edgeagent.node.runs.events import Events
from edgeagent.node.runs.record import RunRecord
from tests.unit.node.runs.samples import record


class _Disk:
    """Refuses as often as it has refusals."""

    def __init__(self, *refusals: EdgeError) -> None:
        self.refusals = list(refusals)
        self.kept: list[tuple[str, str]] = []

    async def put(self, run: RunRecord, role: str) -> bool:
        await asyncio.sleep(0)
        if self.refusals:
            raise self.refusals.pop(0)
        self.kept.append((run.state, role))
        return True


class _Board:
    def __init__(self, *refusals: EdgeError) -> None:
        self.store = _Disk(*refusals)
        self.events = Events()
        self.delivered: list[str] = []

    async def deliver(self, run: RunRecord) -> None:
        self.delivered.append(run.state)


def _ends(board: _Board, node_id: str) -> Ends:
    return Ends(node_id, cast(Board, board))


def _states(board: _Board) -> list[Any]:
    log = board.events._logs.get("r")
    return [] if log is None else [one.data["state"] for one in log.events if one.kind == "state"]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "PAUSE_S_FIRST", 0.0)


def test_an_end_that_found_no_room_is_written_when_there_is_some() -> None:
    async def main() -> None:
        board = _Board(StorageFull("full"), StoreFailed("broken"), StorageFull("full"))
        run = record({"name": "a"})
        one = _ends(board, run.origin)
        run.state = "succeeded"
        finishing = asyncio.ensure_future(one.finish(run))
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(one.written("r"))  # the deadline looks whether it has ended in time
        await asyncio.sleep(0)
        assert not waiting.done()
        assert _states(board) == []
        await asyncio.wait_for(finishing, 5)
        await asyncio.wait_for(waiting, 5)
        assert board.store.kept == [("succeeded", ORIGIN)]
        assert _states(board) == ["succeeded"]
        await one.written("r")  # nothing is waited for any more

    asyncio.run(main())


def test_what_ended_for_another_node_is_delivered_then_let_go() -> None:
    async def main() -> None:
        board = _Board(StorageFull("full"))
        run = record({"name": "a"})
        one = _ends(board, "elsewhere")
        run.state = "failed"
        await one.finish(run)
        assert board.delivered == ["failed"]
        assert [role for _, role in board.store.kept] == ["holder", ""]
        assert not one.is_undelivered("r")

    asyncio.run(main())


def test_a_run_that_nobody_ended_is_timed_out_on_the_disk_first() -> None:
    async def main() -> None:
        board = _Board(StorageFull("full"))
        run = record({"name": "a"})
        await _ends(board, run.origin).time_out(run)
        assert board.store.kept == [("timed_out", ORIGIN)]
        assert _states(board) == ["timed_out"]

    asyncio.run(main())


def test_a_node_that_stops_leaves_the_end_to_its_next_start() -> None:
    async def main() -> None:
        board = _Board(*[StorageFull("full")] * 10_000)
        run = record({"name": "a"})
        one = _ends(board, run.origin)
        finishing = asyncio.ensure_future(one.finish(run))
        for _ in range(5):
            await asyncio.sleep(0)
        finishing.cancel()
        await asyncio.gather(finishing, return_exceptions=True)
        assert finishing.cancelled()
        assert board.store.kept == []
        await one.written("r")

    asyncio.run(main())
