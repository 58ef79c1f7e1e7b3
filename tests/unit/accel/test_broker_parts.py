"""The pure parts of a broker: back-off, life, queue, slots, packets, and operands on their way there and back."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.accel import broker_wire as wire
from edgeagent.accel.arena import Arena
from edgeagent.accel.arena_slots import SLOT_ALIGN_BYTES, Slots
from edgeagent.accel.backend import Described
from edgeagent.accel.backoff import Backoff
from edgeagent.accel.broker_state import Action, BrokerLife, State
from edgeagent.accel.descriptors import (
    CALL_BYTES_MAX,
    Description,
    Operand,
    contiguous,
    pack_call,
    unpack_call,
)
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.errors import BrokerLost, GpuFull, GpuTooSmall
from edgeagent.accel.execute import CallLimits, Prepared, prepare, run_on_cpu, run_on_gpu
from edgeagent.accel.fair_queue import FairQueue
from edgeagent.accel.packing import pack_operands, read_outputs, write_inputs
from edgeagent.accel.registry import shipped
from edgeagent.accel.self_test import SELF_TEST_BYTES, self_test


class Half:
    def random(self) -> float:
        return 0.5


# -- back-off ----------


def test_waits_double_up_to_a_bound_and_begin_anew_after_a_steady_time() -> None:
    backoff = Backoff(Half(), first_s=1.0, most_s=10.0, steady_s=60.0)
    assert [backoff.fell(0.0) for _ in range(6)] == [0.75, 1.5, 3.0, 6.0, 7.5, 7.5]
    assert backoff.fell(59.0) == 7.5
    assert backoff.falls == 7
    assert backoff.fell(61.0) == 0.75
    assert backoff.falls == 1


@given(st.integers(0, 2**32), st.integers(1, 80))
def test_waits_keep_to_their_bounds(seed: int, falls: int) -> None:
    backoff = Backoff(random.Random(seed), first_s=1.0, most_s=600.0)
    for number in range(falls):
        wait_s = backoff.fell(0.0)
        most_s = min(2.0 ** min(number, 30), 600.0)
        assert 0.5 * most_s <= wait_s <= most_s


# -- life ----------


def life() -> BrokerLife:
    return BrokerLife(Backoff(Half(), first_s=4.0), start_timeout_s=10.0, idle_s=100.0)


def test_a_life_from_off_to_off() -> None:
    one = life()
    assert (one.state, one.next_s()) == (State.OFF, math.inf)
    assert one.wanted(0.0) is Action.SPAWN
    assert one.wanted(1.0) is Action.NONE
    assert (one.state, one.next_s()) == (State.STARTING, 10.0)
    assert not one.overdue(9.9)
    one.ready(5.0)
    assert one.next_s() == 105.0
    assert not one.overdue(20.0)
    assert one.rest(104.9) is Action.NONE
    one.wanted(50.0)
    assert one.next_s() == 150.0
    assert one.rest(149.0) is Action.NONE
    assert one.rest(150.0) is Action.END
    assert (one.state, one.why) == (State.OFF, "not used for long")
    assert one.wanted(151.0) is Action.SPAWN
    assert one.starts == 2


def test_falls_are_waited_out_and_absence_is_for_good() -> None:
    one = life()
    one.wanted(0.0)
    assert one.overdue(10.0)
    one.fell(10.0, "slow")
    assert (one.state, one.why, one.try_at_s) == (State.BROKEN, "slow", 13.0)
    assert one.wanted(12.9) is Action.NONE
    assert one.wanted(13.0) is Action.SPAWN
    one.absent(14.0, "no driver")
    one.ready(15.0)
    one.fell(15.0, "late")
    assert (one.state, one.falls) == (State.ABSENT, 1)
    assert one.wanted(1e9) is Action.NONE
    assert one.stop(1e9) is Action.NONE


@pytest.mark.parametrize("begins", [True, False])
def test_a_stopped_life_stays_stopped(begins: bool) -> None:
    one = life()
    if begins:
        one.wanted(0.0)
    assert one.stop(1.0) is (Action.END if begins else Action.NONE)
    assert one.stop(1.0) is Action.NONE
    one.ready(2.0)
    one.absent(2.0, "")
    one.fell(2.0, "")
    assert one.wanted(3.0) is Action.NONE
    assert one.state is State.STOPPED


@given(st.lists(st.tuples(st.sampled_from("wrfaotxsi"), st.floats(0.0, 50.0)), max_size=60))
def test_whatever_happens_work_is_sent_to_a_ready_process_only(events: list[tuple[str, float]]) -> None:
    one, now_s, process = life(), 0.0, False
    for event, later_s in events:
        now_s += later_s
        match event:
            case "w":
                if one.wanted(now_s) is Action.SPAWN:
                    assert not process
                    process = True
            case "r" if process:
                one.ready(now_s)
            case "f" | "o" if process and (event == "f" or one.overdue(now_s)):
                one.fell(now_s, "fell")
                process = False
            case "a" if process:
                one.absent(now_s, "absent")
                process = False
            case "i" if one.rest(now_s) is Action.END:
                process = False
            case "s":
                assert (one.stop(now_s) is Action.END) == process
                process = False
            case _:
                pass
        assert process == (one.state in (State.STARTING, State.READY))


# -- queue ----------


def test_bounds_in_all_and_for_each() -> None:
    queue: FairQueue[int] = FairQueue(4)
    assert [queue.push("a", number) for number in range(3)] == [True, True, False]
    assert [queue.push("b", number) for number in range(3)] == [True, True, False]
    assert len(queue) == 4
    assert queue.remove("a", 0)
    assert not queue.remove("a", 0)
    assert not queue.remove("c", 0)
    assert sorted(queue.clear()) == [0, 1, 1]
    assert queue.pop() is None
    assert len(queue) == 0


def test_functions_that_wait_for_nothing_are_forgotten() -> None:
    queue: FairQueue[int] = FairQueue(8, functions_max=2)
    for name in "abcde":
        assert queue.push(name, 1)
        queue.pop()
    queue.settle("a", 1.0, 2.0)  # forgotten: no harm
    assert len(queue._shares) == 2


@given(
    st.lists(st.floats(0.001, 1.0), min_size=2, max_size=2),
    st.integers(0, 2**32),
    st.integers(1, 3),
)
@settings(max_examples=60)
def test_two_who_always_wait_get_the_same_time(costs: list[float], seed: int, depth: int) -> None:
    queue: FairQueue[str] = FairQueue(8)
    chance, had, under_way = random.Random(seed), Counter[str](), []
    for name in ("a", "b"):
        for _ in range(4):
            queue.push(name, name)
    for _ in range(400):
        next_ = queue.pop()
        assert next_ is not None
        under_way.append(next_)
        if len(under_way) == depth:
            name, _item, charged_s = under_way.pop(0)
            took_s = costs["ab".index(name)] * (0.5 + chance.random())
            had[name] += took_s  # type: ignore[assignment]
            queue.settle(name, charged_s, took_s)
        assert queue.push(next_[0], next_[0])
    # A call costs 1.5 of its mean at most; those under way, and what was learned of them, are the rest.
    assert abs(had["a"] - had["b"]) <= 1.5 * (2 * depth + 2) * max(costs)


def test_a_pause_saves_up_no_right() -> None:
    queue: FairQueue[str] = FairQueue(100)
    for _ in range(20):
        queue.push("busy", "busy")
        name, _, charged_s = queue.pop() or ("", "", 0.0)
        queue.settle(name, charged_s, 1.0)
    for _ in range(10):
        queue.push("busy", "busy")
        queue.push("back", "back")
    order = []
    for _ in range(10):
        name, _, charged_s = queue.pop() or ("", "", 0.0)
        queue.settle(name, charged_s, 1.0)
        order.append(name)
    assert order.count("busy") >= 4


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=80))
def test_nothing_is_lost_doubled_or_taken_out_of_turn(steps: list[tuple[str, bool]]) -> None:
    queue: FairQueue[int] = FairQueue(10)
    waiting: dict[str, list[int]] = {name: [] for name in "abc"}
    for number, (name, pushes) in enumerate(steps):
        if pushes:
            if queue.push(name, number):
                waiting[name].append(number)
            else:
                assert len(queue) == 10 or len(waiting[name]) == 5
        elif (next_ := queue.pop()) is not None:
            assert waiting[next_[0]].pop(0) == next_[1]
        assert len(queue) == sum(map(len, waiting.values())) <= 10
    assert sorted(queue.clear()) == sorted(number for each in waiting.values() for number in each)


# -- slots ----------


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40_000), st.integers(0, 99)), max_size=60))
def test_slots_never_overlap_and_what_is_free_grows_together(steps: list[tuple[bool, int, int]]) -> None:
    slots = Slots(100_000)
    taken: dict[int, int] = {}
    for takes, count, which in steps:
        if takes:
            start = slots.take(count)
            if start is not None:
                assert start % SLOT_ALIGN_BYTES == 0
                assert start + count <= slots.total_bytes <= 100_000
                assert all(start + count <= a or a + n <= start for a, n in taken.items())
                taken[start] = count
        elif taken:
            start = sorted(taken)[which % len(taken)]
            slots.give(start)
            del taken[start]
    for start in taken:
        slots.give(start)
    assert slots.used_bytes == 0
    assert slots.take(slots.total_bytes) == 0
    assert slots.take(1) is None


def test_an_arena_without_a_broker_holds_no_memory_once_nobody_needs_it() -> None:
    """Also while a traceback still refers to it: brokers may fall often, and arenas are large."""
    arena = Arena(1 << 20)
    fd = os.dup(arena.fd)
    try:
        one, two = arena.take(1 << 18), arena.take(1 << 18)
        one.memory[:] = two.memory[:] = b"x" * (1 << 18)
        one.drop()
        arena.retire()
        assert two.memory[0] == ord("x")  # somebody still copies what was answered
        assert os.fstat(fd).st_blocks
        two.drop()
        assert os.fstat(fd).st_blocks == 0
    finally:
        os.close(fd)
        arena.close_fd()


def test_one_function_leaves_room_in_the_arena_for_others() -> None:
    arena = Arena(1 << 16)
    try:
        flood = [arena.take(4096, "flood") for _ in range(8)]
        with pytest.raises(GpuFull, match="no 4096 bytes"):
            arena.take(4096, "flood")
        quiet = arena.take(1 << 15, "quiet")
        for one in (*flood, quiet):
            one.drop()
        assert arena.used_bytes == 0
        arena.take(1 << 16, "flood").drop()  # alone it may have all
        with pytest.raises(GpuTooSmall, match="do not fit the arena"):
            arena.take((1 << 16) + 1, "flood")
        for _ in range(2):
            arena.take(1 << 15)  # nobody's
    finally:
        arena.close_fd()


class NoHoles:
    def madvise(self, advice: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "no holes")


def test_an_arena_of_a_system_without_holes_goes_with_its_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    arena = Arena(1 << 16)
    monkeypatch.setattr(arena, "_map", NoHoles())
    arena.retire()
    arena.close_fd()


def test_an_arena_smaller_than_a_slot_has_none() -> None:
    assert Slots(4095).take(1) is None


# -- packets ----------


@pytest.mark.parametrize(
    "message",
    [wire.Work(7, "f", "matmul", b"abc", 4096, 10), wire.Forget("f"), wire.Ping(3)],
)
def test_what_the_node_says(message: wire.ToBroker) -> None:
    assert wire.to_broker(wire.pack(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        wire.Ready("a device", 5),
        wire.Absent("none"),
        wire.Unfit("bad"),
        wire.Done(1, 2),
        wire.Failed(1, "memory", "full"),
        wire.Pong(2, 9),
    ],
)
def test_what_a_broker_says(message: wire.FromBroker) -> None:
    assert wire.to_node(wire.pack(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        wire.Work(2**62, "f" * 63, "k" * 64, bytes(CALL_BYTES_MAX), 2**62, 2**62),
        wire.Ready("d" * 10_000),
        wire.Absent("w" * 10_000),
        wire.Unfit("é" * 10_000),
        wire.Failed(1, "kernel", "t" * 10_000),
    ],
)
def test_packets_keep_to_their_bound(message: Any) -> None:
    assert len(wire.pack(message)) <= wire.PACKET_BYTES_MAX


@given(st.binary(max_size=200))
def test_nonsense_is_a_broker_lost(packet: bytes) -> None:
    for read in (wire.to_node, wire.to_broker):
        for given_ in (packet, b"\x01" + packet):
            with contextlib.suppress(BrokerLost):
                read(given_)


def test_another_version_and_a_long_packet_are_refused() -> None:
    for packet in (b"\x02" + wire.pack(wire.Ping(1))[1:], b"\x01" * (wire.PACKET_BYTES_MAX + 1), b""):
        with pytest.raises(BrokerLost, match="another version"):
            wire.to_broker(packet)


# -- operands ----------


class Plain:
    """A device that is no other place."""

    xp = np

    def put(self, array: Any) -> Any:
        assert isinstance(array, np.ndarray)
        return array.copy()

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        return np.full(shape, 77, dtype)

    def take(self, array: Any, into: Any) -> None:
        into[...] = array


def strided(draw: st.DrawFn, at: int, dtype: Dtype, shape: tuple[int, ...], *, output: bool) -> Operand:
    """An operand from byte ``at`` on: axes in any order, gaps, backwards, and in inputs seen many times."""
    step, strides, offset = dtype.item_bytes, [0] * len(shape), at
    for axis in draw(st.permutations(range(len(shape)))):
        kind = draw(
            st.sampled_from(("dense", "gap", "back") if output else ("dense", "gap", "back", "zero", "slide"))
        )
        stride = step * (2 if kind == "gap" else 1)
        if kind == "slide":
            stride = dtype.item_bytes
        strides[axis] = 0 if kind == "zero" else -stride if kind == "back" else stride
        if kind == "back":
            offset += (shape[axis] - 1) * stride
        step = max(step, stride * shape[axis])
    return Operand(offset, dtype, shape, tuple(strides))


@st.composite
def expressions(draw: st.DrawFn) -> tuple[Prepared, bytes]:
    shape = draw(st.lists(st.integers(1, 4), max_size=3).map(tuple))
    dtypes = st.sampled_from((Dtype.F64, Dtype.I16, Dtype.U8))
    one = strided(draw, 64, draw(dtypes), shape, output=False)
    two = strided(draw, 4096, draw(dtypes), shape, output=False)
    out = strided(draw, 8192, draw(dtypes), shape, output=True)
    memory = bytearray(random.Random(draw(st.integers(0, 99))).randbytes(64) * 256)
    for operand in (one, two):  # numbers that are small and finite
        low, high = operand.range
        count = (high - low) // operand.dtype.item_bytes
        memory[low:high] = np.arange(count).astype(operand.dtype.array_name).tobytes()
    described = pack_call(Description((one, two), (out,), (), "2 * a - b"))
    return prepare(shipped(), "elementwise", described, len(memory), CallLimits()), bytes(memory)


@given(expressions())
@settings(max_examples=200, deadline=None)
def test_there_and_back_is_as_in_place(drawn: tuple[Prepared, bytes]) -> None:
    prepared, before = drawn
    wanted, memory = bytearray(before), bytearray(before)
    run_on_cpu(prepared, memoryview(wanted))
    packing = pack_operands(prepared)
    slot = memoryview(bytearray(b"\xaa" * packing.slot_bytes))
    write_inputs(packing, memoryview(memory), slot)
    there = prepare(shipped(), "elementwise", packing.described, len(slot), CallLimits())
    run_on_gpu(there, slot, Plain())
    assert bytes(memory) == before
    read_outputs(packing, slot, memoryview(memory))
    assert memory == wanted


def test_large_operands_and_what_is_seen_many_times() -> None:
    rows, columns = 300, 400
    wide = contiguous(0, Dtype.F64, (rows, columns))
    column = Operand(wide.range[1], Dtype.F64, (rows, columns), (0, 8))
    out = contiguous(column.range[1], Dtype.F64, (rows, columns))
    memory = bytearray(out.range[1])
    memory[: column.range[1]] = np.random.default_rng(1).random(column.range[1] // 8).tobytes()
    described = pack_call(Description((wide, column), (out,), (), "a + b"))
    prepared = prepare(shipped(), "elementwise", described, len(memory), CallLimits())
    packing = pack_operands(prepared)
    assert packing.slot_bytes <= wide.bytes + out.bytes + 8 * columns + 1024
    assert packing.copied_bytes == wide.bytes + out.bytes + 8 * columns
    slot = memoryview(bytearray(packing.slot_bytes))
    write_inputs(packing, memoryview(memory), slot)
    run_on_gpu(prepare(shipped(), "elementwise", packing.described, len(slot), CallLimits()), slot, Plain())
    read_outputs(packing, slot, memoryview(memory))
    wanted = bytearray(memory)
    run_on_cpu(prepared, memoryview(wanted))
    assert wanted == memory


def test_numbers_and_text_go_along() -> None:
    image, out = contiguous(0, Dtype.F32, (4,)), contiguous(16, Dtype.U8, (4,))
    described = pack_call(Description((image,), (out,), (0.5, 1.0)))
    prepared = prepare(shipped(), "threshold", described, 20, CallLimits())
    assert unpack_call(pack_operands(prepared).described).numbers == (0.5, 1.0, 1.0, 0.0)


class Computes:
    """A backend as the self-test needs it."""

    def __init__(self, broken: str = "") -> None:
        self._broken = broken

    def start(self, arena: memoryview) -> Described:
        return Described("")

    def attach(self, memory: memoryview) -> None: ...

    def detach(self, attached: object) -> None: ...

    def run(
        self, function: str, prepared: Prepared, slot: memoryview, maps: Sequence[memoryview] = ()
    ) -> None:
        assert not maps
        if prepared.kernel.name != self._broken:
            run_on_gpu(prepared, slot, Plain())

    def forget(self, function: str) -> None: ...

    def used_bytes(self) -> int:
        return 0

    def close(self) -> None: ...


def test_the_self_test_knows_its_answer() -> None:
    slot = memoryview(bytearray(SELF_TEST_BYTES))
    self_test(Computes(), shipped(), slot)
    for broken in ("matmul", "elementwise"):
        with pytest.raises(BrokerLost, match="wrong answer"):
            self_test(Computes(broken), shipped(), slot)
