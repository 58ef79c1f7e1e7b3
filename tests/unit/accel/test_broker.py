"""A broker in a process of its own, driven through its node's side: every call ends once, whatever happens there."""

from __future__ import annotations

import asyncio
import functools
import math
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeagent.accel.broker import Broker, BrokerSettings
from edgeagent.accel.broker_state import State
from edgeagent.accel.descriptors import Description, contiguous
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.errors import (
    BrokerLost,
    DeviceFull,
    DeviceLate,
    GpuFailed,
    GpuFull,
    KernelRaised,
    LostBeside,
)
from edgeagent.accel.execute import CallLimits, Prepared, prepare
from edgeagent.accel.packing import Packing, pack_operands, read_outputs, write_inputs
from edgeagent.accel.registry import shipped
from tests.guest_frames import pack_call
from tests.unit.accel.every_kernel import CASES, assert_agrees, by_broker
from tests.unit.accel.gpu_double import NAME, VARIABLE, calls_done, command

SIZE = 6
BYTES = SIZE * SIZE * 8


def product() -> tuple[Prepared, bytearray, Any]:
    """A call, the guest's memory before it, and what its output shall be."""
    rng = np.random.default_rng(5)
    a, b = (rng.integers(-9, 9, (SIZE, SIZE)) for _ in range(2))
    one, two, out = (contiguous(place * BYTES, Dtype.I64, (SIZE, SIZE)) for place in range(3))
    memory = bytearray(a.tobytes() + b.tobytes() + bytes(BYTES))
    described = pack_call(Description((one, two), (out,)))
    return prepare(shipped(), "matmul", described, len(memory), CallLimits()), memory, a @ b


async def call(broker: Broker, function: str = "f", patience_s: float = math.inf) -> bool:
    """Whether a call came back right; raises what it came to, the guest's memory being untouched then."""
    prepared, memory, wanted = product()
    packing: Packing = pack_operands(prepared)
    before = bytes(memory)
    slot = broker.reserve(packing.slot_bytes)
    try:
        write_inputs(packing, memoryview(memory), slot.memory)
        try:
            await broker.run(function, "matmul", packing.described, slot, patience_s=patience_s)
        except GpuFailed:
            assert bytes(memory) == before
            raise
        read_outputs(packing, slot.memory, memoryview(memory))
    finally:
        slot.drop()
    return bool((np.frombuffer(memory[2 * BYTES :], "int64").reshape(SIZE, SIZE) == wanted).all())


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what it waits for happens in another process
            await asyncio.sleep(0.005)


async def ready(broker: Broker) -> None:
    async with asyncio.timeout(30):
        while not broker.ready:
            broker.want()
            await asyncio.sleep(0.005)


class NoChance:
    def random(self) -> float:
        return 0.0


Scenario = Callable[[Broker, Path], Awaitable[None]]


def with_broker(**settings: Any) -> Callable[[Scenario], Callable[[Path, pytest.MonkeyPatch], None]]:
    def wrap(scenario: Scenario) -> Callable[[Path, pytest.MonkeyPatch], None]:
        @functools.wraps(scenario)
        def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
            monkeypatch.setenv(VARIABLE, str(tmp_path))

            async def main() -> None:
                one = BrokerSettings(**{"arena_bytes": 1 << 20, **settings})
                broker = Broker(one, NAME, chance=NoChance())
                try:
                    await scenario(broker, tmp_path)
                finally:
                    await broker.close()
                assert broker.life.state is State.STOPPED

            asyncio.run(main())

        del run.__wrapped__  # pytest would ask for its arguments
        return run

    return wrap


@with_broker()
async def test_calls_come_back_and_many_at_once(broker: Broker, folder: Path) -> None:
    assert broker.life.state is State.OFF
    with pytest.raises(GpuFull):
        broker.reserve(1)
    await ready(broker)
    assert broker.device_name == "numpy 0"
    assert all(await asyncio.gather(*(call(broker, f"f{i % 3}") for i in range(20))))
    assert len(calls_done(folder)) == 20
    assert broker.arena_used_bytes == 0
    broker.forget("f1")
    await until((folder / "forgotten").exists)
    assert broker.life.starts == 1
    assert broker.life.falls == 0


@with_broker()
async def test_every_kernel_agrees_with_the_cpu(broker: Broker, folder: Path) -> None:
    await ready(broker)
    for case in CASES:
        assert_agrees(case, await by_broker(broker, case))


