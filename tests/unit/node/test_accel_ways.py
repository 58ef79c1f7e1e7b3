"""Operands that a guest got by a hose go to the GPU without a copy, and with one where anything is against it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from edgeagent.accel.arena import Arena
from edgeagent.accel.controller import Route
from edgeagent.accel.descriptors import Description, contiguous
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.errors import BrokerLost, OperandRefused
from edgeagent.accel.execute import CallLimits, prepare
from edgeagent.accel.guest_layout import Code
from edgeagent.accel.kernel_errors import KernelTooLarge
from edgeagent.accel.probing import ProbePlan
from edgeagent.accel.registry import shipped
from edgeagent.node import accel_ways
from edgeagent.node.accel_ways import CallPlan
from edgeagent.runtime.port import HoseSource
from tests.guest_frames import pack_call
from tests.unit.accel.test_mapped import SIZES, memfd
from tests.unit.node.test_accel_guest import Memory
from tests.unit.node.test_accel_serving import Rig

ROWS = 256  # a matrix of 256 KiB of F32 numbers
COUNT = ROWS * ROWS * 4
LEAD = 4096  # before the hose's bytes in the guest's memory, and in the file
A, B = contiguous(LEAD, Dtype.F32, (ROWS, ROWS)), contiguous(LEAD + COUNT, Dtype.F32, (ROWS, ROWS))
OUT = contiguous(LEAD + 2 * COUNT, Dtype.F32, (ROWS, ROWS))
ADDED = pack_call(Description((A, B), (OUT,), (), "a + b"))
DOUBLED = pack_call(Description((A,), (A,), (), "2 * a"))
NUMBERS = np.arange(ROWS * ROWS, dtype="float32").reshape(ROWS, ROWS)


class Source(NamedTuple):
    fd: int
    offset: int


class HoseMemory(Memory):
    """The first matrix came by a hose, and lies there as it came unless ``written``."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.bytes = bytearray(LEAD + 3 * COUNT)
        self.bytes[LEAD : LEAD + COUNT] = NUMBERS.tobytes()
        self.bytes[LEAD + COUNT : LEAD + 2 * COUNT] = np.ones(ROWS * ROWS, "float32").tobytes()
        self.fd, self.written, self.looks = fd, False, 0

    def source(self, start: int, count: int) -> HoseSource | None:
        self.looks += 1
        inside = start >= LEAD and start + count <= LEAD + COUNT
        return Source(self.fd, start) if inside and not self.written else None

    def output(self, at: int = LEAD + 2 * COUNT) -> Any:
        return np.frombuffer(self.bytes[at : at + COUNT], "float32").reshape(ROWS, ROWS)


class HoseRig(Rig):
    def __init__(self, fd: int, mode: str = "gpu_preferred") -> None:
        super().__init__(mode)
        self.hose = HoseMemory(fd)
        self.memory = self.hose
        self.broker.arena = Arena(4 << 20)
        self.routes.route = lambda *_a, **_k: Route("gpu", None, "the test")  # no probes but those of a test

    def counted(self, name: str) -> int:
        return self.meters.counters.get(f"accel_{name}", 0)


@contextlib.contextmanager
def hose(seals: int = SIZES) -> Iterator[int]:
    with memfd(bytes(LEAD) + NUMBERS.tobytes() + bytes(LEAD), seals) as fd:
        yield fd


def played(scenario: Callable[[HoseRig], Any], mode: str = "gpu_preferred", seals: int = SIZES) -> None:
    async def main(fd: int) -> None:
        rig = HoseRig(fd, mode)
        await scenario(rig)
        assert rig.broker.arena.used_bytes == 0
        await rig.guest.stop()

    with hose(seals) as fd:
        asyncio.run(main(fd))


def test_what_came_by_a_hose_is_not_copied_and_the_answer_is_the_same() -> None:
    async def scenario(rig: HoseRig) -> None:
        for _ in range(2):
            assert await rig.ask(ADDED) == 0
            assert rig.backend() == "gpu"
            assert (rig.hose.output() == NUMBERS + 1).all()
        assert (rig.counted("mapped_bytes"), rig.counted("copied_bytes")) == (2 * COUNT, 2 * COUNT)
        rig.hose.written = True
        assert await rig.ask(ADDED) == 0
        assert (rig.counted("mapped_bytes"), rig.counted("copied_bytes")) == (2 * COUNT, 4 * COUNT)

    played(scenario)


def test_what_works_in_place_reads_the_hose_and_writes_the_guest() -> None:
    async def scenario(rig: HoseRig) -> None:
        assert await rig.ask(DOUBLED) == 0
        assert (rig.hose.output(LEAD) == 2 * NUMBERS).all()
        assert rig.counted("copied_bytes") == 0
        held = np.frombuffer(os.pread(rig.hose.fd, COUNT, LEAD), "float32").reshape(ROWS, ROWS)
        assert (held == NUMBERS).all()

    played(scenario)


def test_small_operands_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel_ways, "_LYING_BYTES_MIN", COUNT + 1)

    async def scenario(rig: HoseRig) -> None:
        assert await rig.ask(ADDED) == 0
        assert (rig.hose.looks, rig.counted("copied_bytes")) == (0, 2 * COUNT)

    played(scenario)


