"""What guests ask of the node while they run, on both engines; here the test is the node."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from edgeagent.hose.settings import HoseSettings
from edgeagent.model.errors import Cancelled, DeadlineExceeded
from edgeagent.runtime.open_engine import open_engine
from edgeagent.runtime.port import Ask, AskKind, Engine, Outcome
from tests.conftest import engine_names
from tests.contract.calls import load, start
from tests.contract.hose_calls import HoseProgram, Ref, hose_guest, results

BAD, RANGE, SMALL, END, AGAIN = -1, -2, -3, -7, -8
NAME = b"other"
MIB = 1 << 20


@pytest.fixture(params=["pure", "native"])
def fresh(request: pytest.FixtureRequest) -> Engine:
    if request.param not in engine_names():
        pytest.skip("the extension is not built")
    return open_engine(request.param, workers=2, small_slots=16, large_slots=4)


class Node:
    """Answers asks by ``answers``, one after the other; keeps what was asked."""

    def __init__(self, engine: Engine, *answers: Callable[[Ask], None]) -> None:
        self.engine = engine
        self.answers = list(answers)
        self.asks: list[Ask] = []
        self.sent: list[bytes] = []
        self.ended: list[int] = []
        engine.attach(asyncio.get_running_loop())
        engine.serve(self.asked, self._on_end)
        self._changed = asyncio.Event()

    def _on_end(self, call_id: int) -> None:
        self.ended.append(call_id)
        self._changed.set()

    async def turn(self) -> None:
        """Something new was asked, or a call has ended."""
        await self._changed.wait()
        self._changed.clear()

    async def asked_times(self, count: int) -> None:
        while len(self.asks) < count:
            await self.turn()

    def asked(self, ask: Ask) -> None:
        self.asks.append(ask)
        self._changed.set()
        if ask.payload is not None:
            self.sent.append(bytes(ask.payload.read()))
            ask.payload.close()
        if self.answers:
            self.answers.pop(0)(ask)

    def status(self, status: int) -> Callable[[Ask], None]:
        return lambda ask: self.engine.answer(ask.call_id, status)

    def message(self, data: bytes) -> Callable[[Ask], None]:
        def give(ask: Ask) -> None:
            payload = self.engine.payload_of(data)
            self.engine.answer(ask.call_id, 0, payload)
            payload.close()

        return give


def run(engine: Engine, body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        try:
            await body()
        finally:
            engine.close()
            assert engine.stats().live_instances == 0

    asyncio.run(main())


def program(p: HoseProgram, text: bytes = NAME) -> bytes:
    """The program, and the text behind it: at offset ``p.size()`` of the input."""
    return p.encoded() + text


def about(count: int) -> tuple[HoseProgram, Ref]:
    """A program of ``count`` calls to come, and where the text behind it lies."""
    p = HoseProgram()
    at = p.call("input")
    return p, Ref(at.call, 4 + 28 * (count + 1))


async def asked(engine: Engine, compiled: Any, p: HoseProgram, text: bytes = NAME, **more: Any) -> Outcome:
    function = load(engine, compiled, hose_guest(), memory_bytes=64 * MIB)
    return await start(function, program(p, text), **more)


def test_names_reach_the_node_and_its_answers_the_guest(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        node = Node(fresh)
        node.answers = [node.status(0), node.status(2), node.status(BAD)]
        p, text = about(3)
        for name in ("open", "accept", "close"):
            p.call(name, text, len(NAME))
        assert results(await asked(fresh, compiled, p))[1:] == [0, 2, BAD]
        assert [(ask.kind, ask.name, ask.function) for ask in node.asks] == [
            (kind, NAME, "guest") for kind in (AskKind.OPEN, AskKind.ACCEPT, AskKind.CLOSE)
        ]
        assert node.ended == [node.asks[0].call_id]

    run(fresh, body)


@pytest.mark.parametrize("count", [0, 1, 40_000, 2 * MIB])
@pytest.mark.parametrize("lent", [True, False], ids=["lent", "plain"])
def test_what_is_sent_is_what_was_there(fresh: Engine, compiled: Any, count: int, lent: bool) -> None:
    async def body() -> None:
        node = Node(fresh)
        node.answers = [node.status(0), node.status(0)]
        p, text = about(6)
        at = p.call("loan", count or 1) if lent else p.call("take", count or 1, 16)
        p.call("fill", at, 7, count)
        p.call("to", text, len(NAME))
        first = p.call("send", at, count, 0)
        p.call("fill", at, 9, count)  # the message is sent: this changes nothing of it
        second = p.call("send", at, count, 1)
        found = results(await asked(fresh, compiled, p))
        assert (found[first.call], found[second.call]) == (0, 0)
        assert node.sent == [bytes([7]) * count, bytes([9]) * count]

    run(fresh, body)


@pytest.mark.parametrize("count", [40_000, 3 * MIB])
def test_a_message_is_copied_where_no_hose_is_to_be_had(fresh: Engine, compiled: Any, count: int) -> None:
    async def body() -> None:
        fresh.use_hoses(HoseSettings(pool_bytes_max=0))
        node = Node(fresh)
        node.answers = [node.status(0)]
        p, text = about(5)
        at = p.call("loan", count)
        p.call("fill", at, 7, count)
        p.call("to", text, len(NAME))
        sent = p.call("send", at, count, 0)
        p.call("fill", at, 9, count)
        assert results(await asked(fresh, compiled, p))[sent.call] == 0
        assert node.sent == [bytes([7]) * count]

    run(fresh, body)


@pytest.mark.parametrize("count", [0, 1, 5000, 3 * MIB + 5])
def test_a_message_arrives_whole(fresh: Engine, compiled: Any, count: int) -> None:
    data = bytes(range(256)) * (count // 256 + 1)

    async def body() -> None:
        node = Node(fresh)
        node.answers = [node.message(data[:count]), node.status(END)]
        p = HoseProgram()
        size = p.call("recv_info", 1)
        again = p.call("recv_info", 1)  # it has been told, and waits
        at = p.call("take", count + 8, 65536)
        small = p.call("recv", at, count - 1, 1) if count else again
        got = p.call("recv", at, count + 8, 1)
        after = p.call("recv", at, 1, 1)
        p.call("reply", at, count)
        function = load(fresh, compiled, hose_guest(), memory_bytes=64 * MIB)
        outcome = await start(function, p.encoded())
        assert outcome.error is None
        assert bytes(outcome.output) == data[:count]
        del size, small, got, after
        assert [ask.slot for ask in node.asks] == [1, 1]

    run(fresh, body)


def test_codes_of_receiving(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        node = Node(fresh)
        node.answers = [node.message(b"twelve bytes"), node.status(END), node.status(AGAIN)]
        p = HoseProgram()
        at = p.call("take", 64, 16)
        calls = [
            p.call("recv_info", 2),
            p.call("recv", at, 4, 2),
            p.call("recv", 0xFFFFFFF0, 0x1000, 2),
            p.call("recv", at, 64, 2),
            p.call("recv_info", 2),
            p.call("recv_info", 2 + 256),
            p.call("recv_info", 3),
            p.call("recv_info", -1),
            p.call("recv", at, 64, 77),
        ]
        found = results(await asked(fresh, compiled, p))
        assert [found[c.call] for c in calls] == [12, SMALL, RANGE, 12, END, AGAIN, BAD, BAD, BAD]
        assert [(ask.slot, ask.may_wait) for ask in node.asks] == [(2, True), (2, True), (2, False)]

    run(fresh, body)


def test_nonsense_is_refused_without_asking(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        node = Node(fresh)
        p, text = about(6)
        calls = [
            p.call("open", 0xFFFFFFF0, 64),
            p.call("open", text, 128),
            p.call("to", 0xFFFFFFF0, 64),
            p.call("send", text, 1, 0),
            p.call("to", text, 5),
            p.call("send", text, 0x7FFFFFFF, 0),
        ]
        assert [results(await asked(fresh, compiled, p))[c.call] for c in calls] == [
            RANGE,
            RANGE,
            0,
            RANGE,
            0,
            RANGE,
        ]
        p, text = about(2)
        p.call("to", text, 5)
        p.call("send", text, 1, 2)
        assert results(await asked(fresh, compiled, p))[-1] == BAD
        assert node.asks == []

    run(fresh, body)


def test_a_synchronous_call_has_nobody_to_ask(engine: Engine, compiled: Any) -> None:
    function = load(engine, compiled, hose_guest(), memory_bytes=MIB)
    p, text = about(3)
    p.call("accept", text, len(NAME))
    p.call("to", text, len(NAME))
    p.call("send", text, 1, 0)
    p.call("recv_info", 1)
    outcome = function.call(program(p))
    assert [code for code in results(outcome)[1:] if code] == [BAD, BAD, BAD]


def test_a_guest_that_waits_ends_at_its_deadline_or_when_it_is_cancelled(
    fresh: Engine, compiled: Any
) -> None:
    async def body() -> None:
        node = Node(fresh)
        p = HoseProgram()
        p.call("recv_info", 1)
        for wall_ms in (30, 300, 3000, 30_000):  # on a busy machine it is late before it has asked
            late = await asked(fresh, compiled, p, wall_ms=wall_ms)
            assert isinstance(late.error, DeadlineExceeded)
            if node.asks:
                break
        assert node.ended.count(node.asks[0].call_id) == 1
        ended = len(node.ended)
        fresh.answer(node.asks[0].call_id, 0)  # too late, and dropped
        function = load(fresh, compiled, hose_guest(), memory_bytes=MIB)
        begun = function.start(p.encoded())
        assert isinstance(begun, asyncio.Future)
        await node.asked_times(2)
        begun.cancel()
        assert (await asyncio.gather(begun, return_exceptions=True))[0] is not None
        while len(node.ended) == ended:
            await node.turn()

    run(fresh, body)


def test_more_guests_wait_than_there_are_workers(fresh: Engine, compiled: Any) -> None:
    """Six wait for what the seventh sends; two workers would be two too few."""

    async def body() -> None:
        node = Node(fresh)
        waiting: list[Ask] = []

        def hold(ask: Ask) -> None:
            if ask.kind is AskKind.NEXT:
                waiting.append(ask)
                return
            fresh.answer(ask.call_id, 0)
            for other in waiting:
                node.message(node.sent[-1])(other)

        node.answers = [hold] * 7
        takes = HoseProgram()
        takes.call("recv_info", 1)
        function = load(fresh, compiled, hose_guest(), memory_bytes=MIB)
        takers = [asyncio.ensure_future(start(function, takes.encoded())) for _ in range(6)]
        await node.asked_times(6)
        p, text = about(2)
        p.call("to", text, 5)
        p.call("send", text, 5, 0)
        await asked(fresh, compiled, p)
        assert [results(outcome)[0] for outcome in await asyncio.gather(*takers)] == [5] * 6
        add1 = load(fresh, compiled, "add1")
        outcomes = await asyncio.gather(*(start(add1, bytes([i])) for i in range(50)))
        assert [o.output for o in outcomes] == [bytes([i + 1]) for i in range(50)]
        assert fresh.stats().workers == 2

    run(fresh, body)


def test_closing_the_engine_ends_those_who_wait(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        node = Node(fresh)
        p = HoseProgram()
        p.call("recv_info", 1)
        function = load(fresh, compiled, hose_guest(), memory_bytes=MIB)
        begun = function.start(p.encoded())
        assert isinstance(begun, asyncio.Future)
        await node.asked_times(1)
        fresh.close()
        (ended,) = await asyncio.gather(begun, return_exceptions=True)
        assert isinstance(ended if isinstance(ended, BaseException) else ended.error, Cancelled)

    run(fresh, body)


def test_without_a_node_that_serves_every_ask_is_refused(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        fresh.attach(asyncio.get_running_loop())
        p = HoseProgram()
        p.call("recv_info", 1)
        assert results(await asked(fresh, compiled, p)) == [BAD]

    run(fresh, body)
