"""A primary context: facts, construction that fails anywhere, end, and use after it."""

from __future__ import annotations

import gc
import mmap
import os
import subprocess
import threading
from pathlib import Path

import pytest

from edgeagent.accel import gpu_errors as errors
from edgeagent.accel.gpu_context import GpuContext
from edgeagent.accel.gpu_driver import LIBRARY_ENV, devices, library_path
from tests.native.cuda_double import COMPILER, CudaDouble, build

# What the construction of a context and of each thing on it asks of the driver.
OF_CONTEXT: tuple[str, ...] = (
    "cuInit",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetUuid_v2",
)
OF_CONTEXT += (
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuDeviceGetAttribute",
    "cuDevicePrimaryCtxSetFlags_v2",
)
OF_CONTEXT += ("cuDevicePrimaryCtxRetain", "cuCtxGetCurrent", "cuCtxSetCurrent")
OF_TENANT: tuple[str, ...] = (
    "cuCtxGetStreamPriorityRange",
    "cuStreamCreateWithPriority",
    "cuMemPoolCreate",
    "cuMemPoolSetAttribute",
)
OF_RING: tuple[str, ...] = ("cuMemHostAlloc", "cuMemHostGetDevicePointer_v2")
OF_WORK: tuple[str, ...] = (
    "cuEventCreate",
    "cuEventRecord",
    "cuEventQuery",
    "cuEventElapsedTime",
    "cuMemAllocFromPoolAsync",
)
OF_WORK += ("cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemHostRegister_v2", "cuStreamSynchronize")
OF_WORK += ("cuMemPoolTrimTo", "cuMemGetInfo_v2")
OF_THE_END: tuple[str, ...] = (
    "cuEventDestroy_v2",
    "cuMemPoolDestroy",
    "cuStreamDestroy_v2",
    "cuMemFreeHost",
    "cuMemHostUnregister",
)
OF_THE_END += ("cuDevicePrimaryCtxRelease_v2",)


def test_facts_of_all_devices_without_a_context(cuda: CudaDouble) -> None:
    cuda.devices(2)
    first, second = devices(cuda.path)
    assert (first.name, second.name, second.ordinal) == ("Double 0", "Double 1", 1)
    assert first.uuid == "a0" * 16
    assert first.capability == (8, 7)
    assert (first.total_bytes, first.multiprocessors, first.driver_version) == (2**20, 8, 12080)
    assert (first.integrated, first.can_map_host, first.memory_pools, first.read_only_register) == (
        False,
        True,
        True,
        True,
    )
    assert cuda.calls("cuDevicePrimaryCtxRetain") == 0


def test_an_old_driver_knows_less_and_has_less(cuda: CudaDouble) -> None:
    for attribute in (89, 91, 99, 113, 115):
        cuda.attribute(attribute, -1)
    (facts,) = devices(cuda.path)
    assert not any((facts.memory_pools, facts.host_register, facts.read_only_register))


def test_handles_are_numbers_and_the_context_is_the_primary_one(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path, schedule="block") as context:
        assert cuda.live("contexts") == 1
        assert context.handle > 0
        assert context.facts.name == "Double 0"
        assert context.memory() == (2**20, 2**20)
        assert cuda.last("context-flags") == 4 | 8
        during = context.closed
    assert (during, context.closed) == (False, True)
    assert cuda.live("contexts") == 0


def test_the_library_is_named_by_argument_environment_or_system(
    cuda: CudaDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LIBRARY_ENV, raising=False)
    assert library_path() == "libcuda.so.1"
    monkeypatch.setenv(LIBRARY_ENV, cuda.path)
    assert library_path() == cuda.path
    assert library_path("other.so") == "other.so"
    GpuContext().close()