@with_broker()
async def test_what_kills_the_broker_fails_all_calls_once_and_it_comes_back(
    broker: Broker, folder: Path
) -> None:
    for falls, word in enumerate(("die", "poisoned", "gone", "half")):
        await ready(broker)
        command(folder, "calls", word)
        outcomes = await asyncio.gather(*(call(broker) for _ in range(5)), return_exceptions=True)
        # It may have died before the last ones were sent: nobody waits for it then.
        assert all(isinstance(one, BrokerLost | GpuFull) for one in outcomes)
        assert isinstance(outcomes[0], BrokerLost)
        assert not isinstance(outcomes[0], LostBeside)
        assert all(isinstance(one, LostBeside | GpuFull) for one in outcomes[1:])  # they did not kill it
        assert broker.life.falls == falls + 1
        assert broker.life.state is State.BROKEN
        broker.life.try_at_s = 0.0  # the back-off is another test's
    await ready(broker)
    assert await call(broker)


@with_broker()
async def test_sigkill_while_a_call_runs(broker: Broker, folder: Path) -> None:
    await ready(broker)
    command(folder, "calls", "hang")
    calls = [asyncio.create_task(call(broker)) for _ in range(3)]
    await until((folder / "hangs").exists)
    os.kill(broker.pid, signal.SIGKILL)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(one, BrokerLost) for one in outcomes)
    assert not calls_done(folder)


@with_broker(deadline_s=0.2)
async def test_a_call_that_hangs_is_given_up(broker: Broker, folder: Path) -> None:
    await ready(broker)
    pid = broker.pid
    command(folder, "calls", "hang")
    with pytest.raises(BrokerLost, match="matmul of f took more than"):
        await call(broker)

    def is_gone() -> bool:
        return not Path(f"/proc/{pid}").exists()

    await until(is_gone)


@with_broker()
async def test_one_call_fails_and_the_others_do_not(broker: Broker, folder: Path) -> None:
    await ready(broker)
    command(folder, "calls", "memory", "kernel")
    with pytest.raises(DeviceFull, match="as commanded"):
        await call(broker)
    with pytest.raises(KernelRaised, match="RuntimeError"):
        await call(broker)
    assert await call(broker)
    assert broker.life.falls == 0


@with_broker(queue_max=2)
async def test_a_full_queue_refuses_and_one_who_leaves_makes_room(broker: Broker, folder: Path) -> None:
    await ready(broker)
    command(folder, "calls", "slow0.3")
    under_way = [asyncio.create_task(call(broker)) for _ in range(2)]
    await asyncio.sleep(0)
    waits = asyncio.create_task(call(broker))
    await asyncio.sleep(0)
    with pytest.raises(GpuFull, match="queue"):
        await call(broker)
    waits.cancel()
    under_way[1].cancel()  # that one is under way: the broker does it, nobody reads it
    await asyncio.gather(waits, return_exceptions=True)
    assert await under_way[0]
    assert await call(broker)
    await until(lambda: broker.arena_used_bytes == 0)
    assert len(calls_done(folder)) == 3


@with_broker(arena_bytes=8192)
async def test_an_arena_without_room_refuses(broker: Broker, folder: Path) -> None:
    await ready(broker)
    slot = broker.reserve(5000)
    with pytest.raises(GpuFull, match="arena"):
        broker.reserve(1)
    slot.drop()
    assert await call(broker)


@with_broker()
async def test_a_wrong_answer_of_the_self_test_is_no_gpu(broker: Broker, folder: Path) -> None:
    command(folder, "starts", "wrong")
    broker.want()
    await until(lambda: broker.life.state is State.BROKEN)
    assert "self-test" in broker.life.why
    broker.want()  # too early
    assert broker.life.starts == 1


@with_broker()
async def test_where_there_is_no_gpu_nothing_is_tried_again(broker: Broker, folder: Path) -> None:
    command(folder, "starts", "absent")
    broker.want()
    await until(lambda: broker.life.state is State.ABSENT)
    assert broker.life.why == "no GPU, as commanded"
    broker.want()
    assert broker.life.starts == 1


@with_broker(start_timeout_s=0.3)
async def test_a_start_that_hangs_is_ended(broker: Broker, folder: Path) -> None:
    command(folder, "starts", "hang")
    broker.want()
    await until(lambda: broker.life.state is State.BROKEN)
    assert "start took more" in broker.life.why


@with_broker(ping_every_s=0.02)
async def test_pings_are_answered(broker: Broker, folder: Path) -> None:
    await ready(broker)
    await until(lambda: broker.used_bytes == 4096)
    assert await call(broker)


