"""Contexts, memory and streams on a real device."""

from __future__ import annotations

import mmap
import os

import pytest

from edgeagent.accel import gpu_errors as errors
from edgeagent.accel.gpu_context import GpuContext

MIB = 2**20


def test_facts(context: GpuContext) -> None:
    facts = context.facts
    assert facts.name
    assert facts.capability >= (5, 0)
    assert len(facts.uuid) in (0, 32)
    free_bytes, total_bytes = context.memory()
    assert 0 < free_bytes <= total_bytes <= facts.total_bytes


def test_bytes_survive_the_way_there_and_back(context: GpuContext) -> None:
    text = os.urandom(3 * MIB + 17)
    with context.tenant("f", quota_bytes=16 * MIB) as tenant, context.ring(4 * MIB) as ring:
        block = tenant.alloc(len(text))
        slot = ring.reserve(len(text))
        slot.write(text, 0)
        slot.upload(block, len(text), 0)
        slot.retire(0)
        back = bytearray(len(text))
        block.download(back, 0)
        tenant.synchronize(30.0)
        assert bytes(back) == text
        assert ring.used_bytes == 0


def test_a_pool_keeps_and_gives_back(context: GpuContext) -> None:
    with context.tenant("f", quota_bytes=64 * MIB) as tenant:
        block, zeros = tenant.alloc(32 * MIB), bytes(MIB)
        block.upload(zeros, 0)
        block.free()
        tenant.synchronize(30.0)
        if context.facts.memory_pools:
            assert tenant.reserved_bytes >= 32 * MIB
        tenant.trim()
        assert tenant.reserved_bytes == 0
        with pytest.raises(errors.GpuQuota):
            tenant.alloc(65 * MIB)


def test_more_than_the_device_has_is_out_of_memory_and_goes_on(context: GpuContext) -> None:
    total_bytes = context.memory()[1]
    with context.tenant("f", quota_bytes=4 * total_bytes) as tenant:
        with pytest.raises(errors.GpuOutOfMemory):
            tenant.alloc(2 * total_bytes)
        assert context.poison == 0
        assert tenant.alloc(MIB).live


def test_an_idle_function_gives_way(context: GpuContext) -> None:
    free_bytes = context.memory()[0]
    most = free_bytes // 10 * 7
    with (
        context.tenant("idle", quota_bytes=free_bytes, evictable=True) as idle,
        context.tenant("asking", quota_bytes=free_bytes) as asking,
    ):
        kept = idle.alloc(most)
        assert asking.alloc(most).live
        assert not kept.live
        assert idle.generation == 1


def test_a_hose_is_registered_or_refused_with_a_type(context: GpuContext) -> None:
    hose = mmap.mmap(-1, 2 * MIB)
    hose[:5] = b"frame"
    try:
        registration = context.register(hose)
    except errors.GpuUnsupported:
        assert not context.facts.host_register
        return
    with registration, context.tenant("f", quota_bytes=4 * MIB) as tenant:
        block = tenant.alloc(2 * MIB)
        block.upload(hose, 0)
        back = bytearray(2 * MIB)
        block.download(back, 0)
        tenant.synchronize(30.0)
        assert bytes(back[:5]) == b"frame"
        assert registration.zero_copy == (context.facts.integrated and registration.device_ptr != 0)


def test_events_measure(context: GpuContext) -> None:
    with (
        context.tenant("f", quota_bytes=64 * MIB) as tenant,
        context.event() as start,
        context.event() as end,
    ):
        block = tenant.alloc(32 * MIB)
        data = bytes(32 * MIB)
        start.record(tenant)
        block.upload(data, 0)
        end.record(tenant)
        end.wait(30.0)
        assert 0.0 < start.ms_until(end) < 10_000.0


def test_a_context_can_be_opened_again() -> None:
    for _ in range(3):
        with GpuContext() as context, context.tenant("f", quota_bytes=MIB) as tenant:
            assert tenant.alloc(4096).live
        assert context.close() == []
