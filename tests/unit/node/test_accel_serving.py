"""Where a kernel call goes on a node with a GPU: routes, replays, probes and pins, on a GPU that the test plays."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

import numpy as np
import pytest
from structlog.testing import capture_logs

from edgeagent.accel.arena import Arena, Slot
from edgeagent.accel.broker import Broker, Source
from edgeagent.accel.broker_state import State
from edgeagent.accel.broker_wire import Done
from edgeagent.accel.conditions import Conditions
from edgeagent.accel.controller import Route
from edgeagent.accel.descriptors import Description, contiguous
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.errors import BrokerLost, DeviceFull, GpuFull, KernelRaised, LostBeside
from edgeagent.accel.execute import CallLimits, prepare, run_on_gpu
from edgeagent.accel.guest_layout import Backend, Code
from edgeagent.accel.mapped import Mappings
from edgeagent.accel.probing import ProbePlan
from edgeagent.accel.registry import shipped
from edgeagent.accel.views import map_bases
from edgeagent.model.errors import NotFound
from edgeagent.model.function import Deployed
from edgeagent.node.accel_gpus import Gpus
from edgeagent.node.accel_guest import AccelGuest
from edgeagent.node.accel_routing import Routing
from edgeagent.node.call_marks import CallMarks
from edgeagent.node.meters import Meters
from edgeagent.runtime.port import Ask, AskKind, Engine
from tests.guest_frames import pack_call, unpack_query
from tests.unit.accel.test_broker_parts import Plain
from tests.unit.node.test_accel_guest import ONE, SQUARE, Desk, Memory
from tests.unit.node.test_accel_routing import NoChance, deployed

IN_PLACE = pack_call(Description((ONE,), (ONE,), (), "a * a"))


class Life:
    def __init__(self) -> None:
        self.state, self.why = State.READY, "as told"


class Played:
    """A broker whose answers the test says; without any it does the work."""

    device = 0
    why_not = "is ready: as told"

    barred = ""

    def __init__(self) -> None:
        self.life, self.load = Life(), 0
        self.arena = Arena(1 << 16)
        self.ready = True
        self.wanted = 0
        self.coming: list[Exception | asyncio.Event] = []
        self.begun = asyncio.Event()
        self.ran: list[str] = []
        self.closed = False
        self.forgot: list[str] = []

    def want(self) -> None:
        self.wanted += 1

    def reserve(self, count: int, function: str = "") -> Slot:
        if not self.ready:
            raise GpuFull("not ready")
        return self.arena.take(count, function)

    async def run(
        self,
        function: str,
        kernel: str,
        described: bytes,
        slot: Slot,
        maps: Sequence[tuple[int, int]] = (),
        sources: Sequence[Source] = (),
        patience_s: float = math.inf,
    ) -> Done:
        self.begun.set()
        next_ = self.coming.pop(0) if self.coming else None
        if isinstance(next_, asyncio.Event):
            await next_.wait()
        elif next_ is not None:
            raise next_
        books = Mappings(lambda _: None, lambda _: None)
        mapped = books.of([one.fd for one in sources], maps)
        total = map_bases(len(slot.memory), maps)[1]
        run_on_gpu(prepare(shipped(), kernel, described, total, CallLimits()), slot.memory, Plain(), mapped)
        self.ran.append(kernel)
        return Done(1, 1)

    def forget(self, function: str) -> None:
        self.forgot.append(function)

    async def close(self) -> None:
        self.closed = True


class Rig:
    def __init__(self, mode: str = "gpu_preferred", limits: CallLimits | None = None) -> None:
        self.desk, self.meters, self.memory = Desk(), Meters(), Memory()
        self.broker = Played()
        self.gpus = Gpus([cast("Broker", self.broker)])
        self.routing = Routing(NoChance())
        self.routing.forgotten = self.gpus.forget
        self.deployed: Deployed | None = deployed(mode)
        self.guest = AccelGuest(cast("Engine", self.desk), self.meters, limits=limits)
        self.guest.use_gpus(self.gpus, self.routing, self.find)
        self.marks = CallMarks()

    def find(self, name: str) -> Deployed:
        if self.deployed is None:
            raise NotFound(name)
        return self.deployed

    @property
    def routes(self) -> Any:
        assert self.deployed is not None
        return self.routing.of(self.deployed)

    async def ask(self, described: bytes = SQUARE, kernel: bytes = b"elementwise") -> int:
        self.marks = CallMarks()
        ask = Ask(1, "step", AskKind.ACCEL_CALL, kernel, 0, True, None, described, self.marks, self.memory)
        self.guest.asked(ask)
        status = (await self.desk.told.get())[0]
        assert self.memory.inside == 0
        return status

    def backend(self) -> str:
        """That the last call's reply would name."""
        return self.marks.backend

    def output(self) -> list[float]:
        numbers: list[float] = np.frombuffer(self.memory.bytes, "float32").tolist()
        return numbers

    def route(self, monkeypatch: pytest.MonkeyPatch, backend: str, probe: ProbePlan | None = None) -> None:
        """All calls go there from now on."""
        fixed = Route(cast("Any", backend), probe, "the test")
        monkeypatch.setattr(type(self.routes), "route", lambda *_a, **_k: fixed)

    def seen(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
        """What the controller is told of probes: the backend, the time, whether it failed."""
        told: list[tuple[Any, ...]] = []

        def probed(
            _self: object,
            _now: float,
            _kernel: str,
            _size: float,
            plan: ProbePlan,
            _served: float,
            ms: float,
            *,
            failed: bool = False,
        ) -> None:
            told.append((plan.backend, ms, failed))

        monkeypatch.setattr(type(self.routes), "probed", probed)
        return told

    async def settled(self) -> None:
        serving = self.guest._serving
        assert serving is not None
        while serving._tasks:
            await asyncio.gather(*serving._tasks)


Test = Callable[[pytest.MonkeyPatch], Coroutine[Any, Any, None]]


def on_loop(test: Test) -> Callable[[pytest.MonkeyPatch], None]:
    @functools.wraps(test)
    def run(monkeypatch: pytest.MonkeyPatch) -> None:
        asyncio.run(test(monkeypatch))

    return run


@on_loop
async def test_a_call_that_prefers_the_gpu_runs_there_when_it_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig()
    rig.broker.ready = False
    assert await rig.ask() == 0
    assert (rig.backend(), rig.routes.calls) == ("cpu", {"cpu": 1, "gpu": 0})
    assert rig.broker.wanted == 1
    rig.broker.ready = True
    rig.memory.bytes[16:] = bytes(16)
    assert await rig.ask() == 0
    assert rig.output() == [0, 1, 2, 3, 0, 1, 4, 9]
    assert (rig.backend(), rig.routes.calls, rig.routes.last) == ("gpu", {"cpu": 1, "gpu": 1}, "gpu")
    counted = {"accel_calls": 2, "accel_cpu_calls": 1, "accel_gpu_calls": 1, "accel_copied_bytes": 16}
    assert rig.meters.counters == counted
    assert rig.broker.arena.used_bytes == 0
    await rig.guest.stop()
    assert rig.broker.closed


@on_loop
async def test_what_the_gpu_fails_the_cpu_does_again_in_memory_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig()
    for error in (BrokerLost("died"), DeviceFull("full"), KernelRaised("raised")):
        rig.route(monkeypatch, "gpu")
        rig.memory.bytes[:] = np.arange(8, dtype="float32").tobytes()
        rig.broker.coming = [error]
        with capture_logs() as logs:
            assert await rig.ask(IN_PLACE) == 0
        assert rig.output()[:4] == [0, 1, 4, 9]
        assert rig.backend() == "cpu"
        assert logs[0]["why"] == error.message
    assert rig.routes.replays == rig.meters.counters["accel_replays"] == 3
    assert not rig.broker.ran
    assert rig.broker.arena.used_bytes == 0
    await rig.guest.stop()


@on_loop
async def test_who_was_lost_with_another_call_blames_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    failures = []

    def served(*_: object, failed: bool = False) -> None:
        failures.append(failed)

    monkeypatch.setattr(type(rig.routes), "served", served)
    rig.route(monkeypatch, "gpu")
    rig.broker.coming = [LostBeside("died")]
    assert await rig.ask() == 0
    assert failures == [False]
    assert rig.routes.replays == 1
    rig.route(monkeypatch, "cpu", ProbePlan("gpu", 60_000.0, scout=False))
    told = rig.seen(monkeypatch)
    rig.broker.coming = [LostBeside("died")]
    assert await rig.ask() == 0
    await rig.settled()
    assert not told
    await rig.guest.stop()


@on_loop
async def test_a_full_queue_is_no_fault_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.route(monkeypatch, "gpu")
    rig.broker.coming = [GpuFull("queue")]
    assert await rig.ask() == 0
    slot = rig.broker.arena.take(1 << 16)  # no room for operands
    assert await rig.ask() == 0
    slot.drop()
    rig.broker.ready = False  # it fell between the route and the call
    assert await rig.ask() == 0
    assert rig.routes.replays == 0
    assert rig.meters.counters["accel_gpu_busy"] == 2
    assert rig.routes.calls == {"cpu": 3, "gpu": 0}
    await rig.guest.stop()


@on_loop
async def test_a_pinned_function_is_refused_where_the_gpu_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig("gpu")
    rig.broker.ready = False
    with capture_logs() as logs:
        assert await rig.ask() == Code.OFF
    assert "GPU 0 is ready: as told" in logs[0]["why"]
    rig.broker.ready = True
    rig.broker.coming = [GpuFull("queue")]
    assert await rig.ask() == Code.FULL
    rig.broker.coming = [BrokerLost("died")]
    assert await rig.ask() == 0
    assert rig.backend() == "cpu"
    assert await rig.ask() == 0
    assert rig.backend() == "gpu"
    await rig.guest.stop()


@on_loop
async def test_what_is_too_much_for_a_cpu_goes_to_a_gpu_or_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig("cpu_preferred", CallLimits(cpu_s=1e-9))
    assert await rig.ask() == 0
    assert (rig.backend(), rig.routes.calls) == ("gpu", {"cpu": 0, "gpu": 1})
    assert rig.output()[4:] == [0, 1, 4, 9]
    with capture_logs() as logs:
        for error in (KernelRaised("raised"), GpuFull("queue")):
            rig.broker.coming = [error]
            assert await rig.ask() == Code.TOO_LARGE
    assert [one["event"] for one in logs] == ["a kernel failed on the GPU, and is too much for the CPU"]
    assert rig.routes.replays == 0
    rig.routing.conditions = lambda: Conditions(gpu_c=99.0)
    assert await rig.ask() == Code.TOO_LARGE
    rig.routing.conditions = Conditions
    rig.broker.ready = False
    assert await rig.ask() == Code.TOO_LARGE
    assert rig.broker.wanted == 4  # it is no use while it is hot
    assert rig.routes.calls == {"cpu": 0, "gpu": 1}
    await rig.guest.stop()
    pinned = Rig("cpu", CallLimits(cpu_s=1e-9))
    assert await pinned.ask() == Code.TOO_LARGE
    await pinned.guest.stop()
    pinned = Rig("gpu", CallLimits(cpu_s=1e-9))
    assert await pinned.ask() == 0
    pinned.broker.ready = False
    assert await pinned.ask() == Code.OFF
    await pinned.guest.stop()


@on_loop
async def test_pinned_to_the_cpu_or_undeployed_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for rig in (Rig("cpu"), Rig()):
        if rig.routes.mode != "cpu":
            rig.deployed = None
        assert await rig.ask() == 0
        assert not rig.broker.wanted
        assert rig.meters.counters == {"accel_calls": 1}
        await rig.guest.stop()


@on_loop
async def test_a_probe_of_the_gpu_runs_beside_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig("cpu_preferred")
    told = rig.seen(monkeypatch)
    rig.route(monkeypatch, "cpu", ProbePlan("gpu", 60_000.0, scout=False))
    assert await rig.ask(IN_PLACE) == 0
    await rig.settled()
    assert rig.output()[:4] == [0, 1, 4, 9]  # of the CPU, once
    assert rig.broker.ran == ["elementwise"]
    assert [(one[0], one[2]) for one in told] == [("gpu", False)]
    assert told[0][1] > 0.0
    assert rig.meters.counters["accel_probes"] == 1
    assert rig.broker.arena.used_bytes == 0
    await rig.guest.stop()


@on_loop
async def test_a_probe_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig("cpu_preferred")
    told = rig.seen(monkeypatch)
    rig.route(monkeypatch, "cpu", ProbePlan("gpu", 1.0, scout=True))
    rig.broker.coming = [asyncio.Event()]  # which never comes
    assert await rig.ask() == 0
    await rig.settled()
    assert told == [("gpu", 1.0, False)]
    assert rig.broker.arena.used_bytes == 0
    await rig.guest.stop()


@on_loop
async def test_a_probe_that_fails_is_a_failure_and_a_busy_one_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig("cpu_preferred")
    told = rig.seen(monkeypatch)
    rig.route(monkeypatch, "cpu", ProbePlan("gpu", 60_000.0, scout=False))
    rig.broker.coming = [GpuFull("queue"), BrokerLost("died")]
    assert [await rig.ask(), await rig.ask()] == [0, 0]
    await rig.settled()
    assert told == [("gpu", 0.0, True)]
    slot = rig.broker.arena.take(1 << 16)
    assert await rig.ask() == 0
    slot.drop()
    rig.broker.ready = False
    assert await rig.ask() == 0
    await rig.settled()
    assert len(told) == 1
    await rig.guest.stop()


@on_loop
async def test_a_probe_beside_a_call_that_fails_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig("cpu_preferred")
    told = rig.seen(monkeypatch)
    rig.route(monkeypatch, "cpu", ProbePlan("gpu", 60_000.0, scout=False))

    def fails(*_: object) -> None:
        raise KernelRaised("on the CPU")

    monkeypatch.setattr("edgeagent.node.accel_guest.run_on_cpu", fails)
    with capture_logs():
        assert await rig.ask() == Code.FAILED
    serving = rig.guest._serving
    assert serving is not None
    await asyncio.gather(*serving._tasks, return_exceptions=True)
    assert not told
    assert rig.broker.arena.used_bytes == 0
    await rig.guest.stop()


@on_loop
async def test_a_probe_of_the_cpu_is_on_copies_and_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    told = rig.seen(monkeypatch)
    rig.route(monkeypatch, "gpu", ProbePlan("cpu", 60_000.0, scout=False))
    assert [await rig.ask(), await rig.ask()] == [0, 0]
    await rig.settled()
    assert [(one[0], one[2]) for one in told] == [("cpu", False)]
    assert rig.output() == [0, 1, 2, 3, 0, 1, 4, 9]
    assert rig.broker.arena.used_bytes == 0
    await rig.guest.stop()


@on_loop
async def test_a_probe_of_the_cpu_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    told = rig.seen(monkeypatch)
    rig.route(monkeypatch, "gpu", ProbePlan("cpu", 60_000.0, scout=False))

    def fails(*_: object) -> None:
        raise KernelRaised("on the CPU")

    monkeypatch.setattr("edgeagent.node.accel_guest.run_on_cpu", fails)
    assert await rig.ask() == 0
    await rig.settled()
    assert [(one[0], one[2]) for one in told] == [("cpu", True)]
    await rig.guest.stop()


@on_loop
async def test_a_call_that_is_over_is_no_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    for backend, probe in (("gpu", None), ("cpu", ProbePlan("gpu", 1.0, scout=False)), ("cpu", None)):
        rig.route(monkeypatch, backend, probe)
        rig.memory.is_over = True
        assert await rig.ask() == Code.FAILED
        assert rig.broker.arena.used_bytes == 0
    assert rig.routes.calls == {"cpu": 0, "gpu": 0}
    assert rig.routes.replays == 0
    await rig.guest.stop()


@on_loop
async def test_the_window_closes_while_the_gpu_works(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.route(monkeypatch, "gpu")
    gate = asyncio.Event()
    rig.broker.coming = [gate]
    asking = asyncio.create_task(rig.ask())
    await rig.broker.begun.wait()
    rig.memory.is_over = True
    gate.set()
    assert await asking == Code.FAILED
    assert rig.output()[4:] == [4, 5, 6, 7]
    await rig.guest.stop()


def test_the_next_gpu_is_started_where_the_first_ones_are_lost_or_have_much_to_do() -> None:
    played = [Played() for _ in range(4)]
    gpus = Gpus([cast("Broker", one) for one in played])
    gpus.want()
    assert [one.wanted for one in played] == [1, 0, 0, 0]
    played[0].life.state, played[1].load = State.BROKEN, 4
    played[2].life.state = State.STARTING
    gpus.want()
    assert [one.wanted for one in played] == [2, 1, 1, 0]
    assert gpus.best == (State.READY, "as told")
    played[0].ready = False
    played[2].ready = False
    assert gpus.pick() is cast("Broker", played[3])
    played[3].load = 5
    assert gpus.pick() is cast("Broker", played[1])


@on_loop
async def test_guests_are_told_of_a_ready_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    for ready, backends in ((True, Backend.CPU | Backend.GPU), (False, Backend.CPU)):
        rig.broker.ready = ready
        rig.guest.asked(Ask(1, "step", AskKind.ACCEL_QUERY, b"", 0, True, None))
        data = (await rig.desk.told.get())[1]
        assert data is not None
        assert unpack_query(data)[0] == backends
    await rig.guest.stop()


@on_loop
async def test_a_large_call_is_copied_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    rig.broker.arena = Arena(1 << 20)
    rig.route(monkeypatch, "gpu")
    rows = 200
    image, out = (contiguous(place * rows * rows * 4, Dtype.F32, (rows, rows)) for place in range(2))
    numbers = np.arange(rows * rows, dtype="float32")
    rig.memory.bytes = bytearray(numbers.tobytes() + bytes(numbers.nbytes))
    assert await rig.ask(pack_call(Description((image,), (out,), (), "a + 1"))) == 0
    assert (np.frombuffer(rig.memory.bytes[numbers.nbytes :], "float32") == numbers + 1).all()
    await rig.guest.stop()
