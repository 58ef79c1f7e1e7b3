"""Every code of the driver: what it means, and that it arrives as that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeagent.accel import gpu_errors as errors
from edgeagent.accel.gpu_context import GpuContext
from edgeagent.accel.gpu_driver import classify, devices, gpu_core
from tests.native.cuda_double import CudaDouble

# By hand from the enum CUresult of NVIDIA's CUDA Driver API (13.5), apart from native/gpu/faults.cpp.
POISONED = [214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 806, 810, 911, 916, 999]
ABSENT = [3, 4, 34, 36, 100, 101, 102, 221, 302, 303, 803, 804]
RETRYABLE = [46, 304, 802, 805, 807, 808, 809, 909, 919]
UNSUPPORTED = [205, 209, 215, 217, 222, 223, 224, 225, 227, 711, 800, 801, 811, 812]
MISUSE = [
    1,
    5,
    6,
    7,
    8,
    47,
    200,
    201,
    202,
    206,
    207,
    208,
    210,
    211,
    212,
    213,
    216,
    218,
    219,
    300,
    301,
    400,
    401,
    402,
]
MISUSE += [500, 701, 703, 704, 705, 708, 712, 713, 720, *range(900, 909), 910, 912, 913, 914, 915, 917, 918]
EXPECTED: dict[int, type[errors.GpuFault]] = {
    2: errors.GpuOutOfMemory,
    **dict.fromkeys(POISONED, errors.GpuPoisoned),
    **dict.fromkeys(ABSENT, errors.GpuAbsent),
    **dict.fromkeys(RETRYABLE, errors.GpuRetryable),
    **dict.fromkeys(UNSUPPORTED, errors.GpuUnsupported),
    **dict.fromkeys(MISUSE, errors.GpuMisuse),
}


def test_the_table_has_each_documented_code_once_and_in_order(cuda: CudaDouble) -> None:
    rows = gpu_core().fault_table()
    assert [code for code, _, _ in rows] == sorted({0, 600, *EXPECTED})
    assert len({name for _, name, _ in rows}) == len(rows)


@pytest.mark.parametrize("code", sorted(EXPECTED))
def test_a_code_arrives_as_its_class(cuda: CudaDouble, code: int) -> None:
    with GpuContext(library=cuda.path) as context, context.tenant("f", quota_bytes=4096) as tenant:
        cuda.fail("cuStreamQuery", code)
        with pytest.raises(errors.GpuFault) as caught:
            tenant.is_idle()
        assert type(caught.value) is EXPECTED[code]
        assert caught.value.code == code
        assert caught.value.function == "cuStreamQuery"
        assert classify(code)[1] in str(caught.value)
        assert context.poison == (code if code in POISONED else 0)
        if code not in POISONED:
            assert tenant.is_idle()
            return
        # Nothing is asked of the driver any more, and everything says what happened first.
        calls = cuda.calls("cuStreamQuery")
        with pytest.raises(errors.GpuPoisoned) as again:
            tenant.is_idle()
        assert (again.value.code, cuda.calls("cuStreamQuery")) == (code, calls)


@pytest.mark.parametrize("code", [9, 99, 1234, -1])
def test_a_code_that_nobody_knows_is_taken_for_the_worst(cuda: CudaDouble, code: int) -> None:
    cuda.fail("cuMemGetInfo_v2", code)
    with GpuContext(library=cuda.path) as context:
        text = "text of the double" if 0 <= code < 1000 else "the driver has no text"
        with pytest.raises(errors.GpuPoisoned, match=f"CUresult {code}: {text}"):
            context.memory()
        assert context.poison == code


def test_not_ready_is_no_error_of_a_query_and_a_fault_of_ours_elsewhere(cuda: CudaDouble) -> None:
    with GpuContext(library=cuda.path) as context, context.tenant("f", quota_bytes=4096) as tenant:
        cuda.fail("cuStreamQuery", 600)
        assert not tenant.is_idle()
        cuda.fail("cuMemGetInfo_v2", 600)
        with pytest.raises(errors.GpuMisuse):
            context.memory()


def test_every_kind_of_the_extension_has_a_class() -> None:
    for kind in range(12):
        fault = errors.fault_of(kind, 7, "cuInit", "text")
        assert isinstance(fault, errors.fault_class(kind))
        assert (fault.code, fault.function, fault.message) == (7, "cuInit", "text")
    with pytest.raises(KeyError):
        errors.fault_class(12)
    assert errors.GpuPoisoned("x").problem()["hint"]


def test_the_environment_injects_too(double_library: Path) -> None:
    code = (
        "import sys\n"
        "from edgeagent.accel.gpu_driver import devices\n"
        "from edgeagent.accel.gpu_errors import GpuRetryable\n"
        "assert len(devices()) == 1\n"
        "try: devices()\n"
        "except GpuRetryable as fault: sys.exit(fault.code)\n"
    )
    env = {
        **os.environ,
        "EDGEAGENT_LIBCUDA": str(double_library),
        "CUDA_DOUBLE_FAIL": "cuInit:2:802,cuInit:9:1",
    }
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 802 % 256, done.stderr


def test_a_factory_that_fails_and_none_at_all(cuda: CudaDouble) -> None:
    core = gpu_core()
    cuda.devices(0)
    try:
        core.set_fault_factory(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            core.devices(cuda.path)
    finally:
        gpu_core()
    with pytest.raises(errors.GpuAbsent, match="CUDA_ERROR_NO_DEVICE"):
        devices(cuda.path)
