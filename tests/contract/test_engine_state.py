"""What guests ask of edge_state, on both engines; here the test is the node."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import wasmtime

from edgeagent.model.errors import DeadlineExceeded
from edgeagent.runtime.open_engine import open_engine
from edgeagent.runtime.port import Ask, AskKind, Engine, Outcome
from edgeagent.state.guest_layout import Code
from tests.conftest import engine_names
from tests.contract.calls import load, start
from tests.contract.state_calls import INPUT, ROOM, StateProgram, results, room, state_guest

MIB = 1 << 20
MEMORY_BYTES = 256 * 65536
LARGE = bytes(range(251)) * (3 * MIB // 251 + 7)
VERSION = b"18a2.0.node"


@pytest.fixture(params=["pure", "native"])
def fresh(request: pytest.FixtureRequest) -> Engine:
    if request.param not in engine_names():
        pytest.skip("the extension is not built")
    return open_engine(request.param, workers=2, small_slots=16, large_slots=4)


class Node:
    """Answers with statuses and values, one after the other; keeps what was asked."""

    def __init__(
        self, engine: Engine, *answers: int | bytes | tuple[int, bytes], lease: bool = False
    ) -> None:
        self.engine = engine
        self.answers = list(answers)
        self.lease = lease
        self.asks: list[Ask] = []
        self.values: list[bytes] = []
        engine.attach(asyncio.get_running_loop())
        engine.serve(self.asked, lambda call_id: None)

    def asked(self, ask: Ask) -> None:
        self.asks.append(ask)
        if ask.payload is not None:
            self.values.append(bytes(ask.payload.read()))
            ask.payload.close()
        if not self.answers:
            return
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            self.engine.answer(ask.call_id, answer)
            return
        status, data = (0, answer) if isinstance(answer, bytes) else answer
        if self.lease:
            lease = self.engine.lease(len(data))
            with lease.view as view:
                view[: len(data)] = data
            payload = lease.publish(len(data))
        else:
            payload = self.engine.payload_of(data)
        self.engine.answer(ask.call_id, status, payload)
        payload.close()


def run(engine: Engine, body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        try:
            await body()
        finally:
            engine.close()
            assert engine.stats().live_instances == 0

    asyncio.run(main())


async def played(engine: Engine, compiled: Any, p: StateProgram, **more: Any) -> Outcome:
    function = load(engine, compiled, state_guest(), memory_bytes=32 * MIB, output_bytes=32 * MIB)
    return await start(function, p.encoded(), **more)


def test_every_call_reaches_the_node(fresh: Engine, compiled: Any) -> None:
    context = object()

    async def body() -> None:
        node = Node(fresh, Code.NONE, 3, 1, b"listing", b"listing", (2, VERSION), b"reply", VERSION)
        p = StateProgram()
        key, prefix, value = p.text("tasks/ä".encode()), p.text(b"tasks/"), p.text(b"value")
        version, group = p.text(b"1.0.a".ljust(96, b"\0")), p.text(b"a group")
        p.call("get", *key, ROOM, 16)
        p.call("put", *key, *value, 5)
        p.call("delete", *key)
        p.call("list", *prefix, ROOM, 16)
        p.call("list_after", *prefix, *key, ROOM, 16)
        p.call("cas", *key, version[0], *value)
        p.call("group", *group, ROOM, 16)
        p.call("version", *key, ROOM, 16)
        found = results(await played(fresh, compiled, p, context=context), 8)
        assert found == [Code.NONE, 3, 1, 7, 7, 2, 5, len(VERSION)]
        assert [(ask.kind, ask.name.decode(), ask.slot, ask.extra) for ask in node.asks] == [
            (AskKind.STATE_GET, "tasks/ä", 0, b""),
            (AskKind.STATE_PUT, "tasks/ä", 5, b""),
            (AskKind.STATE_DELETE, "tasks/ä", 0, b""),
            (AskKind.STATE_LIST, "tasks/", 0, b""),
            (AskKind.STATE_LIST, "tasks/", 0, "tasks/ä".encode()),
            (AskKind.STATE_CAS, "tasks/ä", 0, b"1.0.a"),
            (AskKind.STATE_GROUP, "", 0, b""),
            (AskKind.STATE_VERSION, "tasks/ä", 0, b""),
        ]
        assert node.values == [b"value", b"value", b"a group"]
        assert all(ask.context is context for ask in node.asks)

    run(fresh, body)


def test_a_value_that_does_not_fit_is_told_and_can_be_had(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        node = Node(fresh, b"sixteen bytes ok", b"other", b"sixteen bytes ok", b"second")
        p = StateProgram(show=32)
        key, other = p.text(b"a"), p.text(b"b")
        p.call("fill", ROOM, 0x2E, 32)
        p.call("get", *key, 0, 0)
        p.call("get", *key, ROOM, 32)  # the one that was told
        p.call("get", *other, ROOM + 16, 2)  # nothing is written
        p.call("get", *key, ROOM + 20, 4)  # told nobody: it is asked for
        p.call("get", *key, ROOM + 20, 5)  # still too small, so it is asked for again
        outcome = await played(fresh, compiled, p)
        assert results(outcome, 6) == [0, 16, 16, 5, 16, 6]
        assert room(outcome) == b"sixteen bytes ok" + b"." * 16
        assert len(node.asks) == 4

    run(fresh, body)


def test_an_empty_value_is_no_missing_one(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        Node(fresh, b"", 0, (0, b""))
        p = StateProgram()
        key = p.text(b"a")
        p.call("get", *key, 0, 0)
        p.call("put", *key, 0, 0, 0)
        p.call("get", *key, ROOM, 8)
        assert results(await played(fresh, compiled, p), 3) == [0, 0, 0]

    run(fresh, body)


@pytest.mark.parametrize("at", [ROOM, ROOM + 4096, ROOM + 1], ids=["aligned", "by pages", "unaligned"])
@pytest.mark.parametrize("lease", [True, False], ids=["hose", "copy"])
def test_a_large_value_arrives_whole(fresh: Engine, compiled: Any, at: int, lease: bool) -> None:
    async def body() -> None:
        shorter = LARGE[: 2 * MIB + 5]
        Node(fresh, LARGE, shorter[::-1], b"small", lease=lease)
        p = StateProgram(show=4 * MIB)
        key, small = p.text(b"a"), p.text(b"b")
        p.call("fill", at, 0x2E, len(LARGE) + 8)
        p.call("get", *key, at, len(LARGE))
        p.call("get", *key, at, len(LARGE))  # over the first
        p.call("get", *small, at + 70_000, 100)  # and into that one
        outcome = await played(fresh, compiled, p)
        assert results(outcome, 4) == [0, len(LARGE), len(shorter), 5]
        data = room(outcome)[at - ROOM :]
        expected = shorter[:-70_001:-1] + b"small" + shorter[-70_006::-1]
        assert data[: len(shorter)] == expected
        if fresh.accelerated and lease and at % 4096 == 0:
            assert outcome.hose[2] > 4 * MIB  # mapped
        again = StateProgram(show=4 * MIB)
        again.call("fill", ROOM, 0, 1)
        clean = await played(fresh, compiled, again)
        assert not any(room(clean)), "the next instance reads zeros"

    run(fresh, body)


@pytest.mark.parametrize("count", [1, 300_000, 3 * MIB])
def test_what_is_put_is_what_was_there(fresh: Engine, compiled: Any, count: int) -> None:
    async def body() -> None:
        node = Node(fresh, 0, 0)
        p = StateProgram()
        key = p.text(b"a")
        p.call("fill", ROOM, 7, count)
        p.call("put", *key, ROOM, count, 0)
        p.call("fill", ROOM, 9, count)  # changes nothing of it
        p.call("put", *key, ROOM, count, 0)
        await played(fresh, compiled, p)
        assert node.values == [b"\x07" * count, b"\x09" * count]

    run(fresh, body)


@pytest.mark.parametrize("status", [0, Code.VERSION])
def test_cas_writes_the_version_back(fresh: Engine, compiled: Any, status: int) -> None:
    async def body() -> None:
        Node(fresh, (status, VERSION), (status, b""))
        p = StateProgram(show=192)
        key = p.text(b"a")
        p.call("fill", ROOM, 0x2E, 192)
        p.call("fill", ROOM + 3, 0, 1)
        p.call("cas", *key, ROOM, ROOM, 1)
        p.call("cas", *key, ROOM + 96, ROOM, 1)
        outcome = await played(fresh, compiled, p)
        assert results(outcome, 4)[2:] == [status, status]
        assert room(outcome) == VERSION.ljust(192, b"\0")

    run(fresh, body)


def test_a_version_is_padded_where_there_is_room(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        Node(fresh, VERSION, VERSION, VERSION)
        p = StateProgram(show=128)
        key = p.text(b"a")
        p.call("fill", ROOM, 0x2E, 128)
        p.call("version", *key, ROOM, 96)
        p.call("version", *key, ROOM + 100, len(VERSION))
        p.call("version", *key, ROOM + 120, 2)
        outcome = await played(fresh, compiled, p)
        assert results(outcome, 4)[1:] == [len(VERSION)] * 3
        assert room(outcome) == VERSION.ljust(96, b"\0") + b"...." + VERSION + b"." * (28 - len(VERSION))

    run(fresh, body)


def test_a_group_is_done_once_and_its_reply_waits(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        node = Node(fresh, b"a reply", b"another", 0)
        p = StateProgram(show=16)
        group, key = p.text(b"group"), p.text(b"a")
        calls = [
            p.call("group", 0, 0, ROOM, 16),
            p.call("group", *group, ROOM, 3),
            p.call("group", 0, 0, ROOM, 6),
            p.call("group", 0, 0, ROOM, 7),
            p.call("group", 0, 0, ROOM, 7),
            p.call("group", *group, 0, 0),
            p.call("delete", *key),  # forgets it
            p.call("group", 0, 0, ROOM, 7),
        ]
        outcome = await played(fresh, compiled, p)
        assert results(outcome, len(calls)) == [Code.BAD, 7, 7, 7, Code.BAD, 7, 0, Code.BAD]
        assert room(outcome)[:7] == b"a reply"
        assert len(node.asks) == 3

    run(fresh, body)


def test_nonsense_is_refused_without_asking(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        node = Node(fresh)
        p = StateProgram()
        key, out = p.text(b"a"), 0xFFFFFFF0
        calls = {
            p.call("get", out, 64, ROOM, 16): Code.RANGE,
            p.call("get", INPUT, 513, ROOM, 16): Code.BAD,
            p.call("get", *key, out, 1): Code.RANGE,
            p.call("get", *key, MEMORY_BYTES - 7, 8): Code.RANGE,
            p.call("put", out, 64, ROOM, 1, 0): Code.RANGE,
            p.call("put", *key, out, 64, 0): Code.RANGE,
            p.call("put", *key, 0, 0x80000000, 0): Code.RANGE,
            p.call("put", *key, 0, 0xFFFFFFFF, 0): Code.RANGE,
            p.call("delete", out, 64): Code.RANGE,
            p.call("delete", INPUT, 0xFFFFFFFF): Code.BAD,
            p.call("list", out, 1, ROOM, 1): Code.RANGE,
            p.call("list_after", *key, out, 9, ROOM, 1): Code.RANGE,
            p.call("list_after", *key, INPUT, 600, ROOM, 1): Code.BAD,
            p.call("list", *key, ROOM, 0xFFFFFFFF): Code.RANGE,
            p.call("cas", *key, out, ROOM, 1): Code.RANGE,
            p.call("cas", *key, MEMORY_BYTES - 95, ROOM, 1): Code.RANGE,
            p.call("cas", *key, ROOM, out, 64): Code.RANGE,
            p.call("group", out, 64, ROOM, 1): Code.RANGE,
            p.call("group", ROOM, 8, out, 64): Code.RANGE,
            p.call("version", *key, out, 96): Code.RANGE,
            p.call("version", INPUT, 513, 0, 0): Code.BAD,
        }
        found = results(await played(fresh, compiled, p), len(calls))
        assert found == [int(code) for code in calls.values()]
        assert node.asks == []

    run(fresh, body)


def test_where_nobody_keeps_state(fresh: Engine, compiled: Any) -> None:
    """A synchronous call has nobody to ask, nor has a call of an engine that nobody serves."""

    async def body() -> None:
        fresh.attach(asyncio.get_running_loop())
        p = StateProgram()
        key = p.text(b"a")
        p.call("get", *key, 0, 0)
        p.call("cas", *key, ROOM, ROOM, 0)
        p.call("group", ROOM, 8, 0, 0)
        assert results(await played(fresh, compiled, p), 3) == [Code.OFF] * 3
        function = load(fresh, compiled, state_guest(), memory_bytes=32 * MIB)
        assert results(await asyncio.to_thread(function.call, p.encoded()), 3) == [Code.OFF] * 3

    run(fresh, body)


def test_an_answer_without_its_value_is_a_failure(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        Node(fresh, 0, 0, 0, 0)
        p = StateProgram()
        key = p.text(b"a")
        p.call("get", *key, ROOM, 8)
        p.call("list", *key, ROOM, 8)
        p.call("version", *key, ROOM, 8)
        p.call("group", *key, ROOM, 8)
        assert results(await played(fresh, compiled, p), 4) == [Code.FAILED] * 4

    run(fresh, body)


def test_a_guest_that_waits_for_state_ends_at_its_deadline(fresh: Engine, compiled: Any) -> None:
    async def body() -> None:
        node = Node(fresh)
        p = StateProgram()
        p.call("get", *p.text(b"a"), 0, 0)
        late = await played(fresh, compiled, p, wall_ms=30)
        assert isinstance(late.error, DeadlineExceeded)
        fresh.answer(node.asks[0].call_id, Code.NONE)  # too late, and dropped

    run(fresh, body)


def test_a_start_function_has_no_state(engine: Engine, compiled: Any) -> None:
    guest = wasmtime.wat2wasm("""(module
      (import "edge_state" "get" (func $get (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func $first (i32.store (i32.const 0)
        (call $get (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0))))
      (start $first)
      (func (export "edge_alloc") (param i32) (result i32) (i32.const 64))
      (func (export "edge_handle") (param i32 i32) (result i64) (i64.const 4)))""")
    outcome = load(engine, compiled, bytes(guest), memory_bytes=MIB).call(b"")
    assert int.from_bytes(bytes(outcome.output), "little", signed=True) == Code.BAD
