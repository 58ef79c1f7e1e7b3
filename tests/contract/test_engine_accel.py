"""What guests ask of edge_accel, on both engines; here the test is the node."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from edgeagent.accel.guest_layout import Code
from edgeagent.model.errors import DeadlineExceeded
from edgeagent.runtime.open_engine import open_engine
from edgeagent.runtime.port import Ask, AskKind, Engine, Outcome, Window
from tests.conftest import engine_names
from tests.contract.accel_calls import DATA, PAGES, accel_guest, program, result
from tests.contract.calls import load, start

BYTES = PAGES * 65536


@pytest.fixture(params=["pure", "native"])
def fresh(request: pytest.FixtureRequest) -> Engine:
    if request.param not in engine_names():
        pytest.skip("the extension is not built")
    return open_engine(request.param, workers=2, small_slots=16, large_slots=4)


class Node:
    """``does`` gets each ask; the guest waits until ``answer``."""

    def __init__(self, engine: Engine, does: Callable[[Ask], int | bytes | None]) -> None:
        self.engine = engine
        self.does = does
        self.asks: list[Ask] = []
        self.has_asked = asyncio.Event()
        self.has_ended = asyncio.Event()
        engine.attach(asyncio.get_running_loop())
        engine.serve(self.asked, lambda call_id: self.has_ended.set())

    def asked(self, ask: Ask) -> None:
        self.asks.append(ask)
        answer = self.does(ask)
        if isinstance(answer, int):
            self.engine.answer(ask.call_id, answer)
        elif answer is not None:
            payload = self.engine.payload_of(answer)
            self.engine.answer(ask.call_id, 0, payload)
            payload.close()
        self.has_asked.set()


def run(engine: Engine, body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        try:
            await body()
        finally:
            engine.close()
            assert engine.stats().live_instances == 0

    asyncio.run(main())


async def played(engine: Engine, compiled: Any, body: bytes, **more: Any) -> Outcome:
    return await start(load(engine, compiled, accel_guest(), memory_bytes=BYTES), body, **more)


def window_of(ask: Ask) -> Window:
    assert ask.window is not None
    return ask.window


def call_of(name: bytes, described: bytes, show: int = 0) -> bytes:
    data = name + described
    return program("call", DATA, len(name), DATA + len(name), len(described), data=data, show=show)


def test_the_node_works_in_the_guests_memory(fresh: Engine, compiled: Any) -> None:
    context = object()

    def does(ask: Ask) -> int:
        window = window_of(ask)
        memory = window.enter()
        assert (window.size, len(memory), memory.readonly, memory.format) == (BYTES, BYTES, False, "B")
        assert bytes(memory[DATA : DATA + 6]) == b"kernel"
        memory[DATA + 16 : DATA + 24] = b"in place"
        memory.release()
        window.leave()
        return 0

    async def body() -> None:
        node = Node(fresh, does)
        told = result(
            await played(fresh, compiled, call_of(b"kernel", b"described", show=24), context=context)
        )
        assert told == (0, b"kerneldescribed\0in place")
        ask = node.asks[0]
        assert (ask.kind, ask.name, ask.extra, ask.context) == (
            AskKind.ACCEL_CALL,
            b"kernel",
            b"described",
            context,
        )

    run(fresh, body)


@pytest.mark.parametrize("code", [Code.NONE, Code.EXPRESSION])
def test_a_code_is_what_the_call_returns(fresh: Engine, compiled: Any, code: Code) -> None:
    async def body() -> None:
        Node(fresh, lambda ask: int(code))
        assert result(await played(fresh, compiled, call_of(b"k", b"d")))[0] == code

    run(fresh, body)


@pytest.mark.parametrize(
    ("function", "args", "code"),
    [
        ("call", (DATA, 0, DATA, 1), Code.BAD),
        ("call", (DATA, 65, DATA, 1), Code.BAD),
        ("call", (DATA, 1, DATA, 4097), Code.BAD),
        ("call", (DATA, -1, DATA, 1), Code.BAD),
        ("call", (BYTES, 1, DATA, 1), Code.RANGE),
        ("call", (BYTES - 1, 2, DATA, 1), Code.RANGE),
        ("call", (-1, 1, DATA, 1), Code.RANGE),
        ("call", (DATA, 1, BYTES - 3, 4), Code.RANGE),
        ("call", (DATA, 1, -4, 4), Code.RANGE),
        ("query", (BYTES - 3, 4), Code.RANGE),
        ("query", (0, -1), Code.RANGE),
    ],
)
def test_a_bad_range_asks_nothing(
    fresh: Engine, compiled: Any, function: str, args: tuple[int, ...], code: Code
) -> None:
    async def body() -> None:
        node = Node(fresh, lambda ask: 0)
        assert result(await played(fresh, compiled, program(function, *args)))[0] == code
        assert not node.asks

    run(fresh, body)


def test_what_there_is_is_told_where_it_fits(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        Node(fresh, lambda ask: b"twelve bytes")
        assert result(await played(fresh, compiled, program("query", 0, 0))) == (12, b"")
        for cap, wanted in ((12, b"twelve bytes"), (11, b"." * 12), (64, b"twelve bytes")):
            asks = program("query", DATA, cap, data=b"." * 12, show=12)
            assert result(await played(fresh, compiled, asks)) == (12, wanted)
        Node(fresh, lambda ask: int(Code.OFF))
        assert result(await played(fresh, compiled, program("query", 0, 0)))[0] == Code.OFF
        Node(fresh, lambda ask: 0)
        assert result(await played(fresh, compiled, program("query", 0, 0)))[0] == Code.FAILED

    run(fresh, body)


@pytest.mark.parametrize("body", [call_of(b"k", b"d"), program("query", 0, 0)])
def test_nobody_to_ask_is_told(fresh: Engine, compiled: Any, body: bytes) -> None:
    async def scenario() -> None:
        fresh.attach(asyncio.get_running_loop())
        function = load(fresh, compiled, accel_guest(), memory_bytes=BYTES)
        assert result(await start(function, body))[0] == Code.OFF
        assert result(await asyncio.to_thread(function.call, body))[0] == Code.OFF

    run(fresh, scenario)


def test_a_start_function_has_nothing_to_work_on(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        node = Node(fresh, lambda ask: 3)
        function = load(fresh, compiled, accel_guest(early=True), memory_bytes=BYTES)
        assert result(await start(function, call_of(b"k", b"d")))[0] == 3
        assert len(node.asks) == 1

    run(fresh, body)


def test_the_memory_outlives_the_deadline_while_somebody_works_there(fresh: Engine, compiled: Any) -> None:
    inside: list[memoryview] = []

    def does(ask: Ask) -> None:
        inside.append(window_of(ask).enter())

    async def body() -> None:
        node = Node(fresh, does)
        call = asyncio.ensure_future(played(fresh, compiled, call_of(b"k", b"d"), wall_ms=300))
        await node.has_asked.wait()
        done, _ = await asyncio.wait({call}, timeout=0.6)  # twice its deadline
        assert not done
        assert fresh.stats().live_instances == 1
        memory, window = inside.pop(), window_of(node.asks[0])
        memory[:] = b"\x5a" * BYTES
        memory.release()
        window.leave()
        assert isinstance((await call).error, DeadlineExceeded)
        with pytest.raises(ValueError, match="over"):
            window.enter()
        fresh.answer(node.asks[0].call_id, 0)  # of a call that is over: dropped

    run(fresh, body)


def test_a_cancelled_guest_waits_for_those_inside(fresh: Engine, compiled: Any) -> None:
    inside: list[memoryview] = []

    def does(ask: Ask) -> None:
        inside.append(window_of(ask).enter())

    async def body() -> None:
        node = Node(fresh, does)
        call = load(fresh, compiled, accel_guest(), memory_bytes=BYTES).start(call_of(b"k", b"d"))
        assert isinstance(call, asyncio.Future)
        await node.has_asked.wait()
        call.cancel()
        memory, window = inside.pop(), window_of(node.asks[0])
        assert fresh.stats().live_instances == 1
        memory[:] = b"\x5a" * BYTES
        memory.release()
        window.leave()
        await node.has_ended.wait()
        with pytest.raises(ValueError, match="over"):
            window.enter()

    run(fresh, body)


def test_a_window_that_nobody_entered_holds_nobody(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        node = Node(fresh, lambda ask: None)
        outcome = await played(fresh, compiled, call_of(b"k", b"d"), wall_ms=300)
        assert isinstance(outcome.error, DeadlineExceeded)
        with pytest.raises(ValueError, match="over"):
            window_of(node.asks[0]).enter()

    run(fresh, body)


def test_an_engine_that_closes_waits_for_those_inside(fresh: Engine, compiled: Any) -> None:
    inside: list[memoryview] = []

    def does(ask: Ask) -> None:
        inside.append(window_of(ask).enter())

    async def body() -> None:
        node = Node(fresh, does)
        call = load(fresh, compiled, accel_guest(), memory_bytes=BYTES).start(call_of(b"k", b"d"))
        assert isinstance(call, asyncio.Future)
        await node.has_asked.wait()
        is_written = threading.Event()

        def works() -> None:
            memory = inside.pop()
            memory[:] = b"\x5a" * BYTES
            memory.release()
            is_written.set()
            window_of(node.asks[0]).leave()

        thread = threading.Thread(target=works)
        thread.start()
        fresh.close()
        thread.join()
        assert is_written.is_set()

    run(fresh, body)