def test_a_refused_descriptor_is_copied_and_not_tried_again_at_once() -> None:
    async def scenario(rig: HoseRig) -> None:
        for _ in range(2):
            assert await rig.ask(ADDED) == 0
            assert rig.backend() == "gpu"
            assert (rig.hose.output() == NUMBERS + 1).all()
        assert rig.counted("operands_refused") == 1
        assert rig.routes.replays == 0

    played(scenario, seals=0)


def test_a_broker_that_falls_in_between_costs_a_replay() -> None:
    async def scenario(rig: HoseRig) -> None:
        rig.broker.coming = [BrokerLost("died")]
        assert await rig.ask(ADDED) == 0
        assert rig.backend() == "cpu"
        assert (rig.hose.output() == NUMBERS + 1).all()
        assert rig.routes.replays == 1

    played(scenario)


def test_a_node_without_descriptors_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window has none to give then; and a packet that takes none is a broker's fall."""

    async def scenario(rig: HoseRig) -> None:
        assert await rig.ask(ADDED) == 0
        assert (rig.backend(), rig.counted("copied_bytes")) == ("gpu", 2 * COUNT)
        rig.broker.coming = [BrokerLost(os.strerror(errno.EMFILE))]
        assert await rig.ask(ADDED) == 0
        assert rig.backend() == "cpu"

    monkeypatch.setattr(HoseMemory, "source", lambda *_: None)
    played(scenario)


def test_probes_of_the_gpu_read_the_hose_while_the_cpu_works_in_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(rig: HoseRig) -> None:
        told = rig.seen(monkeypatch)
        rig.routes.route = lambda *_a, **_k: Route("cpu", ProbePlan("gpu", 60_000.0, scout=False), "the test")
        assert await rig.ask(DOUBLED) == 0
        await rig.settled()
        assert (rig.hose.output(LEAD) == 2 * NUMBERS).all()
        assert rig.counted("mapped_bytes") == COUNT
        rig.broker.coming = [OperandRefused("no")]
        assert await rig.ask(DOUBLED) == 0
        await rig.settled()
        assert [one[0] for one in told] == ["gpu"]
        assert rig.counted("operands_refused") == 1
        assert await rig.ask(DOUBLED) == 0
        await rig.settled()
        assert (len(told), rig.counted("copied_bytes")) == (2, COUNT)

    played(scenario, "cpu_preferred")


def test_probes_of_the_cpu_have_all_operands_in_the_arena(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(rig: HoseRig) -> None:
        told = rig.seen(monkeypatch)
        rig.routes.route = lambda *_a, **_k: Route("gpu", ProbePlan("cpu", 60_000.0, scout=False), "the test")
        assert await rig.ask(ADDED) == 0
        await rig.settled()
        assert [(one[0], one[2]) for one in told] == [("cpu", False)]
        assert rig.counted("copied_bytes") == 2 * COUNT

    played(scenario)


def test_packings_of_a_plan_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel_ways, "_PACKINGS_MAX", 1)

    async def scenario(rig: HoseRig) -> None:
        for offset in (0, 4096, 0):
            rig.hose.source = lambda start, _count, lead=offset: (  # type: ignore[method-assign,misc]
                Source(rig.hose.fd, LEAD + lead) if start == LEAD else None
            )
            assert await rig.ask(ADDED) == 0
            assert bool((rig.hose.output() == NUMBERS + 1).all()) == (offset == 0)
        (plan,) = rig.guest._plans.values()
        assert len(plan._packings) == 1

    played(scenario)


@pytest.mark.parametrize(
    ("cpu_s", "gpu_s", "left_s", "patience_s"),
    [
        (0.2, 0.0, 10.0, 9.5),  # as late as the CPU can begin
        (0.2, 0.0, 0.5, 0.25),  # of little time the CPU gets half
        (3.0, 0.1, 10.0, 5.0),
        (6.0, 0.1, 10.0, math.inf),  # it could not do it anyway
        (0.2, 6.0, 10.0, 12.0),  # a GPU that is slow has not hung
        (0.2, 0.0, -1.0, math.inf),  # the call is over: the engine says so
    ],
)
def test_a_gpu_has_the_time_that_the_cpu_does_not_need(
    cpu_s: float, gpu_s: float, left_s: float, patience_s: float
) -> None:
    prepared = prepare(shipped(), "elementwise", ADDED, 1 << 30, CallLimits())
    plan = CallPlan("elementwise", prepared)
    assert plan.took_s == {"cpu": prepared.work.cpu_s, "gpu": 0.0}
    plan.took_s = {"cpu": cpu_s, "gpu": gpu_s}
    assert plan.patience_s(left_s) == pytest.approx(patience_s)
    alone = CallPlan("elementwise", prepared, KernelTooLarge("too much for a CPU"))
    assert alone.patience_s(left_s) == math.inf


def test_a_pinned_function_hears_whether_the_arena_is_full_or_too_small() -> None:
    async def main() -> None:
        rig = Rig("gpu")
        rig.broker.arena = Arena(4096)
        taken = rig.broker.arena.take(4096)
        assert await rig.ask() == Code.FULL
        taken.drop()
        assert await rig.ask() == 0
        rig.broker.arena._slots.total_bytes = 16
        assert await rig.ask() == Code.TOO_LARGE
        await rig.guest.stop()

    asyncio.run(main())
