"""The real thing: kernels by CuPy on the streams and memory of a native context, one of each for every function.

CuPy is imported when a broker starts, never in the node. Errors are told apart by what the driver's codes mean
(``gpu_errors``): memory that is short is freed, then asked for once more; a poisoned context or a vanished device ends
the broker.
"""

from __future__ import annotations

import gc
from collections import OrderedDict
from typing import Any

from edgeagent.accel.backend import Described
from edgeagent.accel.cupy_glue import CupyDevice, fault_from_cupy, load_cupy, using_tenant
from edgeagent.accel.errors import DeviceAbsent, DeviceFull, DeviceGone, DevicePoisoned
from edgeagent.accel.execute import Prepared, run_on_gpu
from edgeagent.accel.gpu_context import GpuContext, Tenant
from edgeagent.accel.gpu_errors import (
    GpuAbsent,
    GpuFault,
    GpuOutOfMemory,
    GpuPoisoned,
    GpuQuota,
    GpuUnsupported,
)

__all__ = ["CudaBackend"]

_TENANTS_MAX = 64
# Of the device's memory, for one function; the rest of it keeps others from failing beside a greedy one.
_QUOTA_SHARE = 0.75
_RING_BYTES = 64 << 20  # of pinned memory beside the arena
_KEEP_BYTES = 256 << 20  # what an idle function's pool keeps


class CudaBackend:
    """Of one device; on the broker's thread."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._cupy: Any = None
        self._context: GpuContext | None = None
        self._tenants: OrderedDict[str, Tenant] = OrderedDict()
        self._pinned: Any = None

    def start(self, arena: memoryview) -> Described:
        """Raises DeviceAbsent without a driver, a device, the extension or CuPy."""
        try:
            self._cupy = load_cupy()
            # A cached plan keeps memory of the function that made it, and is used for others.
            self._cupy.fft.config.get_plan_cache().set_size(0)
            context = self._context = GpuContext(self._device, pinned_bytes_max=arena.nbytes + _RING_BYTES)
        except GpuAbsent as error:
            raise DeviceAbsent(error.message, hint=error.hint) from None
        try:
            self._pinned = context.register(arena)
        except (GpuUnsupported, GpuQuota, GpuOutOfMemory):
            self._pinned = None  # copies go through the driver's own staging
        return Described(context.facts.name, context.facts.total_bytes)

    def run(self, function: str, prepared: Prepared, slot: memoryview) -> None:
        """Raises DeviceFull, DevicePoisoned, DeviceGone, and what the kernel raises."""
        why = self._attempt(function, prepared, slot)
        if isinstance(why, DeviceFull):
            self._free()
            why = self._attempt(function, prepared, slot)
        if why is not None:
            raise why  # here: a traceback from where the arrays are would keep their memory

    def forget(self, function: str) -> None:
        """Its stream and memory go."""
        tenant = self._tenants.pop(function, None)
        if tenant is not None:
            tenant.close()

    def used_bytes(self) -> int:
        return 0 if self._context is None else self._context.stats().used_bytes

    def close(self) -> None:
        """The end of the process frees the rest, and faster."""
        self._tenants.clear()

    def _attempt(self, function: str, prepared: Prepared, slot: memoryview) -> Exception | None:
        assert self._context is not None
        try:
            with using_tenant(self._context, self._tenant(function), self._cupy) as cupy:
                run_on_gpu(prepared, slot, CupyDevice(cupy))
        except Exception as error:  # noqa: BLE001 - of CuPy, of the driver, of others' kernels
            return _told(error).with_traceback(None)
        return None

    def _tenant(self, function: str) -> Tenant:
        assert self._context is not None
        tenant = self._tenants.get(function)
        if tenant is None:
            if len(self._tenants) >= _TENANTS_MAX:
                self.forget(next(iter(self._tenants)))
            quota = int(_QUOTA_SHARE * self._context.facts.total_bytes)
            tenant = self._tenants[function] = self._context.tenant(
                function, quota_bytes=quota, keep_bytes=min(_KEEP_BYTES, quota)
            )
        self._tenants.move_to_end(function)
        return tenant

    def _free(self) -> None:
        """Arrays that only cycles hold, and what pools keep."""
        gc.collect()
        for tenant in self._tenants.values():
            tenant.trim()


def _told(error: Exception) -> Exception:
    """What an exception means to a broker."""
    fault = error if isinstance(error, GpuFault) else fault_from_cupy(error)
    match fault:
        case GpuOutOfMemory() | GpuQuota():
            return DeviceFull(fault.message)
        case GpuPoisoned():
            return DevicePoisoned(fault.message)
        case GpuAbsent():
            return DeviceGone(fault.message)
    return error
