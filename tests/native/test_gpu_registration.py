"""Registered memory on discrete and integrated devices, and events."""

from __future__ import annotations

import mmap
import threading

import pytest

from edgeagent.accel import gpu_errors as errors
from edgeagent.accel.gpu_context import GpuContext
from tests.native.cuda_double import CudaDouble

PORTABLE, DEVICEMAP, READ_ONLY = 1, 2, 8


def pages(count: int = 2) -> mmap.mmap:
    return mmap.mmap(-1, count * mmap.PAGESIZE)


def test_a_discrete_device_pins_and_copies(cuda: CudaDouble) -> None:
    hose = pages()
    with GpuContext(library=cuda.path) as context, context.tenant("f", quota_bytes=8192) as tenant:
        with context.register(hose) as registration:
            assert cuda.last("register-flags") == PORTABLE | DEVICEMAP
            assert (registration.zero_copy, registration.read_only) == (False, False)
            assert registration.size_bytes == len(hose)
            assert registration.device_ptr == registration.host_ptr + 0x100000000000
            assert context.stats().pinned_bytes == len(hose)
            hose[:5] = b"frame"
            block = tenant.alloc(5)
            block.upload(memoryview(hose)[:5], 0)
            back = bytearray(5)
            block.download(back, 0)
            tenant.synchronize()
            assert back == b"frame"
            with pytest.raises(BufferError):
                hose.close()  # it is held
        assert context.stats().pinned_bytes == 0
        with pytest.raises(errors.GpuClosed):
            _ = registration.device_ptr
        with pytest.raises(errors.GpuClosed):
            _ = registration.host_ptr
        hose.close()


def test_an_integrated_device_uses_it_in_place(cuda: CudaDouble) -> None:
    cuda.integrated()
    with GpuContext(library=cuda.path) as context, context.register(pages()) as registration:
        assert context.facts.integrated
        assert registration.zero_copy
        assert registration.device_ptr == registration.host_ptr


def test_read_only_is_told_where_it_can_be(cuda: CudaDouble) -> None:
    hose = pages()
    with GpuContext(library=cuda.path) as context, context.register(hose, read_only=True) as registration:
        assert registration.read_only
        assert cuda.last("register-flags") == PORTABLE | DEVICEMAP | READ_ONLY
    cuda.attribute(113, 0)
    with GpuContext(library=cuda.path) as context, context.register(hose, read_only=True) as registration:
        assert not registration.read_only
        assert cuda.last("register-flags") == PORTABLE | DEVICEMAP


def test_a_device_that_does_not_map_host_memory_still_copies_from_it(cuda: CudaDouble) -> None:
    cuda.attribute(19, 0)
    with GpuContext(library=cuda.path) as context, context.register(pages()) as registration:
        assert cuda.last("register-flags") == PORTABLE
        assert (registration.device_ptr, registration.zero_copy) == (0, False)


def test_one_that_cannot_says_so_without_a_call(cuda: CudaDouble) -> None:
    cuda.attribute(99, 0)
    with GpuContext(library=cuda.path) as context:
        with pytest.raises(errors.GpuUnsupported):
            context.register(pages())
        assert cuda.calls("cuMemHostRegister_v2") == 0


@pytest.mark.parametrize("code", [205, 800, 801])
def test_a_refusal_of_the_driver_means_staging(cuda: CudaDouble, code: int) -> None:
    with GpuContext(library=cuda.path) as context:
        for function in ("cuMemHostRegister_v2", "cuMemHostGetDevicePointer_v2"):
            cuda.fail(function, code)
            with pytest.raises(errors.GpuUnsupported):
                context.register(pages())
            assert (cuda.live("registered"), context.stats().pinned_bytes, context.stats().children) == (
                0,
                0,
                0,
            )


def test_misuse_and_bounds(cuda: CudaDouble) -> None:
    hose = pages(4)
    with GpuContext(library=cuda.path, pinned_bytes_max=3 * mmap.PAGESIZE) as context:
        with pytest.raises(errors.GpuMisuse, match="start of a page"):
            context.register(memoryview(hose)[1:])
        with pytest.raises(errors.GpuMisuse):
            context.register(memoryview(hose)[:0])
        with pytest.raises(ValueError, match="contiguous"):
            context.register(memoryview(hose)[::2])
        with pytest.raises(TypeError):
            context.register(12)
        with pytest.raises(errors.GpuQuota):
            context.register(hose)
        part = memoryview(hose)[: mmap.PAGESIZE]
        with context.register(part), pytest.raises(errors.GpuMisuse, match="ALREADY_REGISTERED"):
            context.register(part)
        assert cuda.live("registered") == 0


def test_a_context_unregisters_and_the_buffer_stays_until_then(cuda: CudaDouble) -> None:
    hose = pages()
    context = GpuContext(library=cuda.path)
    registration = context.register(hose)
    context.close()
    assert cuda.leaks() == {}
    del registration
    hose.close()


def test_events_mark_and_measure(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context, context.tenant("f", quota_bytes=4096) as tenant:
        start, end, plain = context.event(), context.event(), context.event(timing=False)
        block = tenant.alloc(4)
        assert start.is_done()  # nothing recorded, nothing to wait for
        with pytest.raises(errors.GpuMisuse):
            start.ms_until(end)
        cuda.hold()
        start.record(tenant)
        for _ in range(3):
            block.upload(b"abcd", 0)
        end.record(tenant)
        plain.record(tenant)
        assert not end.is_done()
        with pytest.raises(errors.GpuMisuse, match="not done"):
            start.ms_until(end)
        with pytest.raises(errors.GpuTimeout):
            end.wait(0.005)
        threading.Timer(0.01, cuda.let_go).start()
        end.wait(30.0)
        assert start.ms_until(end) == 1.0  # four pieces of work, a quarter of a millisecond each
        assert start.ms_until(start) == 0.0
        plain.wait(30.0)
        for a, b in ((start, plain), (plain, end)):
            with pytest.raises(errors.GpuMisuse, match="without timing"):
                a.ms_until(b)
        with (
            GpuContext(library=cuda.path) as other,
            pytest.raises(errors.GpuMisuse, match="two GPU contexts"),
        ):
            other.event().record(tenant)
