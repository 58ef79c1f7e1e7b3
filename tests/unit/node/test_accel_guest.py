"""What the node answers to guests that ask for kernels; the engine is the test's."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from typing import Any, cast

import numpy as np
import pytest
from structlog.testing import capture_logs

from edgeagent.accel.descriptors import Description, contiguous
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.execute import CallLimits
from edgeagent.accel.guest_layout import Backend, Code
from edgeagent.accel.kernels.kernel import Call, Kernel, Work, work_of
from edgeagent.accel.registry import Failed, Registry, shipped
from edgeagent.node import accel_guest
from edgeagent.node.accel_guest import AccelGuest
from edgeagent.node.call_marks import CallMarks
from edgeagent.node.meters import Meters
from edgeagent.runtime.port import Ask, AskKind, Engine, HoseSource, Payload
from edgeagent.runtime.pure_call import PurePayload
from tests.guest_frames import pack_call, unpack_query

ONE = contiguous(0, Dtype.F32, (4,))
TWO = contiguous(16, Dtype.F32, (4,))
SQUARE = pack_call(Description((ONE,), (TWO,), (), "a * a"))
PLAIN = pack_call(Description((ONE,), (TWO,)))


class Desk:
    """The engine's side: notes answers."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[int, bytes | None]] = asyncio.Queue()

    def answer(self, call_id: int, status: int, payload: Payload | None = None) -> None:
        self.told.put_nowait((status, None if payload is None else bytes(payload.read())))

    def payload_of(self, data: bytes | memoryview) -> Payload:
        return PurePayload(bytes(data), {})


class Memory:
    """A guest's, as its window."""

    def __init__(self) -> None:
        self.bytes = bytearray(np.arange(8, dtype="float32").tobytes())
        self.inside = 0
        self.is_over = False
        self.last: memoryview | None = None

    @property
    def size(self) -> int:
        return len(self.bytes)

    def enter(self) -> memoryview:
        if self.is_over:
            raise ValueError("the call is over")
        self.inside += 1
        self.last = memoryview(self.bytes)
        return self.last

    def leave(self) -> None:
        self.inside -= 1

    def source(self, start: int, count: int) -> HoseSource | None:
        return None


class Bench:
    def __init__(self, registry: Registry | None = None, limits: CallLimits | None = None) -> None:
        self.desk, self.meters, self.memory = Desk(), Meters(), Memory()
        self.guest = AccelGuest(cast("Engine", self.desk), self.meters, registry, limits)

    async def ask(
        self, name: bytes, described: bytes = PLAIN, kind: AskKind = AskKind.ACCEL_CALL
    ) -> tuple[int, bytes | None]:
        window = self.memory if kind is AskKind.ACCEL_CALL else None
        self.guest.asked(Ask(1, "step", kind, name, 0, True, None, described, window=window))
        told = await self.desk.told.get()
        assert self.memory.inside == 0
        return told


def _plan(call: Call) -> Work:
    return work_of(call, 1)


def kernels(**runs: Any) -> Registry:
    return Registry(Kernel(name, _plan, run) for name, run in runs.items())


def on_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


@on_loop
async def test_a_kernel_works_in_the_guests_memory() -> None:
    bench = Bench()
    assert await bench.ask(b"elementwise", SQUARE) == (0, None)
    assert np.frombuffer(bench.memory.bytes, "float32").tolist() == [0, 1, 2, 3, 0, 1, 4, 9]
    assert bench.memory.last is not None
    with pytest.raises(ValueError, match="released"):
        bytes(bench.memory.last)
    assert bench.meters.counters == {"accel_calls": 1}
    await bench.guest.stop()


@on_loop
async def test_what_there_is_is_told() -> None:
    bench = Bench()
    status, told = await bench.ask(b"", b"", AskKind.ACCEL_QUERY)
    assert status == 0
    assert told is not None
    assert unpack_query(told) == (Backend.CPU, [kernel.name for kernel in shipped()])
    await bench.guest.stop()


@on_loop
async def test_what_is_refused_has_a_code() -> None:
    bench = Bench(limits=CallLimits(cpu_s=1e-9))
    outside = pack_call(Description((ONE,), (contiguous(32, Dtype.F32, (4,)),), (), "a"))
    for name, described, code in (
        (b"nothing", PLAIN, Code.NONE),
        (b"\xff", PLAIN, Code.NONE),
        (b"elementwise", b"", Code.BAD),
        (b"elementwise", PLAIN, Code.EXPRESSION),
        (b"elementwise", outside, Code.RANGE),
        (b"elementwise", SQUARE, Code.TOO_LARGE),
    ):
        with capture_logs() as logs:
            assert await bench.ask(name, described) == (code, None)
        assert not logs
    assert bench.meters.counters == {"accel_calls_failed": 6}
    await bench.guest.stop()


