"""Chains on one thread of the engine: what one call gives, the next one gets, and how each of them ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import wasmtime

from edgeagent import native
from edgeagent.hose.settings import TIERS
from edgeagent.model.errors import Cancelled, DeadlineExceeded, GuestTrap
from edgeagent.runtime.open_engine import open_engine
from edgeagent.runtime.port import ChainFunction, Engine
from tests.contract.calls import load
from tests.contract.hose_calls import hose_guest, produce, reader, results

MIB = 1 << 20

Make = Callable[..., ChainFunction]


@pytest.fixture
def make(engine: Engine, compiled: Any) -> Make:
    def made(guest: str = "", **limits: Any) -> ChainFunction:
        limits = {"memory_bytes": 64 * MIB, **limits}
        function = load(engine, compiled, guest or hose_guest(aligned=True), **limits)
        if not isinstance(function, ChainFunction):
            pytest.skip("this engine runs one function a call")
        return function

    return made


def _wait_until(is_so: Callable[[], bool]) -> None:
    begun = time.monotonic()
    while not is_so() and time.monotonic() < begun + 30:
        time.sleep(0)
    assert is_so()


def _wait_until_idle(engine: Engine) -> None:
    """What a worker has to let go of is let go of soon."""
    _wait_until(lambda: engine.stats().live_instances == 0)


@pytest.mark.parametrize("count", [8, 40_000, 300_000, MIB, 2 * MIB, 5 * MIB + 4099])
@pytest.mark.parametrize("lent", [True, False], ids=["lent", "plain"])
def test_two_calls_as_one(make: Make, engine: Engine, count: int, lent: bool) -> None:
    consumer, looks = reader(count)
    first, second = make(), make()
    outcome = first.call_chain([second], produce(count, consumer, lent=lent).encoded() + consumer.encoded())
    found = results(outcome)
    assert [found[look.call] for look in looks] == [0x5A5A5A5A] * 3
    (before,) = outcome.earlier
    total = consumer.size() + count
    assert before.passed_bytes == total
    tier, copied, mapped, _ = outcome.hose
    assert copied + mapped == total
    if total >= 2 * MIB:
        assert TIERS[tier] == ("share" if lent else "flip")
    _wait_until_idle(engine)


@pytest.mark.parametrize("lent", [True, False], ids=["lent", "plain"])
def test_what_is_handed_on_twice(make: Make, lent: bool) -> None:
    consumer, looks = reader(3 * MIB)
    program = produce(3 * MIB, consumer, lent=lent).encoded() + consumer.encoded()
    outcome = make().call_chain([make("echo"), make()], program)
    found = results(outcome)
    assert [found[look.call] for look in looks] == [0x5A5A5A5A] * 3
    assert [one.passed_bytes for one in outcome.earlier] == [3 * MIB + consumer.size()] * 2


def test_the_output_may_stay_where_it_is(make: Make) -> None:
    consumer, _ = reader(MIB)
    program = produce(2 * MIB, consumer, lent=True)
    outcome = make("echo").call_chain([make()], program.encoded() + consumer.encoded(), keep=True)
    assert outcome.payload is not None
    assert outcome.payload.size == 2 * MIB + consumer.size()
    outcome.payload.close()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_the_call_that_fails_ends_the_chain(make: Make, engine: Engine, at: int) -> None:
    functions = [make("trap" if i == at else "echo") for i in range(3)]
    outcome = functions[0].call_chain(functions[1:], b"x" * 40_000)
    assert isinstance(outcome.error, GuestTrap)
    assert len(outcome.earlier) == at
    _wait_until_idle(engine)


def test_one_deadline_for_all(make: Make, engine: Engine) -> None:
    outcome = make("echo").call_chain([make("loop"), make("echo")], b"x" * 100_000, wall_ms=50)
    assert isinstance(outcome.error, DeadlineExceeded)
    assert len(outcome.earlier) == 1


def test_each_call_has_its_own_wall_limit(make: Make) -> None:
    outcome = make("echo").call_chain([make("loop", wall_ms=30)], b"x")
    assert isinstance(outcome.error, DeadlineExceeded)


def test_a_function_with_a_large_stack_takes_part(make: Make) -> None:
    outcome = make("echo").call_chain([make("echo", stack_bytes=4 * MIB), make("echo")], b"abc")
    assert bytes(outcome.output) == b"abc"
    assert [one.passed_bytes for one in outcome.earlier] == [3, 3]


def test_a_chain_longer_than_there_are_slots_to_spare(make: Make, engine: Engine) -> None:
    functions = [make("echo") for _ in range(32)]
    data = bytes(range(256)) * 1024
    outcome = functions[0].call_chain(functions[1:], data)
    assert bytes(outcome.output) == data
    _wait_until_idle(engine)


def test_a_chain_on_a_worker(make: Make, engine: Engine) -> None:
    async def main() -> None:
        engine.attach(asyncio.get_running_loop())
        consumer, _ = reader(2 * MIB)
        program = produce(2 * MIB, consumer, lent=True).encoded() + consumer.encoded()
        outcomes = await asyncio.gather(*(make().start_chain([make()], program) for _ in range(8)))
        assert [TIERS[outcome.hose[0]] for outcome in outcomes] == ["share"] * 8
        assert [len(outcome.earlier) for outcome in outcomes] == [1] * 8

    asyncio.run(main())


_LENDS = """(module
  (import "edge_hose" "loan" (func $loan (param i32) (result i32)))
  (memory (export "memory") 1)
  (func $take (param $n i32) (param $align i32) (result i32) (local $at i32)
    (local.set $at (i32.and (i32.add (i32.shl (memory.size) (i32.const 16)) (i32.sub (local.get $align) (i32.const 1)))
                            (i32.sub (i32.const 0) (local.get $align))))
    (drop (memory.grow (i32.shr_u (i32.add (i32.add (local.get $n) (local.get $align)) (i32.const 131071))
                                  (i32.const 16))))
    (local.get $at))
  (func (export "edge_alloc") (param i32) (result i32) (call $take (local.get 0) (i32.const 16)))
  (func (export "edge_alloc_aligned") (param i32 i32) (result i32) (call $take (local.get 0) (local.get 1)))
  (func (export "edge_handle") (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (call $loan (i32.const 4194304))) (i64.const 32)) (i64.const 4194304))))"""


@pytest.mark.skipif(not native.accelerated, reason="the extension is not built")
def test_a_chain_lets_go_of_its_outputs_while_every_worker_is_busy(compiled: Any) -> None:
    """With no worker idle, who runs the chain lets go itself: else its outputs would wait for its end, all of them."""
    fresh = open_engine("native", workers=1, small_slots=8, large_slots=8)
    lends = [
        load(fresh, compiled, bytes(wasmtime.wat2wasm(_LENDS)), memory_bytes=64 * MIB) for _ in range(16)
    ]
    first = lends[0]
    assert isinstance(first, ChainFunction)

    async def main() -> None:
        fresh.attach(asyncio.get_running_loop())
        outcome = await first.start_chain(lends[1:], b"x")
        assert outcome.error is None
        assert [TIERS[one.hose[0]] for one in (*outcome.earlier[1:], outcome)] == ["share"] * 15
        assert fresh.hose_stats().made <= 4

    asyncio.run(main())
    fresh.close()


def test_who_cancels_stops_the_guest_that_runs(make: Make, engine: Engine) -> None:
    async def main() -> None:
        engine.attach(asyncio.get_running_loop())
        future = make("echo").start_chain([make("loop", wall_ms=60_000), make("echo")], b"x" * 40_000)
        _wait_until(lambda: engine.stats().workers_busy > 0)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future

    asyncio.run(main())
    _wait_until_idle(engine)


def test_a_payload_begins_a_chain(make: Make) -> None:
    given = make("echo").call(b"y" * MIB, keep=True).payload
    assert given is not None
    outcome = make("echo").call_chain([make("echo")], given, move=False)
    assert bytes(outcome.output) == b"y" * MIB
    assert bytes(given.read()) == b"y" * MIB
    given.close()


@pytest.mark.skipif(not native.accelerated, reason="the extension is not built")
def test_a_closed_engine_cancels_chains(compiled: Any) -> None:
    fresh = open_engine("native", workers=1, small_slots=8, large_slots=0)
    first, second = (load(fresh, compiled, guest, wall_ms=60_000) for guest in ("loop", "echo"))
    assert isinstance(first, ChainFunction)

    async def main() -> None:
        fresh.attach(asyncio.get_running_loop())
        future = first.start_chain([second], b"x")
        fresh.close()
        outcome = await future
        assert isinstance(outcome.error, Cancelled)
        assert outcome.earlier == ()

    asyncio.run(main())
    assert fresh.stats().live_instances == 0