def test_no_driver_no_device_and_one_that_is_too_old(cuda: CudaDouble, tmp_path: Path) -> None:
    with pytest.raises(errors.GpuAbsent, match="no CUDA driver"):
        GpuContext(library=str(tmp_path / "libcuda.so.1"))
    with pytest.raises(errors.GpuAbsent, match=r"no GPU 1: the driver shows 1"):
        GpuContext(1, library=cuda.path)
    with pytest.raises(errors.GpuAbsent, match=r"no GPU -1"):
        GpuContext(-1, library=cuda.path)
    source = tmp_path / "old.c"
    source.write_text("int cuInit(unsigned f) { return (int)f; }\n")
    old = tmp_path / "libold.so"
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", str(old), str(source)], env=env, check=True)
    with pytest.raises(errors.GpuAbsent, match="too old: it lacks cuDriverGetVersion"):
        devices(str(old))


def test_a_schedule_that_is_none_is_refused(cuda: CudaDouble) -> None:
    with pytest.raises(errors.GpuMisuse, match="schedule"):
        GpuContext(library=cuda.path, schedule="nap")  # type: ignore[arg-type]


@pytest.mark.parametrize("function", OF_CONTEXT)
@pytest.mark.parametrize("code", [2, 46, 700])
def test_a_context_that_fails_anywhere_leaves_nothing(cuda: CudaDouble, function: str, code: int) -> None:
    cuda.fail(function, code)
    with pytest.raises(errors.GpuFault) as caught:
        GpuContext(library=cuda.path)
    assert caught.value.code == code
    gc.collect()
    assert cuda.leaks() == {}
    GpuContext(library=cuda.path).close()


def whole_life(cuda: CudaDouble) -> list[str]:
    """Everything once; what close told."""
    with GpuContext(library=cuda.path) as context:
        tenant = context.tenant("f", quota_bytes=65536)
        ring = context.ring(4096)
        events = context.event(), context.event()
        registration = context.register(mmap.mmap(-1, mmap.PAGESIZE))
        block = tenant.alloc(1024)
        slot = ring.reserve(512)
        slot.write(b"x" * 512, 0)
        events[0].record(tenant)
        slot.upload(block, 512, 0)
        events[1].record(tenant)
        slot.retire(0)
        block.download(bytearray(512), 0)
        tenant.synchronize()
        assert events[0].ms_until(events[1]) > 0
        block.free()
        tenant.trim()
        assert (ring.used_bytes, registration.size_bytes) == (0, mmap.PAGESIZE)
        assert context.memory()[1] == 2**20
        return context.close()


def outcome(cuda: CudaDouble, function: str, call: int) -> int | list[str]:
    """A whole life of which one call fails with 46: the code that came out, or what close told."""
    cuda.reset()
    cuda.fail(function, 46, call=call)
    try:
        return whole_life(cuda)
    except errors.GpuFault as fault:
        return fault.code


@pytest.mark.parametrize(
    "function", sorted({*OF_CONTEXT, *OF_TENANT, *OF_RING, *OF_WORK} - {"cuCtxSetCurrent"})
)
def test_any_call_of_a_whole_life_may_fail_and_nothing_is_left(cuda: CudaDouble, function: str) -> None:
    assert whole_life(cuda) == []
    calls = cuda.calls(function)
    assert calls
    for call in range(1, calls + 1):
        found = outcome(cuda, function, call)
        # In the end, or in what ends: nobody is there to hear of it but whoever closes.
        assert found in (46, [f"{function}: CUDA_ERROR_DEVICE_UNAVAILABLE"]), call
        assert cuda.leaks() == {}, call


@pytest.mark.parametrize("function", OF_THE_END)
def test_what_cannot_be_given_back_is_told_and_the_rest_is(cuda: CudaDouble, function: str) -> None:
    assert whole_life(cuda) == []
    for call in range(1, cuda.calls(function) + 1):
        name = function.removesuffix("_v2")
        assert outcome(cuda, function, call) == [f"{name}: CUDA_ERROR_DEVICE_UNAVAILABLE"]
    assert sum(cuda.leaks().values()) == 1 or function == "cuMemPoolDestroy"
    cuda.reset()


