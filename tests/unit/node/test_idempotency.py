"""Idempotency-Keys: one execution, its outcome on the disk before anybody sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edgeagent.model.errors import (
    BadRequest,
    Busy,
    Cancelled,
    DeadlineExceeded,
    EdgeError,
    GuestExit,
    GuestFailed,
    KeyReused,
    StorageFull,
)
from edgeagent.node.idempotency import fingerprint, replayed
from edgeagent.node.result import Result
from edgeagent.state.invocations import Record
from tests.unit.node.doubles import Rig, rig, turns, until

Scenario = Callable[[Rig], Awaitable[None]]


def play(path: Path, scenario: Scenario, **options: Any) -> None:
    async def main() -> None:
        async with rig(path, **options) as parts:
            await parts.deploy("f", concurrency=4)
            await parts.deploy("g")
            await scenario(parts)

    asyncio.run(main())


def keyed(parts: Rig, body: bytes = b"x", key: str = "k", **more: Any) -> asyncio.Task[Result]:
    return asyncio.ensure_future(parts.invoker.invoke("f", body, idempotency_key=key, **more))


async def held_call(parts: Rig, number: int = 0) -> None:
    await until(lambda: len(parts.engine.calls) > number)


def test_a_repeat_gets_the_stored_outcome(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        first = await keyed(parts)
        again = await keyed(parts)
        assert (bytes(first.output), first.replayed) == (b"x", False)
        assert (bytes(again.output), again.replayed, again.duration_us) == (b"x", True, first.duration_us)
        assert parts.engine.starts == 1
        assert parts.meters.function("f").replayed == 1

    play(tmp_path, scenario)


def test_a_repeat_after_a_restart_gets_the_stored_outcome(tmp_path: Path) -> None:
    async def first(parts: Rig) -> None:
        await keyed(parts, b"y" * 100_000)

    async def second(parts: Rig) -> None:
        again = await keyed(parts, b"y" * 100_000)
        assert again.replayed
        assert again.output == b"y" * 100_000
        assert parts.engine.starts == 0

    play(tmp_path, first)
    play(tmp_path, second)


def test_a_guest_failure_is_an_outcome(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        first = keyed(parts)
        await held_call(parts)
        parts.engine.calls[0].end(error=GuestExit("exit 3", hint="h", exit_code=3, stderr="tail"))
        with pytest.raises(GuestExit) as failed:
            await first
        with pytest.raises(GuestExit) as again:
            await keyed(parts)
        problem = again.value.problem()
        assert problem.pop("replayed") is True
        assert problem == failed.value.problem()
        assert parts.engine.starts == 1

    play(tmp_path, scenario)


def test_what_the_node_caused_is_no_outcome(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.refuse = Busy("no slot")
        with pytest.raises(Busy):
            await keyed(parts)
        parts.engine.refuse = None
        assert not (await keyed(parts)).replayed

    play(tmp_path, scenario)


def test_repeats_of_a_run_under_way_join_it(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        tasks = [keyed(parts) for _ in range(5)]
        await held_call(parts)
        parts.engine.calls[0].end(b"one")
        results = [await task for task in tasks]
        assert [bytes(result.output) for result in results] == [b"one"] * 5
        assert [result.replayed for result in results] == [False, True, True, True, True]
        assert parts.engine.starts == 1

    play(tmp_path, scenario)


def test_a_key_of_another_request_is_refused(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        first = keyed(parts)
        await held_call(parts)
        others: list[Any] = [
            parts.invoker.invoke("f", b"other", idempotency_key="k"),
            parts.invoker.invoke("g", b"x", idempotency_key="k"),
            parts.invoker.invoke("f", b"x", ["arg"], idempotency_key="k"),
            parts.invoker.submit("f", b"other", idempotency_key="k"),
        ]
        for ask in others:
            with pytest.raises(KeyReused):
                await ask
        parts.engine.calls[0].end()
        await first
        with pytest.raises(KeyReused):
            await keyed(parts, b"other")

    play(tmp_path, scenario)


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_has_a_length(tmp_path: Path, key: str) -> None:
    async def scenario(parts: Rig) -> None:
        with pytest.raises(BadRequest):
            await keyed(parts, key=key)

    play(tmp_path, scenario)


def test_the_run_ends_when_all_who_wait_have_left(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        one, two = keyed(parts), keyed(parts)
        await held_call(parts)
        one.cancel()
        await turns()
        assert not parts.engine.calls[0].future.done()
        two.cancel()
        await turns()
        assert parts.engine.calls[0].future.cancelled()
        parts.engine.mode = "quick"
        assert not (await keyed(parts)).replayed

    play(tmp_path, scenario)


def test_whoever_arrives_while_a_run_is_being_stopped_runs_anew(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        one = keyed(parts)
        await held_call(parts)
        one.cancel()
        await asyncio.sleep(0)  # its flight is cancelled and not yet gone
        two = keyed(parts)
        await held_call(parts, 1)
        parts.engine.calls[1].end(b"anew")
        assert bytes((await two).output) == b"anew"

    play(tmp_path, scenario)


def test_those_who_join_have_their_own_deadline(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        patient = keyed(parts)
        await held_call(parts)
        with pytest.raises(DeadlineExceeded, match="earlier request"):
            await keyed(parts, wall_ms=5)
        parts.engine.calls[0].end()
        assert not (await patient).replayed

    play(tmp_path, scenario)


def test_a_deadline_of_the_first_is_not_that_of_the_others(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        hasty, patient = keyed(parts, wall_ms=10_000), keyed(parts)
        await held_call(parts)
        parts.engine.calls[0].end(error=DeadlineExceeded("too slow"))
        with pytest.raises(DeadlineExceeded):
            await hasty
        await held_call(parts, 1)
        parts.engine.calls[1].end(b"second")
        assert bytes((await patient).output) == b"second"

    play(tmp_path, scenario)


def test_nothing_is_answered_that_is_not_on_the_disk(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        pages = await parts.store.write(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await parts.store.write(lambda c: c.execute(f"PRAGMA max_page_count={pages}").fetchone())
        with pytest.raises(StorageFull):
            await keyed(parts, b"z" * 50_000)
        await parts.store.write(lambda c: c.execute("PRAGMA max_page_count=100000").fetchone())
        assert not (await keyed(parts, b"z" * 50_000)).replayed
        assert (await keyed(parts, b"z" * 50_000)).replayed

    play(tmp_path, scenario)


def test_a_synchronous_repeat_joins_an_async_invocation(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        invocation = await parts.invoker.submit("f", b"x", idempotency_key="k")
        repeat = keyed(parts)
        await held_call(parts)
        parts.engine.calls[0].end(b"async")
        result = await repeat
        assert (bytes(result.output), result.replayed) == (b"async", True)
        assert parts.engine.starts == 1
        assert await parts.invoker.submit("f", b"x", idempotency_key="k") == invocation

    play(tmp_path, scenario)


def test_a_deadline_passes_while_an_async_invocation_runs(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        invocation = await parts.invoker.submit("f", b"x", idempotency_key="k")
        await held_call(parts)
        with pytest.raises(DeadlineExceeded) as late:
            await keyed(parts, wall_ms=20)
        assert late.value.details["invocation"] == invocation
        parts.engine.calls[0].end()

    play(tmp_path, scenario)


def test_an_async_repeat_waits_for_the_synchronous_run(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        first = keyed(parts)
        await held_call(parts)
        repeat = asyncio.ensure_future(parts.invoker.submit("f", b"x", idempotency_key="k"))
        await turns()
        parts.engine.calls[0].end(b"sync")
        await first
        view = await parts.invoker.status(await repeat)
        assert (view.state, view.output) == ("succeeded", b"sync")
        assert parts.engine.starts == 1

    play(tmp_path, scenario)


def test_simultaneous_submissions_of_one_key_are_one_invocation(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        ids = await asyncio.gather(*(parts.invoker.submit("f", b"x", idempotency_key="k") for _ in range(5)))
        assert len(set(ids)) == 1
        result = await keyed(parts)
        assert result.replayed
        assert parts.engine.starts == 1

    play(tmp_path, scenario)


def test_a_synchronous_call_waits_for_a_submission_under_way(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        submitted = asyncio.ensure_future(parts.invoker.submit("f", b"x", idempotency_key="k"))
        await asyncio.sleep(0)
        result = await keyed(parts)
        assert result.replayed
        await submitted
        assert parts.engine.starts == 1

    play(tmp_path, scenario)


def test_a_deadline_passes_while_a_submission_is_under_way(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        go_on = asyncio.Event()
        submit = parts.journal.submit

        async def slow(*args: Any, **more: Any) -> str:
            await go_on.wait()
            return await submit(*args, **more)

        parts.journal.submit = slow  # type: ignore[method-assign]
        submitted = asyncio.ensure_future(parts.invoker.submit("f", b"x", idempotency_key="k"))
        await turns()
        with pytest.raises(DeadlineExceeded):
            await keyed(parts, wall_ms=5)
        go_on.set()
        await submitted

    play(tmp_path, scenario)


def test_a_stop_reaches_everybody(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        tasks = [keyed(parts) for _ in range(3)]
        await held_call(parts)
        await parts.invoker.stop()
        for task in tasks:
            with pytest.raises(Cancelled):
                await task

    play(tmp_path, scenario)


def test_fingerprints_tell_requests_apart() -> None:
    requests: list[tuple[str, bytes, list[str] | None]] = [
        ("f", b"", None),
        ("f", b"", []),
        ("f", b"", [""]),
        ("f", b"a", None),
        ("fa", b"", None),
        ("f", b'["a"]', None),
        ("f", b"", ["a"]),
    ]
    assert len({fingerprint(*request) for request in requests}) == len(requests)
    assert fingerprint("f", memoryview(b"a"), ("x",)) == fingerprint("f", b"a", ["x"])


@pytest.mark.parametrize("problem", [b"{}", b'{"type": "urn:edgeagent:problem:unheard-of", "detail": "d"}'])
def test_a_problem_of_another_version_is_still_a_failure(problem: bytes) -> None:
    record = Record("i", "k", b"", "f", "failed", 0, 1, 0, 0, 0, 0, None, problem, b"", b"")
    with pytest.raises(EdgeError) as failed:
        replayed(record)
    assert type(failed.value) is GuestFailed
