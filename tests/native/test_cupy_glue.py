"""CuPy on a tenant's stream and memory, with as much of CuPy as the glue touches."""

from __future__ import annotations

import gc
import mmap
import threading

import pytest

from edgeagent.accel import cupy_glue
from edgeagent.accel import gpu_errors as errors
from edgeagent.accel.gpu_context import GpuContext
from tests.native.cuda_double import CudaDouble
from tests.native.fake_cupy import CUDADriverError, CUDARuntimeError, OutOfMemoryError, fake_cupy


def test_arrays_live_in_the_tenants_pool_and_end_with_their_last_holder(cuda: CudaDouble) -> None:
    cupy = fake_cupy()
    with GpuContext(library=cuda.path) as context, context.tenant("f", quota_bytes=8192) as tenant:
        with cupy_glue.using_tenant(context, tenant, cupy) as xp:
            assert xp.cuda.current() == (0, tenant.stream)
            array = xp.ndarray((100,), "f4")
            array.fill(7)
            empty = xp.ndarray((0, 5), "f4")
            assert (tenant.used_bytes, tenant.blocks, empty.data.ptr) == (512, 1, 0)
            with pytest.raises(errors.GpuBusy):
                tenant.evict()
            with pytest.raises(errors.GpuQuota):
                xp.ndarray((8192,), "u1")
            held = array.data
            del array
            assert tenant.used_bytes == 512
            del held
            gc.collect()
            assert tenant.used_bytes == 0
        assert cupy.cuda.current() == (0, 0)
        other = fake_cupy()
        with cupy_glue.using_tenant(context, tenant, other) as xp:
            assert xp is other
            assert xp.cuda.current() == (0, tenant.stream)


def test_a_tenant_that_is_closed_is_refused(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context, context.tenant("f", quota_bytes=8192) as tenant:
        tenant.close()
        with pytest.raises(errors.GpuClosed), cupy_glue.using_tenant(context, tenant, fake_cupy()):
            pass


def test_what_was_evicted_is_not_freed_again(cuda: CudaDouble) -> None:
    cupy = fake_cupy()
    with GpuContext(library=cuda.path) as context, context.tenant("f", quota_bytes=8192) as tenant:
        with cupy_glue.using_tenant(context, tenant, cupy) as xp:
            weights = xp.ndarray((100,), "f4")
        tenant.evict()
        frees = cuda.calls("cuMemFreeAsync")
        with cupy_glue.using_tenant(context, tenant, cupy) as xp:
            again = xp.ndarray((100,), "f4")
            del weights
            gc.collect()
            assert cuda.calls("cuMemFreeAsync") == frees
            assert tenant.blocks == 1
            del again


def test_threads_have_tenants_of_their_own(cuda: CudaDouble) -> None:
    cupy = fake_cupy()
    with GpuContext(library=cuda.path) as context:
        tenants = [context.tenant(str(i), quota_bytes=4096) for i in range(3)]
        inside = threading.Barrier(3)
        seen: dict[int, tuple[int, int]] = {}

        def work(i: int) -> None:
            with cupy_glue.using_tenant(context, tenants[i], cupy) as xp:
                array = xp.ndarray((i + 1, 512), "u1")
                inside.wait(30.0)
                seen[i] = (xp.cuda.current()[1], tenants[i].used_bytes)
                del array

        threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == {i: (tenants[i].stream, 512 * (i + 1)) for i in range(3)}


def test_an_array_over_a_registered_hose_copies_nothing(cuda: CudaDouble) -> None:
    cuda.integrated()
    cupy = fake_cupy()
    hose = mmap.mmap(-1, mmap.PAGESIZE)
    with GpuContext(library=cuda.path) as context, context.register(hose) as registration:
        size = registration.size_bytes
        array = cupy_glue.array_over(
            cupy, registration.device_ptr, size, registration, shape=(16, 4), dtype="f4", device_id=0
        )
        array.fill(255)
        assert hose[:256] == b"\xff" * 256
        assert hose[256] == 0
        assert array.data.mem.owner is registration
        with pytest.raises(ValueError, match="need 4100 bytes"):
            cupy_glue.array_over(
                cupy, registration.device_ptr, size, registration, shape=(1025,), dtype="f4", device_id=0
            )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CUDADriverError(700), errors.GpuPoisoned),
        (CUDARuntimeError(719), errors.GpuPoisoned),
        (CUDARuntimeError(2), errors.GpuOutOfMemory),
        (CUDARuntimeError(46), errors.GpuRetryable),
        (CUDARuntimeError(35), errors.GpuAbsent),
        (CUDARuntimeError(9), errors.GpuMisuse),
        (CUDARuntimeError(98), errors.GpuMisuse),
        (OutOfMemoryError("out"), errors.GpuOutOfMemory),
    ],
)
def test_cupys_errors_become_ours(
    cuda: CudaDouble, error: BaseException, expected: type[errors.GpuFault]
) -> None:
    fault = cupy_glue.fault_from_cupy(error)
    assert type(fault) is expected
    assert fault.function == "cupy"
    assert fault.message == str(error)


@pytest.mark.parametrize(
    "error", [ValueError("x"), RuntimeError("x"), type("CUDADriverError", (Exception,), {})()]
)
def test_other_errors_are_not_the_gpus(error: BaseException) -> None:
    assert cupy_glue.fault_from_cupy(error) is None