def test_a_context_that_somebody_has_already_keeps_its_flags(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path, schedule="yield"), GpuContext(library=cuda.path, schedule="spin"):
        assert cuda.live("contexts") == 2
        assert cuda.last("context-flags") == 2 | 8
    assert cuda.live("contexts") == 0


def test_the_threads_own_context_is_put_back(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context:
        cuda.set_current(0)
        context.memory()
        assert cuda.current() == 0
        cuda.set_current(context.handle)
        calls = cuda.calls("cuCtxSetCurrent")
        context.memory()
        assert cuda.calls("cuCtxSetCurrent") == calls
        cuda.set_current(0)


def test_everything_is_closed_with_its_context_and_says_so(cuda: CudaDouble) -> None:
    context = GpuContext(library=cuda.path)
    tenant = context.tenant("f", quota_bytes=4096)
    block = tenant.alloc(100)
    ring = context.ring(4096)
    slot = ring.reserve(64)
    event = context.event()
    assert context.stats().children == 3
    assert context.close() == []
    assert context.close() == []
    assert cuda.leaks() == {}
    uses = (
        context.memory,
        lambda: context.tenant("g", quota_bytes=1),
        lambda: context.ring(4096),
        context.event,
        lambda: tenant.stream,
        lambda: tenant.pool,
        lambda: tenant.alloc(1),
        lambda: tenant.reserved_bytes,
        tenant.trim,
        tenant.evict,
        tenant.is_idle,
        tenant.synchronize,
        lambda: block.ptr,
        lambda: block.upload(b"1", 0),
        lambda: block.download(bytearray(1), 0),
        lambda: ring.reserve(1),
        lambda: ring.used_bytes,
        lambda: slot.write(b"1", 0),
        lambda: slot.read_into(bytearray(1), 0),
        lambda: slot.host_ptr,
        lambda: slot.device_ptr,
        lambda: slot.retire(0),
        lambda: event.record(tenant),
        event.is_done,
        lambda: event.wait(0.0),
        lambda: event.ms_until(event),
    )
    calls = cuda.calls("cuStreamQuery"), cuda.calls("cuMemcpyHtoDAsync_v2")
    for use in uses:
        with pytest.raises(errors.GpuClosed):
            use()
    assert (cuda.calls("cuStreamQuery"), cuda.calls("cuMemcpyHtoDAsync_v2")) == calls
    block.free()
    for one in (tenant, ring, event):
        one.close()
    assert context.stats().children == 0


def test_one_thing_closed_leaves_the_rest(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context:
        tenant = context.tenant("f", quota_bytes=4096)
        block = tenant.alloc(100)
        other = context.tenant("g", quota_bytes=4096)
        tenant.close()
        tenant.close()
        assert not block.live
        with pytest.raises(errors.GpuClosed):
            tenant.alloc(1)
        assert other.alloc(1).live
        with context.event() as event, context.ring(4096):
            event.record(other)
        assert (cuda.live("events"), cuda.live("host"), cuda.live("streams")) == (0, 0, 1)


def test_what_is_dropped_is_given_back(cuda: CudaDouble) -> None:
    context = GpuContext(library=cuda.path)
    tenant = context.tenant("f", quota_bytes=4096)
    block = tenant.alloc(100)
    del tenant
    gc.collect()
    assert cuda.live("streams") == 1  # its block holds it
    del block
    gc.collect()
    assert cuda.live("streams") == 0
    del context
    gc.collect()
    assert cuda.leaks() == {}


def test_close_waits_for_work_and_gives_up_without_losing_any(cuda: CudaDouble) -> None:
    context = GpuContext(library=cuda.path)
    tenant = context.tenant("f", quota_bytes=4096)
    block = tenant.alloc(4)
    cuda.hold()
    block.upload(b"abcd", 0)
    with pytest.raises(errors.GpuBusy, match="not finished"):
        context.close(timeout_s=0.01)
    assert not context.closed
    threading.Timer(0.02, cuda.let_go).start()
    assert context.close(timeout_s=30.0) == []
    assert cuda.live("copies") == 1


def test_close_does_not_wait_for_ever_for_a_thread_that_does(cuda: CudaDouble) -> None:
    context = GpuContext(library=cuda.path)
    tenant = context.tenant("f", quota_bytes=4096)
    block = tenant.alloc(4)
    cuda.hold()
    block.upload(b"abcd", 0)
    waiting = threading.Thread(target=tenant.synchronize)
    waiting.start()
    while cuda.calls("cuStreamSynchronize") == 0:  # in the driver's own wait now
        pass
    with pytest.raises(errors.GpuBusy, match="in use"):
        context.close(timeout_s=0.01)
    with pytest.raises(errors.GpuMisuse):
        context.close(timeout_s=float("inf"))
    cuda.let_go()
    waiting.join()
    assert context.close() == []


def test_a_poisoned_context_closes_at_once_and_tells_what_it_could_not_give_back(cuda: CudaDouble) -> None:
    context = GpuContext(library=cuda.path)
    tenant = context.tenant("f", quota_bytes=4096)
    ring = context.ring(4096)
    block = tenant.alloc(4)
    cuda.hold()
    block.upload(b"abcd", 0)
    cuda.poison(700)
    with pytest.raises(errors.GpuPoisoned) as caught:
        tenant.is_idle()
    assert caught.value.code == context.poison == 700
    assert caught.value.hint
    del block
    with pytest.raises(errors.GpuPoisoned):
        ring.reserve(1)
    told = context.close(timeout_s=60.0)
    assert any("cuStreamDestroy: CUDA_ERROR_ILLEGAL_ADDRESS" in line for line in told)
    assert cuda.leaks() == {}  # the driver ends the last holder's primary context with all that is on it


def test_reset_takes_the_context_from_others(cuda: CudaDouble) -> None:
    context = GpuContext(library=cuda.path)
    assert GpuContext(library=cuda.path).handle == context.handle  # made and dropped: released
    gc.collect()
    assert cuda.live("contexts") == 1
    assert context.close(reset=True) == []
    assert cuda.calls("cuDevicePrimaryCtxReset_v2") == 1


def test_a_context_that_cannot_be_made_current_is_still_released(cuda: CudaDouble) -> None:
    context = GpuContext(library=cuda.path)
    tenant = context.tenant("f", quota_bytes=4096)
    cuda.set_current(0)
    cuda.fail("cuCtxSetCurrent", 709, sticky=True)
    told = context.close()
    assert told[0] == "cuCtxSetCurrent: CUDA_ERROR_CONTEXT_IS_DESTROYED"
    assert cuda.live("contexts") == 0
    del tenant


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_refused(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context:
        child = os.fork()
        if child == 0:
            try:
                context.memory()
            except errors.GpuClosed as fault:
                os._exit(0 if "fork" in str(fault) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert context.memory()[1] == 2**20


def test_what_a_context_holds_is_bounded(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context:
        events = [context.event(timing=False) for _ in range(4096)]
        with pytest.raises(errors.GpuBusy, match="4096"):
            context.event()
        events.pop().close()
        events.append(context.event())


def test_without_the_functions_of_pools_blocks_come_one_by_one(cuda: CudaDouble, tmp_path: Path) -> None:
    older = CudaDouble(build(tmp_path / "libcuda_older.so", "DOUBLE_WITHOUT_POOLS"))
    older.reset()
    with GpuContext(library=older.path) as context, context.tenant("f", quota_bytes=4096) as tenant:
        assert not context.facts.memory_pools
        assert tenant.pool == 0
        block = tenant.alloc(1000)
        assert tenant.reserved_bytes == 1024
        block.free()
        tenant.trim()
        assert older.calls("cuMemFree_v2") == 1
    assert older.leaks() == {}
