"""Async invocations: journaled, run, kept; through full disks, stops and deaths."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edgeagent.model.errors import (
    Busy,
    Cancelled,
    DeadlineExceeded,
    EdgeError,
    GuestExit,
    GuestTrap,
    NotFound,
    StorageFull,
    StoreFailed,
)
from edgeagent.node import background as background_module
from edgeagent.node.background import Background, problem_bytes
from edgeagent.node.result import Result
from tests.unit.node.doubles import Rig, rig, turns, until

Scenario = Callable[[Rig], Awaitable[None]]


def play(path: Path, scenario: Scenario, **options: Any) -> None:
    async def main() -> None:
        async with rig(path, **options) as parts:
            await parts.deploy("f", concurrency=4)
            await scenario(parts)

    asyncio.run(main())


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_module, "RETRY_S_FIRST", 0.001)
    monkeypatch.setattr(background_module, "RETRY_S_MAX", 0.001)


async def state_of(parts: Rig, invocation: str) -> str:
    return (await parts.invoker.status(invocation)).state


async def ended(parts: Rig, invocation: str) -> None:
    async with asyncio.timeout(20):
        await parts.invoker.background.finished(invocation)


def test_a_life(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        invocation = await parts.invoker.submit("f", b"in", ["a", "b"], 5000)
        await until(lambda: parts.engine.calls)
        assert await state_of(parts, invocation) == "running"
        call = parts.engine.calls[0]
        assert (call.body, call.args) == (b"in", ["a", "b"])
        assert 0 < call.wall_ms <= 5000
        call.end(b"out", duration_us=9)
        await ended(parts, invocation)
        view = await parts.invoker.status(invocation)
        assert (view.state, view.output, view.duration_us, view.attempts) == ("succeeded", b"out", 9, 1)
        assert (view.function, view.problem) == ("f", None)
        assert view.created_at.endswith("Z")
        assert view.finished_at.endswith("Z")

    play(tmp_path, scenario)


def test_what_a_run_did_not_have_is_not_told(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        invocation = await parts.invoker.submit("f", b"")
        await until(lambda: parts.engine.calls)
        view = await parts.invoker.status(invocation)
        assert (view.duration_us, view.exit_code) == (None, None)
        parts.engine.calls[0].end(error=DeadlineExceeded("too long"))
        await ended(parts, invocation)
        view = await parts.invoker.status(invocation)
        assert (view.state, view.duration_us, view.exit_code) == ("failed", None, None)
        invocation = await parts.invoker.submit("f", b"")
        await until(lambda: len(parts.engine.calls) == 2)
        parts.engine.calls[1].end(error=GuestExit("exit code 3", exit_code=3))
        await ended(parts, invocation)
        assert (await parts.invoker.status(invocation)).exit_code == 3

    play(tmp_path, scenario)


def test_failures_become_problems(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        invocation = await parts.invoker.submit("f", b"")
        await until(lambda: parts.engine.calls)
        parts.engine.calls[0].end(error=GuestTrap("unreachable", code=9, backtrace=["f!g"]))
        await ended(parts, invocation)
        view = await parts.invoker.status(invocation)
        assert view.state == "failed"
        assert view.problem is not None
        assert (view.problem["status"], view.problem["code"]) == (500, 9)

    play(tmp_path, scenario)


def test_a_function_that_is_gone_fails_its_invocations(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        ids = [await parts.invoker.submit("f", b"") for _ in range(2)]
        await until(lambda: parts.engine.calls)
        await parts.functions.undeploy("f")
        parts.engine.calls[0].end()
        for invocation in ids:
            await ended(parts, invocation)
        views = [await parts.invoker.status(invocation) for invocation in ids]
        assert [view.state for view in views] == ["succeeded", "failed"]
        assert views[1].problem is not None
        assert views[1].problem["status"] == 404

    play(tmp_path, scenario, queue__background_max="1")


def test_a_bounded_number_runs_at_once_in_order(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        background = parts.invoker.background
        ids = [await parts.invoker.submit("f", bytes([n])) for n in range(5)]
        await until(lambda: len(parts.engine.calls) == 2)
        await turns()
        assert (background.running, background.waiting) == (2, 3)
        for n in range(5):
            await until(lambda n=n: len(parts.engine.calls) > n)  # type: ignore[misc]
            parts.engine.calls[n].end()
        for invocation in ids:
            await ended(parts, invocation)
        assert [call.body for call in parts.engine.calls] == [bytes([n]) for n in range(5)]

    play(tmp_path, scenario, queue__background_max="2")


def test_what_the_node_caused_is_tried_again(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.refuse = Busy("no slot")
        invocation = await parts.invoker.submit("f", b"x")
        await until(lambda: parts.engine.starts > 2)
        assert await state_of(parts, invocation) == "running"
        parts.engine.refuse = None
        await ended(parts, invocation)
        assert (await parts.invoker.status(invocation)).attempts == 1

    play(tmp_path, scenario)


def test_a_module_that_stays_away_fails_its_invocations(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.functions.entries.clear()
        parts.artifacts.modules.clear()
        invocation = await parts.invoker.submit("f", b"x")
        await ended(parts, invocation)
        view = await parts.invoker.status(invocation)
        assert view.problem is not None
        assert "missing" in view.problem["detail"]

    play(tmp_path, scenario)


def test_async_invocations_wait_behind_a_full_queue(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        entry = await parts.functions.load("f")
        while entry.admission.enter():
            pass
        invocation = await parts.invoker.submit("f", b"x")
        await until(lambda: entry.admission.waiting)
        with pytest.raises(Busy):
            await parts.invoker.invoke("f", b"")
        entry.leave()
        await until(lambda: parts.engine.calls)
        parts.engine.calls[0].end()
        await ended(parts, invocation)
        for _ in range(3):
            entry.leave()

    play(tmp_path, scenario, queue__depth_max="0")


def test_a_fault_of_ours_ends_as_a_problem(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError("ours")

        parts.invoker._settled = broken  # type: ignore[method-assign,assignment]
        invocation = await parts.invoker.submit("f", b"x")
        await ended(parts, invocation)
        view = await parts.invoker.status(invocation)
        assert view.problem is not None
        assert "ZeroDivisionError" in view.problem["detail"]

    play(tmp_path, scenario)


def test_nothing_is_accepted_on_a_full_disk_and_results_wait_for_space(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        invocation = await parts.invoker.submit("f", b"x")
        await until(lambda: parts.engine.calls)
        pages = await parts.store.write(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await parts.store.write(lambda c: c.execute(f"PRAGMA max_page_count={pages}").fetchone())
        with pytest.raises(StorageFull):
            await parts.invoker.submit("f", b"y" * 50_000)
        parts.engine.calls[0].end(b"z" * 50_000)
        writes = parts.store.writes
        await until(lambda: parts.store.writes > writes + 2)  # offered again and again
        assert await state_of(parts, invocation) == "running"
        await parts.store.write(lambda c: c.execute("PRAGMA max_page_count=100000").fetchone())
        await ended(parts, invocation)
        assert (await parts.invoker.status(invocation)).output == b"z" * 50_000
        assert len(parts.engine.calls) == 1

    play(tmp_path, scenario)


def test_a_start_on_a_full_disk_takes_the_journal_up_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = asyncio.Event()

    async def scenario(parts: Rig) -> None:
        journal = parts.invoker.background._journal
        recover = journal.recover
        tries = 0

        async def recovered() -> list[str]:
            nonlocal tries
            tries += 1
            if not full.is_set():
                raise StorageFull("no space")
            return await recover()

        monkeypatch.setattr(journal, "recover", recovered)
        await parts.invoker.background.start()
        invocation = await parts.invoker.submit("f", b"x")
        await until(lambda: tries > 2)
        assert parts.engine.calls == []
        assert await state_of(parts, invocation) == "queued"
        full.set()
        await ended(parts, invocation)
        assert len(parts.engine.calls) == 1

    play(tmp_path, scenario)


def test_a_stop_while_the_journal_waits_for_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(parts: Rig) -> None:
        async def refused() -> list[str]:
            raise StorageFull("no space")

        monkeypatch.setattr(parts.invoker.background._journal, "recover", refused)
        await parts.invoker.background.start()
        await parts.invoker.background.drain()
        await parts.invoker.background.stop()

    play(tmp_path, scenario)


def test_a_stop_puts_running_ones_back_for_the_next_start(tmp_path: Path) -> None:
    ids: list[str] = []

    async def first(parts: Rig) -> None:
        parts.engine.mode = "held"
        ids.extend([await parts.invoker.submit("f", bytes([n])) for n in range(3)])
        await until(lambda: len(parts.engine.calls) == 2)
        watcher = asyncio.ensure_future(parts.invoker.background.finished(ids[0]))
        await turns()
        assert not await parts.invoker.drain(0.001)
        await parts.invoker.stop()
        with pytest.raises(Cancelled):
            await watcher
        assert [await state_of(parts, name) for name in ids] == ["queued"] * 3

    async def second(parts: Rig) -> None:
        for invocation in ids:
            await ended(parts, invocation)
        views = [await parts.invoker.status(name) for name in ids]
        assert [view.output for view in views] == [b"\0", b"\1", b"\2"]
        assert [view.attempts for view in views] == [1, 1, 1]

    play(tmp_path, first, queue__background_max="2")
    play(tmp_path, second)


def test_who_reads_the_row_while_the_node_stops_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        invocation = await parts.invoker.submit("f", b"x")
        await until(lambda: parts.engine.calls)
        journal, read = parts.invoker.background._journal, asyncio.Event()
        get = journal.get

        async def late(name: str) -> Any:
            await read.wait()
            return await get(name)

        monkeypatch.setattr(journal, "get", late)
        watcher = asyncio.ensure_future(parts.invoker.background.finished(invocation))
        await turns()
        assert not await parts.invoker.drain(0.001)
        await parts.invoker.stop()
        read.set()
        async with asyncio.timeout(20):
            with pytest.raises(Cancelled):
                await watcher

    play(tmp_path, scenario)


def test_a_drain_lets_running_ones_finish_and_begins_no_more(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        ids = [await parts.invoker.submit("f", b"x") for _ in range(2)]
        await until(lambda: parts.engine.calls)
        draining = asyncio.ensure_future(parts.invoker.drain(20))
        await turns()
        parts.engine.calls[0].end()
        assert await draining
        assert [await state_of(parts, name) for name in ids] == ["succeeded", "queued"]

    play(tmp_path, scenario, queue__background_max="1")


def test_an_invocation_that_was_dropped_is_passed_over(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.invoker.background.add("no such row")
        await until(lambda: not parts.invoker.background.running)
        with pytest.raises(NotFound):
            await parts.invoker.background.finished("no such row")

    play(tmp_path, scenario)


class BrokenJournal:
    """Fails in ways that the real one does not."""

    async def begin(self, invocation_id: str) -> None:
        raise ZeroDivisionError(invocation_id)

    async def put_back(self, ids: list[str]) -> None:
        raise StoreFailed("no")


def test_a_fault_in_one_does_not_stop_the_others() -> None:
    async def run(*_: Any, **__: Any) -> Result:
        raise NotImplementedError

    async def main() -> None:
        background = Background(BrokenJournal(), run, 1)  # type: ignore[arg-type]
        for name in ("a", "b", "c"):
            background.add(name)
        await until(lambda: not background.running and not background.waiting)
        await background.stop()
        await background.stop()

    asyncio.run(main())


def test_a_problem_keeps_what_json_cannot_hold_as_text() -> None:
    assert b"object" in problem_bytes(EdgeError("e", odd=object()))
