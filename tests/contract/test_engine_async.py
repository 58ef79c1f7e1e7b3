"""The engine port on an event loop: inline or on a worker, cancelled, closed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from edgeagent.model import errors
from edgeagent.runtime.open_engine import open_engine
from edgeagent.runtime.port import Engine
from tests.conftest import engine_names
from tests.contract.calls import load, start

WARM_RUNS = 40


@pytest.fixture(params=["pure", "native"])
def fresh(request: pytest.FixtureRequest) -> Engine:
    """An engine of one test's own: it is attached to that test's loop."""
    if request.param not in engine_names():
        pytest.skip("the extension is not built")
    return open_engine(request.param, workers=2, small_slots=16, large_slots=4)


def _run(engine: Engine, body: Any) -> None:
    async def main() -> None:
        engine.attach(asyncio.get_running_loop())
        try:
            await body()
        finally:
            engine.close()
            assert engine.stats().live_instances == 0

    asyncio.run(main())


def test_many_at_once(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        function = load(fresh, compiled, "add1")
        outcomes = await asyncio.gather(*(start(function, bytes([i])) for i in range(200)))
        assert [o.output for o in outcomes] == [bytes([i + 1]) for i in range(200)]

    _run(fresh, body)


def test_short_functions_come_to_run_inline(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        function = load(fresh, compiled, "add1")
        outcomes = [await start(function, b"a") for _ in range(200)]
        assert all(o.output == b"b" for o in outcomes)
        assert not outcomes[0].inline, "first calls go to workers"
        if fresh.accelerated:
            assert any(o.inline for o in outcomes[WARM_RUNS:])
            assert fresh.stats().inline_calls > 0

    _run(fresh, body)


def test_an_inline_call_that_turns_out_long_is_handed_over(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        function = load(fresh, compiled, "long_if_one")
        for _ in range(200):
            await start(function, b"\0")
        begun = function.start(b"\1")
        outcome = await begun if isinstance(begun, asyncio.Future) else begun
        assert outcome.error is None
        assert len(outcome.output) == 3
        assert not outcome.inline

    _run(fresh, body)


def test_commands_run_inline_too(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        function = load(fresh, compiled, "cmd_echo")
        for i in range(100):
            assert (await start(function, bytes([i]))).output == bytes([i])

    _run(fresh, body)


def test_cancelling_stops_the_guest_and_frees_its_worker(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        endless = load(fresh, compiled, "loop", wall_ms=600_000)
        futures = [endless.start(b"") for _ in range(5)]  # more than there are workers
        for future in futures:
            assert isinstance(future, asyncio.Future)
            future.cancel()
        # Both workers must come free for this one to end: nothing else can be seen of a cancelled call.
        outcome = await asyncio.wait_for(start(load(fresh, compiled, "add1"), b"a"), 30)
        assert outcome.output == b"b"

    _run(fresh, body)


def test_cancelling_wakes_a_sleeper(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        sleeper = load(fresh, compiled, "cmd_sleep", wall_ms=600_000)
        futures = [sleeper.start((10**15).to_bytes(8, "little")) for _ in range(2)]
        for future in futures:
            assert isinstance(future, asyncio.Future)
            future.cancel()
        outcome = await asyncio.wait_for(start(load(fresh, compiled, "add1"), b"a"), 30)
        assert outcome.output == b"b"

    _run(fresh, body)


def test_deadlines_count_from_the_request_not_from_the_worker(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        endless = load(fresh, compiled, "loop", wall_ms=200)
        blockers = [start(endless) for _ in range(2)]
        late = start(load(fresh, compiled, "add1"), b"a", wall_ms=50.0)
        outcomes = await asyncio.gather(*blockers, late)
        assert isinstance(outcomes[2].error, errors.DeadlineExceeded)

    _run(fresh, body)


def test_close_ends_what_runs(fresh: Engine, compiled: Any) -> None:
    async def main() -> None:
        fresh.attach(asyncio.get_running_loop())
        endless = load(fresh, compiled, "loop", wall_ms=600_000)
        futures = [endless.start(b"") for _ in range(4)]
        fresh.close()
        outcomes = await asyncio.gather(*futures, return_exceptions=True)  # type: ignore[arg-type]
        for outcome in outcomes:
            error = outcome if isinstance(outcome, BaseException) else outcome.error
            assert isinstance(error, errors.Cancelled)
        fresh.close()
        with pytest.raises(RuntimeError, match="closed"):
            endless.call(b"")

    asyncio.run(main())
    assert fresh.stats().live_instances == 0
