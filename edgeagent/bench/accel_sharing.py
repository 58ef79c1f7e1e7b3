"""``sharing-N``: kernel calls a second of N = 1, 2, 4, 8 functions together that share a GPU by one broker.

All ask for the same product of matrices; every second function is greedy, and keeps four times as many calls under way
as the others. A sample ends with the ``CALLS``th answer. The broker gives each function the same time of the device
whatever it asks for: ``time_spread_pct`` says by how much that failed, (most - least) / mean of the functions' time on
the device.

Baselines: ``alone``, one function that keeps the calls of all N under way (so the ratio is what sharing costs), and
``own-brokers``, each function with a broker, and so a context, of its own on the same device. Where there is no GPU the
broker drives numpy (``device`` says so): queue, memory and fairness are the same, the calls are not, and
``own-brokers``, which would be N cores, is left out.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple

from edgeagent.accel.broker import Broker, BrokerSettings
from edgeagent.accel.descriptors import Description, contiguous, pack_call
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.execute import CallLimits, prepare
from edgeagent.accel.packing import Packing, pack_operands, read_outputs, write_inputs
from edgeagent.accel.registry import shipped
from edgeagent.bench.accel_host import open_broker, saying, where
from edgeagent.bench.harness import Bench, Case, Rounds, Sample, Sampler

__all__ = ["FUNCTIONS", "sharing_cases", "sharing_samplers"]

FUNCTIONS = (1, 2, 4, 8)
CALLS = 192  # of all functions, in a sample
MODEST, GREEDY = 2, 8  # calls that a function keeps under way
_SIZE_GPU, _SIZE_HOST = 1024, 128
_ARENA_BYTES = 1 << 30


class _Product(NamedTuple):
    packing: Packing
    memory: bytearray


class _Asker(NamedTuple):
    function: str
    broker: Broker
    in_flight: int


def _product(size: int) -> _Product:
    """A product of F32 matrices, and a guest's memory for it."""
    room = size * size * 4
    a, b, out = (contiguous(place * room, Dtype.F32, (size, size)) for place in range(3))
    described = pack_call(Description((a, b), (out,)))
    prepared = prepare(shipped(), "matmul", described, 3 * room, CallLimits())
    return _Product(pack_operands(prepared), bytearray(3 * room))


class _Load:
    """Functions that ask until ``CALLS`` calls were answered."""

    def __init__(self, askers: Sequence[_Asker], size: int) -> None:
        self._askers, self._products = askers, [_product(size) for _ in askers]
        self._answered, self._ended_s = 0, 0.0
        self._device_us: list[int] = []

    async def sample(self) -> Sample:
        self._answered, self._device_us = 0, [0] * len(self._askers)
        begun_s = time.perf_counter()
        await asyncio.gather(
            *(self._ask(number) for number, one in enumerate(self._askers) for _ in range(one.in_flight))
        )
        spread = (max(self._device_us) - min(self._device_us)) / max(statistics.fmean(self._device_us), 1.0)
        return CALLS / (self._ended_s - begun_s), {"time_spread_pct": 100.0 * spread}

    async def _ask(self, number: int) -> None:
        (function, broker, _), (packing, memory) = self._askers[number], self._products[number]
        while self._answered < CALLS:
            slot = broker.reserve(packing.slot_bytes)
            try:
                write_inputs(packing, memoryview(memory), slot.memory)
                done = await broker.run(function, "matmul", packing.described, slot)
                read_outputs(packing, slot.memory, memoryview(memory))
            finally:
                slot.drop()
            if self._answered < CALLS:  # what comes later only empties the queue
                self._answered += 1
                self._device_us[number] += done.run_us
                self._ended_s = time.perf_counter()


@contextmanager
def sharing_samplers(
    backend: str, count: int, size: int, *, own_brokers: bool
) -> Iterator[tuple[dict[str, Sampler], str]]:
    """The contestants, and what the broker says of its device. Raises CaseSkipped where none becomes ready."""
    settings = BrokerSettings(arena_bytes=_ARENA_BYTES, queue_max=256)
    in_flight = [GREEDY if number % 2 else MODEST for number in range(count)]
    with asyncio.Runner() as runner, ExitStack() as stack:
        broker = open_broker(runner, stack, backend, settings)
        loads = {
            "ours": [_Asker(f"f{number}", broker, one) for number, one in enumerate(in_flight)],
            "alone": [_Asker("f0", broker, sum(in_flight))],
        }
        if own_brokers and count > 1:
            loads["own-brokers"] = [
                _Asker(f"f{number}", open_broker(runner, stack, backend, settings), one)
                for number, one in enumerate(in_flight)
            ]

        def sampler(load: _Load) -> Sampler:
            return lambda: runner.run(load.sample())

        yield {name: sampler(_Load(askers, size)) for name, askers in loads.items()}, broker.device_name


def _open(count: int) -> Callable[[Bench], AbstractContextManager[dict[str, Sampler]]]:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        backend, no_gpu = where()
        if no_gpu:
            bench.skip("sharing on a GPU", f"{no_gpu}; sharing-N has the broker drive numpy instead")
        size = _SIZE_HOST if no_gpu else _SIZE_GPU
        with sharing_samplers(backend, count, size, own_brokers=not no_gpu) as (samplers, device):
            yield saying(samplers, device=device, matrix_f32=size)

    return opened


def _fields(rounds: Rounds, _bench: Bench) -> dict[str, Any]:
    spreads = {
        name: round(statistics.median(more["time_spread_pct"] for _, more in taken), 1)
        for name, taken in rounds.items()
    }
    newest = rounds["ours"][-1][1]
    return {"time_spread_pct": spreads, "device": newest["device"], "matrix_f32": newest["matrix_f32"]}


def sharing_cases() -> list[Case]:
    return [
        Case(
            name=f"sharing-{count}",
            unit="calls/s",
            better="higher",
            open=_open(count),
            params={
                "kernel": "matmul",
                "functions": count,
                "calls_per_round": CALLS,
                "in_flight": [GREEDY if number % 2 else MODEST for number in range(count)],
            },
            rounds=21,
            rounds_full=51,
            memory_bytes=1 << 30,
            fields=_fields,
        )
        for count in FUNCTIONS
    ]