@with_broker(ping_every_s=0.02)
async def test_a_device_that_begins_to_miscount_is_found(broker: Broker, folder: Path) -> None:
    await ready(broker)
    (folder / "miscounts").touch()
    await until(lambda: broker.life.state is State.BROKEN)
    assert "self-test" in broker.life.why


@with_broker(ping_every_s=0.02, ping_timeout_s=0.2)
async def test_who_answers_no_ping_is_replaced(broker: Broker, folder: Path) -> None:
    await ready(broker)
    os.kill(broker.pid, signal.SIGSTOP)
    await until(lambda: broker.life.state is State.BROKEN)
    assert "ping" in broker.life.why


@with_broker(idle_s=0.05)
async def test_one_that_nobody_wants_is_ended_and_comes_back(broker: Broker, folder: Path) -> None:
    await ready(broker)
    await until(lambda: broker.life.state is State.OFF)
    assert broker.pid == 0
    await ready(broker)
    assert await call(broker)
    assert broker.life.falls == 0


@with_broker(idle_s=0.05)
async def test_one_that_must_be_found_ready_does_not_rest(broker: Broker, folder: Path) -> None:
    await ready(broker)
    broker.is_kept = True
    looks = 0
    for _ in range(60):  # beyond the time after which it would rest
        await asyncio.sleep(0.005)
        looks += broker.ready
    assert looks == 60
    broker.is_kept = False
    await until(lambda: broker.life.state is State.OFF)


@with_broker()
async def test_one_that_is_barred_takes_no_calls_until_it_is_allowed_again(
    broker: Broker, folder: Path
) -> None:
    await ready(broker)
    broker.barred = "draining: its memory needs a reset"
    with pytest.raises(GpuFull, match="not ready"):
        await call(broker)
    assert broker.why_not == "is draining: its memory needs a reset"
    broker.barred = ""
    assert await call(broker)


@with_broker()
async def test_what_waits_fails_when_the_node_stops(broker: Broker, folder: Path) -> None:
    await ready(broker)
    command(folder, "calls", "hang")
    calls = [asyncio.create_task(call(broker)) for _ in range(4)]
    await until((folder / "hangs").exists)
    await broker.close()
    assert all(isinstance(one, BrokerLost) for one in await asyncio.gather(*calls, return_exceptions=True))


def test_closing_while_it_starts(tmp_path: Path) -> None:
    async def main() -> None:
        for turns in (0, 1, 5):
            broker = Broker(BrokerSettings(arena_bytes=8192), NAME)
            broker.want()
            for _ in range(turns):
                await asyncio.sleep(0)
            await broker.close()

    asyncio.run(main())


def test_a_backend_that_cannot_be_loaded(tmp_path: Path) -> None:
    async def main() -> None:
        broker = Broker(BrokerSettings(arena_bytes=8192), "tests.unit.accel.gpu_double:Nothing")
        broker.want()
        await until(lambda: broker.life.state is State.BROKEN)
        assert "AttributeError" in broker.life.why
        await broker.close()

    asyncio.run(main())


def test_no_arena_is_a_fall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(24, "Too many open files")

    async def main() -> None:
        broker = Broker(BrokerSettings(), NAME)
        monkeypatch.setattr(os, "memfd_create", refuse)
        broker.want()
        await until(lambda: broker.life.state is State.BROKEN)
        assert "Too many open files" in broker.life.why
        await broker.close()

    asyncio.run(main())


@with_broker()
async def test_what_a_fallen_broker_shared_is_free_though_something_still_refers_to_it(
    broker: Broker, folder: Path
) -> None:
    await ready(broker)
    slot = broker.reserve(8192)
    slot.memory[:] = b"x" * 8192
    seen = slot.memory
    os.kill(broker.pid, signal.SIGKILL)
    await until(lambda: broker.life.state is State.BROKEN)
    assert seen[0] == ord("x")
    slot.drop()
    await until(lambda: seen[0] == 0)  # the page is the system's again


@with_broker()
async def test_who_has_another_way_is_let_go_in_time(broker: Broker, folder: Path) -> None:
    await ready(broker)
    command(folder, "calls", "slow0.5")
    calls = [asyncio.create_task(call(broker, f"f{i}", patience_s=0.1)) for i in range(4)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in outcomes] == [DeviceLate, LostBeside, LostBeside, LostBeside]
    assert not broker.ready  # until it is over: it may have hung
    assert "may have hung in matmul of f0" in broker.why_not
    with pytest.raises(GpuFull):
        broker.reserve(1)
    await until(lambda: broker.ready and not broker.load)  # another one may have been under way already
    assert broker.arena_used_bytes == 0
    assert await call(broker, patience_s=30.0)
    assert broker.life.falls == 0
