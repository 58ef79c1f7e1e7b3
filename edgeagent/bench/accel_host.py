"""What brokers of the benchmark drive: the GPU, or numpy where there is none, which is said wherever a figure stands.

Queues, fairness, memory and messages of a broker are the same for both, and worth measuring without a GPU; what a GPU
does is not measured then. numpy computes in one thread here, so that a broker has one device's worth of time to share.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from edgeagent.accel.backend import Described
from edgeagent.accel.broker import Broker, BrokerSettings
from edgeagent.accel.broker_state import State
from edgeagent.accel.devices import NO_GPU, count_gpus
from edgeagent.accel.execute import Prepared, run_on_gpu
from edgeagent.bench.harness import CaseSkipped, Sample, Sampler
from edgeagent.node.accel_gpus import CUDA

__all__ = ["CUDA", "HOST", "HostBackend", "open_broker", "saying", "where"]

HOST = "edgeagent.bench.accel_host:HostBackend"
_NAME = "numpy on the CPU, no GPU"
_LOOK_S = 0.01


def where() -> tuple[str, str]:
    """The backend to measure on, and why it is no GPU; empty: it is one."""
    return (CUDA, "") if count_gpus() else (HOST, f"no GPU: {NO_GPU}")


async def _until_ready(broker: Broker) -> None:
    """Raises CaseSkipped where it does not come to that."""
    broker.want()
    while not broker.ready:
        if broker.life.state in (State.BROKEN, State.ABSENT):
            raise CaseSkipped(f"no GPU: {broker.life.why}")
        await asyncio.sleep(_LOOK_S)


def open_broker(runner: asyncio.Runner, stack: ExitStack, backend: str, settings: BrokerSettings) -> Broker:
    """Ready, and closed at the end of ``stack``. Raises CaseSkipped."""

    async def made() -> Broker:
        return Broker(settings, backend)

    broker = runner.run(made())
    stack.callback(lambda: runner.run(broker.close()))
    runner.run(_until_ready(broker))
    return broker


def saying(samplers: Mapping[str, Sampler], **told: Any) -> dict[str, Sampler]:
    """The same, and with each value of ``ours`` what it was measured on."""

    def ours() -> Sample:
        value, more = samplers["ours"]()
        return value, {**more, **told}

    return {**samplers, "ours": ours}


class HostBackend:
    """numpy, with operands copied to memory of its own and back, as a device's are."""

    def __init__(self, _device: int) -> None:
        """In the broker's process, which has no numpy yet; its library reads the variable when it is loaded."""
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        import numpy as np

        self.xp: Any = np

    def start(self, arena: memoryview) -> Described:
        assert len(arena)
        return Described(_NAME)

    def run(
        self, _function: str, prepared: Prepared, slot: memoryview, maps: Sequence[memoryview] = ()
    ) -> None:
        run_on_gpu(prepared, slot, self, maps)

    def attach(self, memory: memoryview) -> None:
        """It is fast enough."""

    def detach(self, attached: Any) -> None:
        """Nothing was made."""

    def put(self, array: Any) -> Any:
        return self.xp.array(array)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self.xp.empty(shape, dtype)

    def take(self, array: Any, into: Any) -> None:
        into[...] = array

    def forget(self, function: str) -> None:
        """Nothing is kept."""

    def used_bytes(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing is open."""