@on_loop
async def test_a_kernel_that_fails_is_told_and_logged() -> None:
    def raises(_xp: Any, _inputs: Any, _outputs: Any, _call: Call) -> None:
        raise RuntimeError("why")

    bench = Bench(kernels(bad=raises))
    with capture_logs() as logs:
        assert (await bench.ask(b"bad"))[0] == Code.FAILED
    assert "RuntimeError: why" in logs[0]["why"]
    await bench.guest.stop()


@on_loop
async def test_a_fault_of_ours_leaves_no_guest_waiting() -> None:
    def plans(_call: Call) -> Work:
        raise ZeroDivisionError

    bench = Bench(Registry([Kernel("bad", plans, lambda *_: None)]))
    with capture_logs() as logs:
        assert (await bench.ask(b"bad"))[0] == Code.FAILED
    assert logs[0]["exc_info"]
    await bench.guest.stop()


@on_loop
async def test_a_call_that_is_over_is_not_worked_on() -> None:
    bench = Bench()
    bench.memory.is_over = True
    with capture_logs() as logs:
        assert (await bench.ask(b"elementwise", SQUARE))[0] == Code.FAILED
    assert not logs
    await bench.guest.stop()


@on_loop
async def test_others_kernels_that_cannot_be_had_are_logged() -> None:
    with pytest.MonkeyPatch.context() as patch, capture_logs() as logs:
        patch.setattr(accel_guest, "load_others", lambda registry: [Failed("ndwi", "ImportError: water")])
        bench = Bench()
        await bench.ask(b"elementwise", SQUARE)
        await bench.ask(b"elementwise", SQUARE)
    assert [entry["entry_point"] for entry in logs] == ["ndwi"]
    await bench.guest.stop()


@on_loop
async def test_waiting_for_a_thread_is_no_work() -> None:
    go_on, begun = threading.Event(), threading.Semaphore(0)

    def busy(_xp: Any, _inputs: Any, _outputs: Any, _call: Call) -> None:
        begun.release()
        go_on.wait()

    bench, marks = Bench(kernels(busy=busy, none=lambda *_: None)), CallMarks()
    threads = bench.guest._threads._short._max_workers
    for _ in range(threads):
        ask = Ask(1, "step", AskKind.ACCEL_CALL, b"busy", 0, True, None, PLAIN, window=bench.memory)
        bench.guest.asked(ask)
    for _ in range(threads):
        assert await asyncio.to_thread(begun.acquire, timeout=30)
    last = Ask(
        2, "step", AskKind.ACCEL_CALL, b"none", 0, True, None, PLAIN, context=marks, window=bench.memory
    )
    bench.guest.asked(last)
    await asyncio.sleep(0.05)  # it waits for so long at least
    go_on.set()
    for _ in range(threads + 1):
        assert (await bench.desk.told.get())[0] == 0
    await bench.guest.stop()
    assert marks.kernels["none"][0] == 1
    assert marks.waited_ms >= 50.0
    assert marks.core_ms < marks.waited_ms / 2


@on_loop
async def test_what_waits_is_given_up_and_what_runs_comes_to_its_end() -> None:
    loop, running = asyncio.get_running_loop(), asyncio.Event()
    ended: list[bool] = []

    def slow(_xp: Any, _inputs: Any, _outputs: Any, _call: Call) -> None:
        loop.call_soon_threadsafe(running.set)
        stopping.wait()
        ended.append(True)

    stopping = threading.Event()
    bench = Bench(kernels(slow=slow))
    for _ in range(20):  # more than there are threads
        bench.guest.asked(
            Ask(1, "step", AskKind.ACCEL_CALL, b"slow", 0, True, None, PLAIN, window=bench.memory)
        )
    await running.wait()
    tasks = list(bench.guest._tasks)
    stop = asyncio.ensure_future(bench.guest.stop())
    await asyncio.wait(tasks)
    stopping.set()
    await stop
    assert 0 < len(ended) < 20
    assert bench.memory.inside == 0
    assert bench.desk.told.empty()
    assert await bench.ask(b"slow") == (Code.OFF, None)
