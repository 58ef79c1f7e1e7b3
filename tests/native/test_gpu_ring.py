"""The pinned ring: order, wrap, room that comes back when the device is done, and its bounds."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgeagent.accel import gpu_errors as errors
from edgeagent.accel.gpu_context import Block, GpuContext, PinnedRing, Slot, Tenant
from tests.native.cuda_double import CudaDouble


def test_slots_come_in_order_and_wrap(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context, context.ring(1024 + 100) as ring:
        assert ring.size_bytes == 1024
        slots = [ring.reserve(size) for size in (256, 300, 256)]
        assert [slot.offset for slot in slots] == [0, 256, 768]
        assert ring.used_bytes == 1024
        with pytest.raises(errors.GpuBusy, match="full"):
            ring.reserve(1)
        slots[1].retire(0)  # not the oldest: its room comes back with the one before
        with pytest.raises(errors.GpuBusy):
            ring.reserve(1)
        slots[0].retire(0)
        wrapped = ring.reserve(512)
        assert wrapped.offset == 0
        with pytest.raises(errors.GpuBusy):
            ring.reserve(257)
        with pytest.raises(errors.GpuBusy):
            ring.reserve(256 + 1)
        assert ring.reserve(256).offset == 512  # and its end gave it back
        slots[2].retire(0)
        wrapped.retire(0)
        assert ring.used_bytes == 0
        assert ring.reserve(1024).size == 1024


def test_what_does_not_fit_the_end_begins_at_the_start(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context, context.ring(1024) as ring:
        first, second = ring.reserve(512), ring.reserve(256)
        first.retire(0)
        across = ring.reserve(512)  # 256 are left at the end
        assert across.offset == 0
        assert ring.used_bytes == 1024
        second.retire(0)
        assert ring.used_bytes == 768  # with the 256 that were skipped
        across.retire(0)
        assert ring.used_bytes == 0


def test_room_comes_back_only_when_the_device_has_copied(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context, context.tenant("f", quota_bytes=4096) as tenant:
        ring = context.ring(1024)
        block = tenant.alloc(1024)
        cuda.hold()
        slot = ring.reserve(1024)
        slot.write(b"A" * 1024, 0)
        slot.upload(block, 1024, 0)
        slot.retire(0)
        with pytest.raises(errors.GpuBusy):
            ring.reserve(1, 0.005)
        threading.Timer(0.01, cuda.let_go).start()
        back = ring.reserve(1024, 30.0)
        back.download(block, 1000, 24)
        tenant.synchronize()
        target = bytearray(10)
        back.read_into(target, 5)
        assert bytes(target) == b"A" * 10
        with pytest.raises(errors.GpuClosed):
            slot.write(b"x", 0)
        events = cuda.calls("cuEventCreate")
        back.retire(0)
        for _ in range(20):
            again = ring.reserve(512)
            again.upload(block, 512, 0)
            again.retire(tenant.stream)
        assert cuda.calls("cuEventCreate") - events <= 2  # they are used again


def test_its_bytes_are_never_lent_twice(cuda: CudaDouble) -> None:
    """Random sizes, held and let go at random: what arrives is what was written."""
    chance = random.Random(7)
    with GpuContext(library=cuda.path) as context, context.tenant("f", quota_bytes=2**20) as tenant:
        ring = context.ring(8192)
        expected: list[tuple[Block, bytes]] = []
        open_slots: list[Slot] = []
        for i in range(400):
            cuda.hold() if chance.random() < 0.5 else cuda.let_go()
            size = chance.randrange(1, 3000)
            try:
                slot = ring.reserve(size)
            except errors.GpuBusy:
                cuda.let_go()
                open_slots.clear()
                continue
            text = bytes([i % 251]) * size
            slot.write(text, 0)
            if len(expected) < 100:
                block = tenant.alloc(size)
                slot.upload(block, size, 0)
                expected.append((block, text))
            if chance.random() < 0.7:
                slot.retire(0)
            else:
                open_slots.append(slot)
        cuda.let_go()
        for block, text in expected:
            back = bytearray(len(text))
            block.download(back, 0)
            assert bytes(back) == text


def test_bounds_and_misuse(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path, pinned_bytes_max=8192) as context, context.ring(4096) as ring:
        assert context.stats().pinned_bytes == 4096
        with pytest.raises(errors.GpuQuota, match="pinned"):
            context.ring(4097 + 255)
        for size in (0, 4097):
            with pytest.raises(errors.GpuMisuse, match="do not fit"):
                ring.reserve(size)
        with pytest.raises(errors.GpuMisuse):
            context.ring(255)
        slot = ring.reserve(10)
        for size, at in ((11, 0), (1, 10), (1, 2**64 - 1)):
            with pytest.raises(errors.GpuMisuse, match="outside a slot"):
                slot.write(bytes(size), at)
            with pytest.raises(errors.GpuMisuse, match="outside a slot"):
                slot.read_into(bytearray(size), at)
        with context.tenant("f", quota_bytes=4096) as tenant:
            block = tenant.alloc(5)
            with pytest.raises(errors.GpuMisuse, match="outside a slot"):
                slot.upload(block, 11, 0)
            with pytest.raises(errors.GpuMisuse, match="outside a block"):
                slot.download(block, 6, 0)
            with (
                GpuContext(library=cuda.path) as other,
                other.tenant("g", quota_bytes=4096) as stranger,
                pytest.raises(errors.GpuMisuse, match="two GPU contexts"),
            ):
                slot.upload(stranger.alloc(5), 5, 0)
        assert slot.host_ptr == slot.device_ptr - 0x100000000000
    cuda.host_memory(1024)
    with GpuContext(library=cuda.path) as context:
        with pytest.raises(errors.GpuOutOfMemory):
            context.ring(4096)
        assert context.stats().pinned_bytes == 0
        many = [context.ring(512)]
        assert many[0].reserve(1).device_ptr != 0


def test_a_device_that_does_not_see_host_memory_has_no_pointer(cuda: CudaDouble) -> None:
    cuda.attribute(19, 0)
    with GpuContext(library=cuda.path) as context, context.ring(4096) as ring:
        assert ring.reserve(1).device_ptr == 0


def test_slots_are_counted(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context, context.ring(512 * 1024) as ring:
        slots = [ring.reserve(1) for _ in range(1024)]
        with pytest.raises(errors.GpuBusy):
            ring.reserve(1)
        slots.pop(0).retire(0)
        slots.append(ring.reserve(1))


def test_two_streams_on_one_slot_are_put_in_order(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context, context.ring(4096) as ring:
        first, second = (context.tenant(name, quota_bytes=4096) for name in "fg")
        slot = ring.reserve(4)
        slot.write(b"abcd", 0)
        slot.upload(first.alloc(4), 4, 0)
        waits = cuda.calls("cuStreamSynchronize")
        block = second.alloc(4)
        slot.upload(block, 4, 0)
        assert cuda.calls("cuStreamSynchronize") == waits + 1
        second.close()  # waits for its own work; the slot counts on that
        slot.upload(first.alloc(4), 4, 0)
        second = first
        slot.retire(0)
        assert ring.used_bytes == 0


def _stage(ring: PinnedRing, tenant: Tenant, byte: int) -> None:
    block = tenant.alloc(700)
    for _ in range(200):
        slot = ring.reserve(700, 60.0)
        slot.write(bytes([byte]) * 700, 0)
        slot.upload(block, 700, 0)
        slot.retire(0)
        back = ring.reserve(700, 60.0)
        back.download(block, 700, 0)
        tenant.synchronize(60.0)
        target = bytearray(700)
        back.read_into(target, 0)
        back.retire(0)
        assert bytes(target) == bytes([byte]) * 700


def test_threads_share_a_ring(cuda: CudaDouble) -> None:
    with (
        GpuContext(library=cuda.path) as context,
        context.ring(4096) as ring,
        ThreadPoolExecutor(3) as threads,
    ):
        tenants = [context.tenant(str(i), quota_bytes=4096) for i in range(3)]
        for done in [threads.submit(_stage, ring, tenants[i], i + 1) for i in range(3)]:
            done.result()
        assert ring.used_bytes == 0


def test_an_event_that_cannot_be_recorded_keeps_the_slot_reserved(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context, context.tenant("f", quota_bytes=4096) as tenant:
        ring = context.ring(1024)
        block = tenant.alloc(4)
        for function in ("cuEventCreate", "cuEventRecord"):
            slot = ring.reserve(300)
            slot.upload(block, 4, 0)
            cuda.fail(function, 46)
            with pytest.raises(errors.GpuRetryable):
                slot.retire(0)
            assert ring.used_bytes == 512
            slot.retire(0)
            assert ring.used_bytes == 0
        slot = ring.reserve(300)
        slot.upload(block, 4, 0)
        cuda.fail("cuEventRecord", 46)
        del slot  # nobody hears of it, but close
        assert ring.used_bytes == 512
        assert context.close() == ["cuEventRecord: CUDA_ERROR_DEVICE_UNAVAILABLE"]
