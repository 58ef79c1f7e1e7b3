"""A function's stream and memory: quota, pools, giving way to others, copies, waiting, threads."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgeagent.accel import gpu_errors as errors
from edgeagent.accel.gpu_context import Block, GpuContext, Tenant
from tests.native.cuda_double import CudaDouble

MIB = 2**20


def test_a_stream_and_a_pool_of_its_own(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context:
        first = context.tenant("f", quota_bytes=4096, priority=-99)
        assert cuda.last("priority") == -5
        second = context.tenant("g", quota_bytes=4096, priority=7)
        assert cuda.last("priority") == 0
        assert len({first.stream, second.stream, first.pool, second.pool}) == 4
        assert (first.name, first.quota_bytes, first.generation) == ("f", 4096, 0)
        assert context.stats().tenants == 2


def test_the_quota_is_kept_by_our_books(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context, context.tenant("f", quota_bytes=2048) as tenant:
        first = tenant.alloc(1)  # 512, as the driver's pools round
        second = tenant.alloc(1536)
        assert (first.size, second.size, tenant.used_bytes, tenant.blocks) == (1, 1536, 2048, 2)
        with pytest.raises(errors.GpuQuota, match=r"f: 512 bytes more than the 2048 in use .* quota of 2048"):
            tenant.alloc(1)
        with pytest.raises(errors.GpuQuota):
            tenant.alloc(2**64 - 600)
        first.free()
        first.free()
        assert tenant.used_bytes == 1536
        assert not first.live
        with pytest.raises(errors.GpuClosed):
            _ = first.ptr
        assert tenant.alloc(512).live
        for size in (0, 2**64 - 1):
            with pytest.raises(errors.GpuMisuse):
                tenant.alloc(size)


def test_a_failed_allocation_takes_nothing_of_the_quota(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context, context.tenant("f", quota_bytes=2048) as tenant:
        cuda.fail("cuMemAllocFromPoolAsync", 2)
        cuda.fail("cuMemAllocFromPoolAsync", 2, call=2)  # again, after its own pool was trimmed
        with pytest.raises(errors.GpuOutOfMemory):
            tenant.alloc(2048)
        cuda.fail("cuMemAllocFromPoolAsync", 46)
        with pytest.raises(errors.GpuRetryable):
            tenant.alloc(2048)
        assert (tenant.used_bytes, tenant.blocks) == (0, 0)
        cuda.fail("cuMemAllocFromPoolAsync", 2)
        assert tenant.alloc(2048).live  # one trim of its own pool was enough


def test_the_release_threshold_says_what_a_pool_keeps(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context:
        keeping = context.tenant("keeps", quota_bytes=8192)
        letting = context.tenant("lets", quota_bytes=8192, keep_bytes=1024)
        for tenant, kept in ((keeping, 4096), (letting, 1024)):
            tenant.alloc(4096).free()
            tenant.synchronize()
            assert tenant.reserved_bytes == kept
            tenant.trim()
            assert tenant.reserved_bytes == 0


def test_a_trim_gives_back_what_was_freed_just_before_but_no_work_under_way(cuda: CudaDouble) -> None:
    """A pool keeps what the host has not seen to be unused."""
    with GpuContext(library=cuda.path) as context:
        tenant = context.tenant("f", quota_bytes=8192)
        tenant.alloc(4096).free()
        tenant.trim()
        assert tenant.reserved_bytes == 0
        block = tenant.alloc(4096)
        cuda.hold()
        block.free()
        tenant.trim()
        assert tenant.reserved_bytes == 4096
        cuda.let_go()
        tenant.trim()
        assert tenant.reserved_bytes == 0


def test_idle_functions_give_their_cached_memory_first_least_recent_first(cuda: CudaDouble) -> None:
    cuda.memory(3 * 4096)
    with GpuContext(library=cuda.path) as context:
        tenants = [context.tenant(name, quota_bytes=4 * 4096) for name in "abcd"]
        for tenant in tenants[:3]:
            tenant.alloc(4096).free()
        with tenants[0].running():
            pass  # now b is the one that ran longest ago
        assert context.memory()[0] == 0
        block = tenants[3].alloc(4096)
        assert [tenant.reserved_bytes for tenant in tenants] == [4096, 0, 4096, 4096]
        with tenants[2].running():
            more = tenants[3].alloc(4096)
            assert [tenant.reserved_bytes for tenant in tenants] == [0, 0, 4096, 8192]
            with pytest.raises(errors.GpuOutOfMemory):  # c runs, and keeps what it has
                tenants[3].alloc(4096)
        stats = context.stats()
        assert (stats.trims, stats.evictions, stats.used_bytes) == (2, 0, 8192)
        assert block.live
        assert more.live


def test_blocks_go_only_of_those_that_can_make_them_anew(cuda: CudaDouble) -> None:
    cuda.memory(3 * 4096)
    with GpuContext(library=cuda.path) as context:
        fixed = context.tenant("fixed", quota_bytes=4 * 4096)
        weights = [context.tenant(name, quota_bytes=4 * 4096, evictable=True) for name in ("old", "new")]
        kept = fixed.alloc(4096)
        blocks = [tenant.alloc(4096) for tenant in weights]
        asking = context.tenant("asking", quota_bytes=4 * 4096)
        with weights[0].running() as generation:
            assert generation == 0
        blocks.append(asking.alloc(4096))  # new gave way: old ran later
        assert [one.live for one in (kept, *blocks)] == [True, True, False, True]
        assert [tenant.generation for tenant in weights] == [0, 1]
        with pytest.raises(errors.GpuClosed):
            blocks[1].upload(b"x", 0)
        with weights[0].running(), pytest.raises(errors.GpuOutOfMemory):
            asking.alloc(4096)
        assert context.stats().evictions == 1
        assert weights[0].used_bytes == 4096
        weights[0].evict()
        assert (weights[0].used_bytes, weights[0].generation) == (0, 1)
        assert weights[1].alloc(4096).live


def test_who_has_work_under_way_does_not_give_way(cuda: CudaDouble) -> None:
    cuda.memory(4096)
    with GpuContext(library=cuda.path) as context:
        busy = context.tenant("busy", quota_bytes=4096, evictable=True)
        asking = context.tenant("asking", quota_bytes=4096)
        block = busy.alloc(4096)
        cuda.hold()
        block.upload(b"abcd", 0)
        with pytest.raises(errors.GpuOutOfMemory):
            asking.alloc(1)
        with pytest.raises(errors.GpuBusy):
            busy.evict()
        assert block.live
        cuda.let_go()
        with busy.running(), pytest.raises(errors.GpuBusy):
            busy.evict()
        assert asking.alloc(1).live
        assert not block.live


def test_a_fault_while_somebody_gives_way_comes_out(cuda: CudaDouble) -> None:
    cuda.memory(4096)
    with GpuContext(library=cuda.path) as context:
        idle = context.tenant("idle", quota_bytes=4096, evictable=True)
        asking = context.tenant("asking", quota_bytes=4096)
        idle.alloc(4096).free()
        cuda.fail("cuMemPoolTrimTo", 46, call=2)  # the first is of the asking one's own pool
        with pytest.raises(errors.GpuRetryable):
            asking.alloc(1)
        assert asking.used_bytes == 0
        assert asking.alloc(1).live


def test_the_budget_of_all_counts_what_pools_may_keep(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path, budget_bytes=8192) as context:
        first = context.tenant("first", quota_bytes=MIB)
        second = context.tenant("second", quota_bytes=MIB)
        first.alloc(8192).free()
        assert context.stats().held_bytes == 8192
        block = second.alloc(4096)  # first's cache goes
        assert (context.stats().held_bytes, context.stats().trims) == (4096, 1)
        with pytest.raises(errors.GpuOutOfMemory, match="budget of all functions"):
            first.alloc(8192)
        assert first.used_bytes == 0
        block.free()
        assert first.alloc(8192).live


def test_copies_go_in_order_of_the_stream_and_stay_inside_their_block(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context, context.tenant("f", quota_bytes=4096) as tenant:
        block = tenant.alloc(10)
        source, target = bytearray(b"0123456789"), bytearray(4)
        cuda.hold()
        block.upload(source, 0)
        block.upload(b"ab", 3)
        block.download(target, 2)
        assert not tenant.is_idle()
        assert target == bytearray(4)
        cuda.let_go()
        tenant.synchronize(1.0)
        assert bytes(target) == b"2ab5"
        for size, offset in ((11, 0), (1, 10), (2, 9), (1, 2**63)):
            with pytest.raises(errors.GpuMisuse, match="outside"):
                block.upload(bytes(size), offset)
        with pytest.raises(ValueError, match="contiguous"):
            block.upload(memoryview(bytes(8))[::2], 0)
        with pytest.raises((BufferError, ValueError)):
            block.download(b"readonly", 0)  # a buffer that cannot be written
        block.upload(b"", 10)


def test_waiting_has_a_deadline_and_lets_other_threads_run(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context, context.tenant("f", quota_bytes=4096) as tenant:
        block = tenant.alloc(4)
        cuda.hold()
        block.upload(b"abcd", 0)
        began = time.monotonic()
        with pytest.raises(errors.GpuTimeout, match=r"not done after 0\.01 s"):
            tenant.synchronize(0.01)
        assert time.monotonic() - began < 5.0
        for timeout_s in (None, 30.0):
            cuda.hold()
            block.upload(b"abcd", 0)
            done = threading.Event()

            def wait(timeout_s: float | None = timeout_s, done: threading.Event = done) -> None:
                tenant.synchronize(timeout_s)
                done.set()

            calls = cuda.calls("cuStreamQuery") + cuda.calls("cuStreamSynchronize")
            waiting = threading.Thread(target=wait)
            waiting.start()
            while cuda.calls("cuStreamQuery") + cuda.calls("cuStreamSynchronize") == calls:
                pass  # this thread runs on: the GIL is free
            assert not done.is_set()
            cuda.let_go()
            waiting.join()
            assert done.is_set()


def test_ending_more_often_than_beginning_is_a_fault(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context:
        tenant = context.tenant("f", quota_bytes=4096)
        with tenant.running(), tenant.running():
            pass
        with pytest.raises(errors.GpuMisuse, match="more often"):
            tenant._native.end()


def test_without_pools_a_free_waits_for_the_stream(cuda: CudaDouble) -> None:
    cuda.attribute(115, 0)
    cuda.memory(4096)
    with GpuContext(library=cuda.path) as context:
        idle = context.tenant("idle", quota_bytes=4096, evictable=True)
        asking = context.tenant("asking", quota_bytes=4096)
        block = idle.alloc(4096)
        assert (idle.pool, idle.reserved_bytes) == (0, 4096)
        assert asking.alloc(4096).live  # idle gave way, all of it back at once
        assert not block.live
        asking.alloc(1).free()
        cuda.fail("cuStreamSynchronize", 46)
        last = asking.alloc(1)
        with pytest.raises(errors.GpuRetryable):
            last.free()
        assert asking.used_bytes == 0


def test_a_free_that_fails_at_the_end_of_a_block_is_told_by_close(cuda: CudaDouble) -> None:
    context = GpuContext(library=cuda.path)
    tenant = context.tenant("f", quota_bytes=4096)
    block = tenant.alloc(1)
    cuda.fail("cuMemFreeAsync", 1)
    del block
    assert tenant.used_bytes == 0
    told = context.close()
    assert told[0] == "cuMemFreeAsync: CUDA_ERROR_INVALID_VALUE"
    cuda.reset()  # that one is lost, as it would be


def _churn(context: GpuContext, tenant: Tenant, seed: int) -> None:
    chance = random.Random(seed)
    kept: list[Block] = []
    for _ in range(300):
        with tenant.running():
            try:
                kept.append(tenant.alloc(chance.randrange(1, 4096)))
            except (errors.GpuOutOfMemory, errors.GpuQuota):
                kept.clear()
                continue
            kept[-1].upload(bytes([seed]), 0)
            back = bytearray(1)
            kept[-1].download(back, 0)
            tenant.synchronize(30.0)
            assert back[0] == seed
        if chance.random() < 0.3:
            kept.pop(chance.randrange(len(kept))).free()
        if chance.random() < 0.05:
            context.event().close()


@pytest.mark.parametrize("close_early", [False, True])
def test_threads_share_a_context_and_one_may_close_it(cuda: CudaDouble, close_early: bool) -> None:
    cuda.memory(20 * 4096)
    context = GpuContext(library=cuda.path)
    tenants = [context.tenant(str(i), quota_bytes=8 * 4096, evictable=True) for i in range(4)]
    with ThreadPoolExecutor(6) as threads:
        working = [threads.submit(_churn, context, tenants[i % 4], i + 1) for i in range(6)]
        if close_early:
            while cuda.calls("cuMemAllocFromPoolAsync") < 100:
                pass
            tenants[0].close()
            assert context.close(timeout_s=60.0) == []
            assert cuda.leaks() == {}
        for done in working:
            if close_early and done.exception() is not None:
                with pytest.raises(errors.GpuClosed):
                    done.result()
            else:
                done.result()
    assert context.close() == []
