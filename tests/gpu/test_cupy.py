"""CuPy's kernels on a tenant's stream and memory, on a real device."""

from __future__ import annotations

import importlib.util
import mmap
import subprocess
import sys

import numpy as np
import pytest

from edgeagent.accel import cupy_glue
from edgeagent.accel import gpu_errors as errors
from edgeagent.accel.gpu_context import GpuContext

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed"),
    pytest.mark.filterwarnings("default"),  # of CuPy about a newer numpy, mostly: no faults of ours
]

MIB = 2**20


def test_a_product_is_computed_there(context: GpuContext) -> None:
    chance = np.random.default_rng(1)
    a, b = (chance.standard_normal((300, 300), dtype=np.float32) for _ in range(2))
    with (
        context.tenant("f", quota_bytes=64 * MIB) as tenant,
        cupy_glue.using_tenant(context, tenant) as xp,
    ):
        assert xp.cuda.get_current_stream().ptr == tenant.stream
        product = xp.asarray(a) @ xp.asarray(b)
        assert tenant.used_bytes >= product.nbytes
        back = xp.asnumpy(product)
        del product
        np.testing.assert_allclose(back, a @ b, rtol=1e-3, atol=1e-3)


def test_the_quota_holds_for_arrays(context: GpuContext) -> None:
    with (
        context.tenant("f", quota_bytes=MIB) as tenant,
        cupy_glue.using_tenant(context, tenant) as xp,
        pytest.raises(errors.GpuQuota),
    ):
        xp.zeros(2 * MIB, dtype="u1")


def test_a_registered_hose_is_read_by_a_kernel(context: GpuContext) -> None:
    if not context.facts.host_register or not context.facts.can_map_host:
        pytest.skip("this device does not map host memory")
    hose = mmap.mmap(-1, MIB)
    hose[:4] = b"\x01\x02\x03\x04"
    with (
        context.register(hose) as registration,
        context.tenant("f", quota_bytes=MIB) as tenant,
        cupy_glue.using_tenant(context, tenant) as xp,
    ):
        view = cupy_glue.array_over(
            xp, registration.device_ptr, MIB, registration, shape=(MIB,), dtype="u1", device_id=0
        )
        assert int(view.sum()) == 10
        tenant.synchronize(30.0)
        del view


def test_an_illegal_access_poisons_and_only_a_new_process_works() -> None:
    code = """
import os, sys
from edgeagent.accel import cupy_glue
from edgeagent.accel.gpu_context import GpuContext
from edgeagent.accel.gpu_errors import GpuPoisoned

context = GpuContext()
tenant = context.tenant("f", quota_bytes=2**20)
with cupy_glue.using_tenant(context, tenant) as xp:
    kernel = xp.RawKernel('extern "C" __global__ void bad(int *p) { *p = 1; }', "bad")
    kernel((1,), (1,), (xp.uint64(16),))
    try:
        tenant.synchronize(30.0)
    except GpuPoisoned as fault:
        os._exit(7 if context.poison == fault.code else 1)  # CuPy's own ends would fail like all else
sys.exit(2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    GpuContext().close()
