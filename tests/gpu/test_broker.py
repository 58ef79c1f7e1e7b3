"""The broker on a real device: every kernel agrees with the CPU, and what it costs the node to lose it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from edgeagent.accel.broker import Broker, BrokerSettings
from edgeagent.accel.broker_state import State
from edgeagent.accel.errors import GpuFailed
from edgeagent.node.accel_gpus import CUDA
from tests.unit.accel.every_kernel import CASES, assert_agrees, by_broker
from tests.unit.accel.every_type import typed_cases


def on_broker(scenario: Callable[[Broker], Awaitable[None]]) -> None:
    async def main() -> None:
        broker = Broker(BrokerSettings(arena_bytes=64 << 20, start_timeout_s=120.0), CUDA)
        broker.want()
        try:
            async with asyncio.timeout(120):
                while broker.life.state is State.STARTING:  # noqa: ASYNC110 - another process starts
                    await asyncio.sleep(0.01)
            if broker.life.state is State.ABSENT and "CuPy" in broker.life.why:
                pytest.skip(broker.life.why)
            assert broker.ready, broker.life.why
            await scenario(broker)
        finally:
            await broker.close()

    asyncio.run(main())


def test_every_kernel_agrees_with_the_cpu() -> None:
    async def scenario(broker: Broker) -> None:
        for case in CASES:
            assert_agrees(case, await by_broker(broker, case))

    on_broker(scenario)


def test_every_kernel_in_every_type_agrees_with_the_cpu() -> None:
    """All that differ are told, not the first alone: who has a device for minutes wants to know them all."""

    async def scenario(broker: Broker) -> None:
        wrong = []
        for case in typed_cases():
            try:
                assert_agrees(case, await by_broker(broker, case))
            except (AssertionError, GpuFailed) as error:
                wrong.append(f"{case.name} {[one.dtype.name for one in case.prepared.call.inputs]}: {error}")
        assert not wrong, "\n".join(wrong)
        assert (broker.life.starts, broker.life.falls) == (1, 0)

    on_broker(scenario)


def test_a_killed_broker_comes_back() -> None:
    async def scenario(broker: Broker) -> None:
        os.kill(broker.pid, signal.SIGKILL)
        with pytest.raises(GpuFailed):
            await by_broker(broker, CASES[0])
        broker.life.try_at_s = 0.0
        async with asyncio.timeout(120):
            while not broker.ready:
                broker.want()
                await asyncio.sleep(0.01)
        assert_agrees(CASES[0], await by_broker(broker, CASES[0]))

    on_broker(scenario)
