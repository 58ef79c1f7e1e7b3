"""Operands that stay where they lie: which descriptors a broker takes, what it keeps of them, and the same answers."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import mmap
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from edgeagent.accel.broker import Broker
from edgeagent.accel.descriptors import Description, Operand, contiguous
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.errors import BrokerLost, OperandRefused
from edgeagent.accel.execute import CallLimits, Prepared, prepare
from edgeagent.accel.mapped import Mappings
from edgeagent.accel.packing import Lying, pack_operands, read_outputs, write_inputs
from edgeagent.accel.registry import shipped
from tests.guest_frames import pack_call
from tests.unit.accel.gpu_double import command
from tests.unit.accel.test_broker import ready, until, with_broker

SIZES = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
ALL = SIZES | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
PAGE = 4096


class Source(NamedTuple):
    fd: int


@contextlib.contextmanager
def memfd(data: bytes, seals: int = SIZES, *, mode: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor to read by of sealed memory."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(fd, data)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        again = os.open(f"/proc/self/fd/{fd}", mode | os.O_CLOEXEC)
        try:
            yield again
        finally:
            os.close(again)
    finally:
        os.close(fd)


class Book:
    """What was pinned, and is still."""

    def __init__(self) -> None:
        self.pinned: list[int] = []

    def pin(self, memory: memoryview) -> int:
        with pytest.raises(TypeError):
            memory[0] = 1
        self.pinned.append(len(memory))
        return len(memory)

    def unpin(self, pinned: int) -> None:
        self.pinned.remove(pinned)


def mappings(book: Book, bytes_max: int = 1 << 20, count_max: int = 32) -> Mappings:
    return Mappings(book.pin, book.unpin, bytes_max, count_max)


def test_a_mapping_is_kept_while_it_is_used() -> None:
    book = Book()
    kept = mappings(book)
    with memfd(bytes(range(256)) * 32) as fd, memfd(b"b" * PAGE) as other:
        (one,) = kept.of([fd], [(PAGE, 10)])
        assert bytes(one) == bytes(range(10))
        (again,) = kept.of([os.dup(fd)], [(2, 3)])
        assert bytes(again) == b"\2\3\4"
        assert bytes(kept.of([other], [(0, 1)])[0]) == b"b"
        assert (len(kept), kept.mapped_bytes, book.pinned) == (2, 3 * PAGE, [2 * PAGE, PAGE])
        kept.fade()
        kept.of([other], [(0, 1)])
        kept.fade()
        assert (len(kept), book.pinned) == (1, [PAGE])
        kept.fade()
        assert (len(kept), kept.mapped_bytes, book.pinned) == (0, 0, [])
        assert bytes(one) == bytes(range(10))  # who has it still, has it


@pytest.mark.parametrize(("bytes_max", "count_max"), [(3 * PAGE, 32), (1 << 20, 3)])
def test_what_was_not_used_for_longest_gives_way(bytes_max: int, count_max: int) -> None:
    book = Book()
    kept = mappings(book, bytes_max, count_max)
    with contextlib.ExitStack() as stack:
        fds = [stack.enter_context(memfd(bytes([n]) * PAGE)) for n in range(5)]
        for n in (0, 1, 2, 0, 3, 4):
            assert kept.of([fds[n]], [(0, 1)])[0][0] == n
        assert len(kept) == 3
        assert len(book.pinned) == 3
        large = stack.enter_context(memfd(bytes(bytes_max + 1)))
        if bytes_max < 1 << 20:
            with pytest.raises(OperandRefused, match="too large"):
                kept.of([large], [(0, 1)])


def test_a_file_without_pages_is_not_pinned() -> None:
    book = Book()
    fd = os.memfd_create("sparse", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 64 * PAGE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, ALL)
    assert bytes(mappings(book).of([fd], [(0, 4)])[0]) == bytes(4)
    assert book.pinned == []
    os.close(fd)


@pytest.mark.parametrize(
    ("seals", "mode", "range_", "why"),
    [
        (fcntl.F_SEAL_SHRINK, os.O_RDONLY, (0, 8), "another size"),
        (fcntl.F_SEAL_GROW, os.O_RDONLY, (0, 8), "another size"),
        (SIZES, os.O_RDWR, (0, 8), "can be written by"),
        (ALL, os.O_RDONLY, (PAGE - 1, 2), "shorter"),
        (ALL, os.O_RDONLY, (-1, 2), "shorter"),
    ],
)
def test_unsealed_writable_and_short_ones_are_refused(
    seals: int, mode: int, range_: tuple[int, int], why: str
) -> None:
    kept = mappings(Book())
    with memfd(b"x" * PAGE, seals, mode=mode) as fd, pytest.raises(OperandRefused, match=why):
        kept.of([fd], [range_])
    assert len(kept) == 0


def test_others_are_refused(tmp_path: Path) -> None:
    kept = mappings(Book())
    path = tmp_path / "file"
    path.write_bytes(b"x" * PAGE)
    with path.open("rb") as file, pytest.raises(OperandRefused, match=r"cannot be mapped|not sealed"):
        kept.of([file.fileno()], [(0, 8)])
    with pytest.raises(OperandRefused, match="0 descriptors came for 1"):
        kept.of([], [(0, 8)])
    with memfd(b"x" * PAGE, ALL) as fd:
        assert (
            bytes(kept.of([fd], [(0, 1)])[0]) == b"x"
        )  # sealed against writing: how it was opened is no matter


# -- through a broker ------------------------------------------------------------------------------------------------

ROWS = 96
LEAD = 512  # bytes before the matrix in its file


def product() -> tuple[Prepared, bytes, Any]:
    """A product whose first operand lies in a hose, from the file's byte LEAD on; and its answer."""
    rng = np.random.default_rng(3)
    a, b = (rng.integers(-9, 9, (ROWS, ROWS)) for _ in range(2))
    count = ROWS * ROWS * 8
    transposed = Operand(0, Dtype.I64, (ROWS, ROWS), (8, ROWS * 8))
    two, out = contiguous(count, Dtype.I64, (ROWS, ROWS)), contiguous(2 * count, Dtype.I64, (ROWS, ROWS))
    described = pack_call(Description((transposed, two), (out,)))
    memory = a.tobytes() + b.tobytes() + bytes(count)
    return prepare(shipped(), "matmul", described, 3 * count, CallLimits()), memory, a.T @ b


