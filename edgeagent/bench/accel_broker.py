"""``broker-overhead``: us of a small kernel call through the broker of a GPU, beside the same call by CuPy at once.

Both run the same array function on operands of the same size, there and back: ``ours`` packs them into the arena, goes
to the broker's process and copies the outputs out, as a guest's call does; ``direct-cupy`` does it in this process on
CuPy's own stream. What a call costs more is the field ``overhead_us``. Where there is no GPU the case is skipped.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from edgeagent.accel.broker import Broker, BrokerSettings
from edgeagent.accel.descriptors import Description, contiguous, pack_call
from edgeagent.accel.devices import NO_GPU, count_gpus
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.execute import CallLimits, Prepared, prepare, run_on_gpu
from edgeagent.accel.packing import pack_operands, read_outputs, write_inputs
from edgeagent.accel.registry import shipped
from edgeagent.bench.accel_host import CUDA, open_broker
from edgeagent.bench.harness import Bench, Case, CaseSkipped, Rounds, Sample, Sampler

__all__ = ["broker_cases", "overhead_samplers"]

KERNEL = "elementwise"
ELEMENTS = 1024
CALLS = 100  # in a round

Direct = Callable[[Prepared, memoryview], None]


def small_call() -> tuple[Prepared, bytearray]:
    """``2 * a + 1`` of F32 numbers, and the memory that it works in."""
    size = ELEMENTS * 4
    a, out = (contiguous(place * size, Dtype.F32, (ELEMENTS,)) for place in range(2))
    memory = bytearray(2 * size)
    described = pack_call(Description((a,), (out,), (), "2 * a + 1"))
    return prepare(shipped(), KERNEL, described, len(memory), CallLimits()), memory


async def _many(broker: Broker, prepared: Prepared, memory: memoryview) -> float:
    begun = time.perf_counter()
    for _ in range(CALLS):
        packing = pack_operands(prepared)
        slot = broker.reserve(packing.slot_bytes)
        try:
            write_inputs(packing, memory, slot.memory)
            await broker.run("bench", KERNEL, packing.described, slot)
            read_outputs(packing, slot.memory, memory)
        finally:
            slot.drop()
    return (time.perf_counter() - begun) * 1e6 / CALLS


@contextmanager
def overhead_samplers(backend: str, direct: Direct) -> Iterator[dict[str, Sampler]]:
    """``backend`` is what the broker drives (``module:attribute``), ``direct`` the same without a broker.

    Raises CaseSkipped where the broker does not become ready.
    """
    prepared, memory = small_call()

    def by_hand() -> Sample:
        begun = time.perf_counter()
        for _ in range(CALLS):
            direct(prepared, memoryview(memory))
        return (time.perf_counter() - begun) * 1e6 / CALLS, {}

    with asyncio.Runner() as runner, ExitStack() as stack:
        broker = open_broker(runner, stack, backend, BrokerSettings())
        yield {
            "ours": lambda: (runner.run(_many(broker, prepared, memoryview(memory))), {}),
            "direct-cupy": by_hand,
        }


@contextmanager
def _open(_bench: Bench) -> Iterator[dict[str, Sampler]]:
    if not count_gpus():
        raise CaseSkipped(f"no GPU: {NO_GPU}")
    from edgeagent.accel.cupy_glue import CupyDevice, load_cupy
    from edgeagent.accel.gpu_errors import GpuAbsent

    try:
        device = CupyDevice(load_cupy())
    except GpuAbsent as error:
        raise CaseSkipped(f"no GPU: {error.message}") from None
    with overhead_samplers(CUDA, lambda prepared, memory: run_on_gpu(prepared, memory, device)) as samplers:
        yield samplers


def _fields(rounds: Rounds, _bench: Bench) -> dict[str, Any]:
    ours, theirs = (
        statistics.median(value for value, _ in rounds[name]) if rounds.get(name) else None
        for name in ("ours", "direct-cupy")
    )
    return {} if ours is None or theirs is None else {"overhead_us": round(ours - theirs, 1)}


def broker_cases() -> list[Case]:
    opener: Callable[[Bench], AbstractContextManager[dict[str, Sampler]]] = _open
    return [
        Case(
            name="broker-overhead",
            unit="us",
            better="lower",
            open=opener,
            params={"kernel": KERNEL, "elements_f32": ELEMENTS, "calls_per_round": CALLS},
            rounds=31,
            rounds_full=101,
            memory_bytes=512 << 20,
            fields=_fields,
        )
    ]
