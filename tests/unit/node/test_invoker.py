"""Invocations around an engine that the test drives: permits, deadlines, the hot path, stopping."""

from __future__ import annotations

import asyncio
import time
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
    NotFound,
    Unavailable,
)
from edgeagent.node import invoker as invoker_module
from tests.unit.node.doubles import FakeOutcome, Rig, rig, turns, until

Scenario = Callable[[Rig], Awaitable[None]]


def play(path: Path, scenario: Scenario, **options: Any) -> None:
    async def main() -> None:
        async with rig(path, **options) as parts:
            await parts.deploy("f", concurrency=1)
            await scenario(parts)

    asyncio.run(main())


def begin(parts: Rig, body: bytes = b"x", **more: float) -> asyncio.Task[bytes]:
    async def one() -> bytes:
        return bytes((await parts.invoker.invoke("f", body, **more)).output)  # type: ignore[arg-type]

    return asyncio.ensure_future(one())


async def error_of(task: asyncio.Future[bytes]) -> EdgeError:
    with pytest.raises(EdgeError) as caught:
        await task
    return caught.value


def test_a_call_comes_back_with_what_it_cost(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        result = await parts.invoker.invoke("f", b"abc", ["a"], 5000)
        assert (bytes(result.output), result.duration_us, result.replayed) == (b"abc", 5, False)
        call = parts.engine.calls[0]
        assert call.args == ["a"]
        assert 4000 < call.wall_ms <= 5000
        meter = parts.meters.function("f")
        assert (meter.durations.count, meter.bytes_in, meter.bytes_out, meter.inline) == (1, 3, 3, 0)

    play(tmp_path, scenario)


def test_an_unknown_function_is_not_found(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        assert parts.invoker.try_invoke("absent", b"") is None
        for ask in (
            parts.invoker.invoke("absent", b""),
            parts.invoker.invoke("absent", b"", idempotency_key="k"),
            parts.invoker.submit("absent", b""),
            parts.invoker.status("absent"),
        ):
            with pytest.raises(NotFound):
                await ask

    play(tmp_path, scenario)


def test_a_guest_that_fails_raises_its_error_and_is_counted(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        task = begin(parts)
        await until(lambda: parts.engine.calls)
        parts.engine.calls[0].end(error=GuestExit("exit 3", exit_code=3))
        assert (await error_of(task)).details["exit_code"] == 3
        assert parts.meters.function("f").failures == {"guest-exit": 1}

    play(tmp_path, scenario)


def test_one_at_a_time_in_the_order_of_arrival(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        tasks = [begin(parts, bytes([n])) for n in range(4)]
        for n in range(4):
            await until(lambda n=n: len(parts.engine.calls) == n + 1)  # type: ignore[misc]
            await turns()
            assert len(parts.engine.calls) == n + 1
            assert parts.engine.calls[n].body == bytes([n])
            parts.engine.calls[n].end()
        assert await asyncio.gather(*tasks) == [b"\0", b"\1", b"\2", b"\3"]
        assert parts.meters.function("f").waits.count == 3

    play(tmp_path, scenario)


def test_a_full_queue_refuses_with_a_time_to_come_back(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        running, waiting = begin(parts), begin(parts)
        await until(lambda: parts.functions.queue.waiting)
        refused = await error_of(begin(parts))
        assert isinstance(refused, Busy)
        assert refused.retry_after_s
        for n in range(2):
            await until(lambda n=n: len(parts.engine.calls) > n)  # type: ignore[misc]
            parts.engine.calls[n].end()
        await asyncio.gather(running, waiting)
        assert parts.meters.function("f").failures == {"queue-full": 1}

    play(tmp_path, scenario, queue__depth_max="1")


def test_a_deadline_that_passes_in_the_queue_never_runs(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        running = begin(parts)
        await until(lambda: parts.engine.calls)
        assert isinstance(await error_of(begin(parts, wall_ms=5)), DeadlineExceeded)
        parts.engine.calls[0].end()
        await running
        assert len(parts.engine.calls) == 1

    play(tmp_path, scenario)


def test_waiting_counts_against_the_deadline(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        running, waiting = begin(parts), begin(parts, wall_ms=20_000)
        await until(lambda: parts.functions.queue.waiting)
        await asyncio.sleep(0.02)
        parts.engine.calls[0].end()
        await until(lambda: len(parts.engine.calls) == 2)
        assert 0 < parts.engine.calls[1].wall_ms <= 19_980
        parts.engine.calls[1].end()
        await asyncio.gather(running, waiting)

    play(tmp_path, scenario)


def test_a_call_that_waits_too_long_is_refused(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        running = begin(parts)
        await until(lambda: parts.engine.calls)
        refused = await error_of(begin(parts))
        assert isinstance(refused, Busy)
        assert "wait_ms_max" in refused.message
        assert isinstance(await error_of(begin(parts, wall_ms=60_000)), Busy)
        parts.engine.calls[0].end()
        await running

    play(tmp_path, scenario, queue__wait_ms_max="5")


def test_a_deadline_that_passes_between_permit_and_start(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        await begin(parts)
        with pytest.raises(DeadlineExceeded):
            await parts.invoker._start(parts.functions.entries["f"], b"", None, time.monotonic() - 1)
        assert parts.engine.starts == 1

    play(tmp_path, scenario)


def test_a_caller_who_leaves_the_queue_gives_up_the_place(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        running, leaves, stays = begin(parts), begin(parts), begin(parts, b"stays")
        await until(lambda: parts.functions.queue.waiting == 2)
        leaves.cancel()
        await turns()
        assert parts.functions.queue.waiting == 1
        parts.engine.calls[0].end()
        await until(lambda: len(parts.engine.calls) == 2)
        assert parts.engine.calls[1].body == b"stays"
        parts.engine.calls[1].end()
        await asyncio.gather(running, stays)
        assert leaves.cancelled()

    play(tmp_path, scenario)


def test_a_caller_who_leaves_at_the_moment_of_the_grant_passes_it_on(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        running, leaves, stays = begin(parts), begin(parts), begin(parts, b"stays")
        await until(lambda: parts.functions.queue.waiting == 2)
        ticket = next(iter(parts.functions.entries["f"].admission.queue))
        parts.engine.calls[0].end()
        while not ticket.granted:  # noqa: ASYNC110 - the very turn of the grant matters
            await asyncio.sleep(0)
        leaves.cancel()
        await until(lambda: len(parts.engine.calls) == 2)
        assert leaves.cancelled()
        assert parts.engine.calls[1].body == b"stays"
        parts.engine.calls[1].end()
        assert [await running, await stays] == [b"x", b"stays"]

    play(tmp_path, scenario)


def test_a_caller_who_leaves_stops_the_guest(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        task = begin(parts)
        await until(lambda: parts.engine.calls)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert parts.engine.calls[0].future.cancelled()
        parts.engine.mode = "quick"
        assert await begin(parts, b"next") == b"next"

    play(tmp_path, scenario)


def test_an_engine_that_refuses_leaves_no_permit_behind(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.refuse = Busy("no slot", retry_after_s=1)
        assert isinstance(await error_of(begin(parts)), Busy)
        parts.engine.refuse = None
        assert await begin(parts) == b"x"

    play(tmp_path, scenario)


# -- the hot path ---------------------------------------------------------------------------------------------------


async def make_short(parts: Rig, body: bytes = b"x") -> None:
    parts.engine.mode = "inline"
    assert parts.invoker.try_invoke("f", body) is None  # no history yet
    assert (await parts.invoker.invoke("f", body)).inline


def test_a_short_function_is_answered_at_once(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        await make_short(parts)
        result = parts.invoker.try_invoke("f", b"y")
        assert result is not None
        assert (bytes(result.output), result.inline, result.cold) == (b"y", True, False)
        assert parts.invoker.try_invoke("f", b"much longer") is None  # another size, no history
        assert parts.meters.function("f").inline == 2

    play(tmp_path, scenario)


def test_a_short_function_that_fails_raises_at_once(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        await make_short(parts)
        parts.engine.inline_outcome = FakeOutcome(error=GuestExit("exit 1"), inline=True)
        with pytest.raises(GuestExit):
            parts.invoker.try_invoke("f", b"y")

    play(tmp_path, scenario)


def test_a_run_that_was_handed_over_is_picked_up_and_not_repeated(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        await make_short(parts)
        parts.engine.mode = "held"
        assert parts.invoker.try_invoke("f", b"y", None, 0) is None
        task = begin(parts, b"y")
        await turns()
        assert len(parts.engine.calls) == 1
        parts.engine.calls[0].end(b"once")
        assert await task == b"once"
        assert parts.invoker.try_invoke("f", b"y") is None  # no longer short

    play(tmp_path, scenario)


def test_a_run_that_was_handed_over_is_not_given_to_another_request(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        await make_short(parts)
        parts.engine.mode = "held"
        assert parts.invoker.try_invoke("f", b"y") is None
        task = begin(parts, b"z")
        await turns()
        parts.engine.calls[0].end(b"of y")
        await until(lambda: len(parts.engine.calls) == 2)
        parts.engine.calls[1].end(b"of z")
        assert await task == b"of z"

    play(tmp_path, scenario)


def test_a_run_that_nobody_picks_up_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invoker_module, "STRAY_KEPT_S", 0.001)

    async def scenario(parts: Rig) -> None:
        await make_short(parts)
        parts.engine.mode = "held"
        assert parts.invoker.try_invoke("f", b"y") is None
        await until(parts.engine.calls[0].future.cancelled)
        assert not parts.functions.entries["f"].strays
        await turns()
        assert parts.functions.entries["f"].admission.idle

    play(tmp_path, scenario)


def test_the_hot_path_declines_when_it_would_overtake_or_pile_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(parts: Rig) -> None:
        await make_short(parts)
        starts = parts.engine.starts
        parts.engine.refuse = Unavailable("closed")
        assert parts.invoker.try_invoke("f", b"y") is None
        parts.engine.refuse = None
        monkeypatch.setattr(invoker_module, "STRAYS_MAX", 0)
        assert parts.invoker.try_invoke("f", b"y") is None
        monkeypatch.undo()
        entry = parts.functions.entries["f"]
        entry.admission.enter()
        assert parts.invoker.try_invoke("f", b"y") is None
        entry.leave()
        parts.invoker.draining = True
        assert parts.invoker.try_invoke("f", b"y") is None
        assert parts.engine.starts == starts + 1

    play(tmp_path, scenario)


def test_guest_lines_are_logged_for_functions_that_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    monkeypatch.setattr("edgeagent.node.guest_log.GuestLog.write", lambda self, *line: written.append(line))

    async def scenario(parts: Rig) -> None:
        await parts.deploy("logs", b"bytes logs")
        parts.engine.mode = "inline"
        parts.engine.inline_outcome = FakeOutcome(log=((1, b"hello"),), stderr=b"tail")
        await parts.invoker.invoke("f", b"")
        assert not written
        await parts.invoker.invoke("logs", b"")
        assert written == [("logs", ((1, b"hello"),), b"tail")]

    play(tmp_path, scenario)


# -- draining and stopping ------------------------------------------------------------------------------------------


def test_a_drain_refuses_new_calls_and_waits_for_running_ones(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        running, waiting = begin(parts), begin(parts)
        await until(lambda: parts.functions.queue.waiting)
        drained = asyncio.ensure_future(parts.invoker.drain(20))
        await turns()
        refused = await error_of(begin(parts))
        assert isinstance(refused, Unavailable)
        assert refused.retry_after_s == 5
        with pytest.raises(Unavailable):
            await parts.invoker.submit("f", b"")
        for n in range(2):
            await until(lambda n=n: len(parts.engine.calls) > n)  # type: ignore[misc]
            assert not drained.done()
            parts.engine.calls[n].end()
        assert await drained
        assert [await running, await waiting] == [b"x", b"x"]

    play(tmp_path, scenario)


def test_a_drain_that_takes_too_long_says_so_and_stop_ends_the_rest(tmp_path: Path) -> None:
    async def scenario(parts: Rig) -> None:
        parts.engine.mode = "held"
        running, waiting = begin(parts), begin(parts)
        await until(lambda: parts.functions.queue.waiting)
        assert not await parts.invoker.drain(0.001)
        await parts.invoker.stop()
        for task in (running, waiting):
            assert isinstance(await error_of(task), Cancelled)
        await parts.invoker.stop()

    play(tmp_path, scenario)