async def by_hose(broker: Broker, fd: int, function: str = "f") -> Any:
    prepared, memory, _ = product()
    packing = pack_operands(prepared, [Lying(0, LEAD)])
    assert [one.guest for one in packing.inputs] == [prepared.call.inputs[1]]
    room, slot = bytearray(memory), broker.reserve(packing.slot_bytes)
    try:
        write_inputs(packing, memoryview(room), slot.memory)
        await broker.run(function, "matmul", packing.described, slot, packing.maps, [Source(fd)])
        read_outputs(packing, slot.memory, memoryview(room))
    finally:
        slot.drop()
    return np.frombuffer(room[-ROWS * ROWS * 8 :], "int64").reshape(ROWS, ROWS)


def file_of(memory: bytes) -> bytes:
    return bytes(LEAD) + memory[: ROWS * ROWS * 8] + bytes(100)


@with_broker()
async def test_answers_are_the_same_and_the_operand_is_not_in_the_arena(broker: Broker, folder: Path) -> None:
    _, memory, wanted = product()
    await ready(broker)
    with memfd(file_of(memory)) as fd:
        for _ in range(3):
            assert (await by_hose(broker, fd) == wanted).all()
    assert (folder / "mapped").read_text().split() == [str(LEAD + ROWS * ROWS * 8)] * 3
    assert len((folder / "attached").read_text().split()) == 1  # the mapping was kept


@with_broker(ping_every_s=0.05)
async def test_a_mapping_goes_when_nobody_uses_it(broker: Broker, folder: Path) -> None:
    await ready(broker)
    with memfd(file_of(product()[1])) as fd:
        await by_hose(broker, fd)
    await until((folder / "detached").exists)


@with_broker()
async def test_a_descriptor_that_is_refused_costs_its_call_and_no_broker(
    broker: Broker, folder: Path
) -> None:
    _, memory, wanted = product()
    await ready(broker)
    for data, seals in ((file_of(memory), 0), (file_of(memory)[: ROWS * ROWS], SIZES)):
        with memfd(data, seals) as fd, pytest.raises(OperandRefused):
            await by_hose(broker, fd)
    with memfd(file_of(memory)) as fd:
        assert (await by_hose(broker, fd) == wanted).all()
    assert (broker.life.starts, broker.life.falls) == (1, 0)
    assert not (folder / "detached").exists()


@with_broker()
async def test_a_broker_that_has_no_descriptors_left_refuses_and_goes_on(
    broker: Broker, folder: Path
) -> None:
    _, memory, wanted = product()
    await ready(broker)
    limits = resource.prlimit(broker.pid, resource.RLIMIT_NOFILE)
    with memfd(file_of(memory)) as fd:
        resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        with pytest.raises(OperandRefused):
            await by_hose(broker, fd)
        resource.prlimit(broker.pid, resource.RLIMIT_NOFILE, limits)
        assert (await by_hose(broker, fd) == wanted).all()


@with_broker()
async def test_a_broker_that_is_killed_in_between_loses_its_calls_and_maps_anew(
    broker: Broker, folder: Path
) -> None:
    _, memory, wanted = product()
    await ready(broker)
    with memfd(file_of(memory)) as fd:
        command(folder, "calls", "die")
        with pytest.raises(BrokerLost):
            await by_hose(broker, fd)
        await asyncio.sleep(0)
        broker.life.try_at_s = 0.0
        await ready(broker)
        assert (await by_hose(broker, fd) == wanted).all()
        with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as held:
            assert held[LEAD : LEAD + 8] == memory[:8]
