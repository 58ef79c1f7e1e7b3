"""Operands that lie in a hose, on a real device: the same answers, by one mapping, and nobody can write there."""

from __future__ import annotations

import mmap
import os

import numpy as np

from edgeagent.accel import gpu_errors as errors
from edgeagent.accel.broker import Broker
from edgeagent.accel.gpu_context import GpuContext
from tests.gpu.test_broker import on_broker
from tests.unit.accel.test_mapped import by_hose, file_of, memfd, product

MIB = 2**20


def test_an_operand_in_a_hose_has_the_same_answer() -> None:
    async def scenario(broker: Broker) -> None:
        _, memory, wanted = product()
        with memfd(file_of(memory)) as fd:
            for _ in range(3):
                assert (await by_hose(broker, fd) == wanted).all()
        with memfd(file_of(memory)[::-1]) as fd:  # another hose, other numbers
            assert (await by_hose(broker, fd) != wanted).any()
        assert (broker.life.starts, broker.life.falls) == (1, 0)

    on_broker(scenario)


def test_memory_that_can_only_be_read_is_registered_or_refused_with_a_type(context: GpuContext) -> None:
    """Refused it must be by an error that leaves the context as it was: the broker then goes on without."""
    text = os.urandom(2 * MIB)
    with memfd(text) as fd, mmap.mmap(fd, 2 * MIB, mmap.MAP_SHARED, mmap.PROT_READ) as hose:
        held = memoryview(hose)
        with context.tenant("f", quota_bytes=4 * MIB) as tenant:
            try:
                registration = context.register(held, read_only=True)
            except (errors.GpuUnsupported, errors.GpuMisuse, errors.GpuRetryable):
                registration = None
            block = tenant.alloc(2 * MIB)
            block.upload(held, 0)
            back = bytearray(2 * MIB)
            block.download(back, 0)
            tenant.synchronize(30.0)
            assert np.array_equal(np.frombuffer(back, "u1"), np.frombuffer(text, "u1"))
            if registration is not None:
                registration.close()
        assert context.poison == 0
        held.release()
