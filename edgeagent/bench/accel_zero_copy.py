"""``zero-copy-SIZE``: us of a kernel call whose operand lies in a hose, beside the same call through the arena.

``ours`` gives the broker a descriptor of the hose, as a node does for what a guest got by one: the broker maps it once,
pins it where the device allows that, and the bytes go to the device from where they lie. The baseline ``staged`` copies
the operand into the arena first, as a node does for a guest's own memory, and is the same from there on. The kernel is
a sum of F32 numbers, which reads every byte and writes four. Answers are checked in every sample.

Where there is no GPU the broker drives numpy (``device`` says so), whose copy out of the shared memory stands for the
device's: what is left is what the node no longer does, and not what a GPU gains.
"""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple

from edgeagent.accel.broker import Broker, BrokerSettings
from edgeagent.accel.descriptors import Description, contiguous, pack_call
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.execute import CallLimits, prepare
from edgeagent.accel.packing import Lying, Packing, pack_operands, read_outputs, write_inputs
from edgeagent.accel.registry import shipped
from edgeagent.bench.accel_host import open_broker, saying, where
from edgeagent.bench.harness import Bench, Case, Rounds, Sampler

__all__ = ["SIZES", "zero_copy_cases", "zero_copy_samplers"]

SIZES = {"1MiB": 1 << 20, "16MiB": 16 << 20, "64MiB": 64 << 20}
CALLS = 8  # in a round
KERNEL = "sum"
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class _Hose(NamedTuple):
    """A descriptor to read by, and the memory; its first ``size`` bytes are the operand, then comes the output."""

    fd: int
    memory: memoryview


def _hose(size: int, stack: ExitStack) -> _Hose:
    """Of ones, so that their sum is their number; pages are there from the start, as a hose's are."""
    fd = os.memfd_create("edge-bench", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    stack.callback(os.close, fd)
    os.ftruncate(fd, size + mmap.PAGESIZE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    memory = memoryview(mmap.mmap(fd, size + mmap.PAGESIZE))
    memory[:size] = struct.pack("<f", 1.0) * (size // 4)
    reading = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, reading)
    return _Hose(reading, memory)


async def _many(broker: Broker, packing: Packing, hose: _Hose, size: int) -> float:
    begun = time.perf_counter()
    sources = [hose] * len(packing.maps)
    for _ in range(CALLS):
        slot = broker.reserve(packing.slot_bytes)
        try:
            write_inputs(packing, hose.memory, slot.memory)
            await broker.run("bench", KERNEL, packing.described, slot, packing.maps, sources)
            read_outputs(packing, slot.memory, hose.memory)
        finally:
            slot.drop()
        (answer,) = struct.unpack_from("<f", hose.memory, size)
        if abs(answer - size / 4) > 1e-3 * size:
            raise AssertionError(f"a sum of {size // 4} ones is {answer}")
    return (time.perf_counter() - begun) * 1e6 / CALLS


@contextmanager
def zero_copy_samplers(backend: str, size: int) -> Iterator[tuple[dict[str, Sampler], str]]:
    """The contestants, and what the broker says of its device. Raises CaseSkipped where none becomes ready."""
    a, out = contiguous(0, Dtype.F32, (size // 4,)), contiguous(size, Dtype.F32, (1,))
    described = pack_call(Description((a,), (out,), (0.0,)))
    prepared = prepare(shipped(), KERNEL, described, size + mmap.PAGESIZE, CallLimits())
    packings = {"ours": pack_operands(prepared, [Lying(0, 0)]), "staged": pack_operands(prepared)}
    with asyncio.Runner() as runner, ExitStack() as stack:
        hose = _hose(size, stack)
        broker = open_broker(runner, stack, backend, BrokerSettings(arena_bytes=2 * size + (1 << 20)))

        def sampler(packing: Packing) -> Sampler:
            return lambda: (runner.run(_many(broker, packing, hose, size)), {})

        yield {name: sampler(packing) for name, packing in packings.items()}, broker.device_name


def _open(size: int) -> Callable[[Bench], AbstractContextManager[dict[str, Sampler]]]:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        backend, no_gpu = where()
        if no_gpu:
            bench.skip("zero-copy on a GPU", f"{no_gpu}; zero-copy-SIZE has the broker drive numpy instead")
        with zero_copy_samplers(backend, size) as (samplers, device):
            yield saying(samplers, device=device)

    return opened


def _fields(rounds: Rounds, _bench: Bench) -> dict[str, Any]:
    return {"device": rounds["ours"][-1][1]["device"]}


def zero_copy_cases() -> list[Case]:
    return [
        Case(
            name=f"zero-copy-{name}",
            unit="us",
            better="lower",
            open=_open(size),
            params={"kernel": KERNEL, "bytes": size, "calls_per_round": CALLS},
            rounds=21,
            rounds_full=51,
            memory_bytes=6 * size + (64 << 20),
            fields=_fields,
        )
        for name, size in SIZES.items()
    ]
