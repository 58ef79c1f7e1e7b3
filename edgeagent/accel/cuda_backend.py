"""The real thing: kernels by CuPy on the streams and memory of a native context, one of each for every function.

CuPy is imported when a broker starts, never in the node. Errors are told apart by what the driver's codes mean
(``gpu_errors``): memory that is short is freed, then asked for once more; a poisoned context or a vanished device ends
the broker.
"""

from __future__ import annotations

import contextlib
import gc
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from edgeagent.accel.backend import Described
from edgeagent.accel.cupy_glue import CupyDevice, array_over, fault_from_cupy, load_cupy, using_tenant
from edgeagent.accel.errors import DeviceAbsent, DeviceFull, DeviceGone, DevicePoisoned
from edgeagent.accel.execute import Prepared, run_on_gpu
from edgeagent.accel.gpu_context import GpuContext, Registration, Tenant
from edgeagent.accel.gpu_errors import (
    GpuAbsent,
    GpuFault,
    GpuOutOfMemory,
    GpuPoisoned,
    GpuQuota,
    GpuTimeout,
)
from edgeagent.accel.mapped import MAPPED_BYTES_MAX

__all__ = ["CudaBackend"]

_TENANTS_MAX = 64
# Of the device's memory, for one function; the rest of it keeps others from failing beside a greedy one.
_QUOTA_SHARE = 0.75
_KEEP_BYTES = 256 << 20  # what an idle function's pool keeps
_SETTLE_S = 1.0  # for a call that failed in the middle


class CudaBackend:
    """Of one device; on the broker's thread."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._cupy: Any = None
        self._context: GpuContext | None = None
        self._tenants: OrderedDict[str, Tenant] = OrderedDict()
        self._pinned: Any = None
        self._attached: list[Registration] = []

    def start(self, arena: memoryview) -> Described:
        """Raises DeviceAbsent without a driver, a device, the extension or CuPy."""
        try:
            self._cupy = load_cupy()
            # First of all: where there is no driver it says so, and CuPy only that something failed.
            context = self._context = GpuContext(
                self._device, pinned_bytes_max=arena.nbytes + MAPPED_BYTES_MAX
            )
        except GpuAbsent as error:
            raise DeviceAbsent(error.message, hint=error.hint) from None
        with self._cupy.cuda.Device(self._device):  # the cache is of a device and of a thread
            # A cached plan keeps memory of the function that made it, and is used for others.
            self._cupy.fft.config.get_plan_cache().set_size(0)
        self._pinned = self._registered(arena, read_only=False)
        return Described(context.facts.name, context.facts.total_bytes)

    def run(
        self, function: str, prepared: Prepared, slot: memoryview, maps: Sequence[memoryview] = ()
    ) -> None:
        """Raises DeviceFull, DevicePoisoned, DeviceGone, and what the kernel raises."""
        why = self._attempt(function, prepared, slot, maps)
        if isinstance(why, DeviceFull):
            self._free()
            why = self._attempt(function, prepared, slot, maps)
        if why is not None:
            raise why  # here: a traceback from where the arrays are would keep their memory

    def attach(self, memory: memoryview) -> Registration | None:
        """Pinned, where the device can be held to reading: a kernel that runs wild must not write into a hose."""
        assert self._context is not None
        if not self._context.facts.read_only_register:
            return None
        made = self._registered(memory, read_only=True)
        if made is not None:
            self._attached.append(made)
        return made

    def detach(self, attached: Any) -> None:
        self._attached.remove(attached)
        attached.close()

    def _registered(self, memory: memoryview, *, read_only: bool) -> Registration | None:
        """None where the driver refuses: copies go through its own staging then."""
        assert self._context is not None
        try:
            return self._context.register(memory, read_only=read_only)
        except GpuPoisoned as fault:
            raise DevicePoisoned(fault.message) from None
        except GpuFault:  # pinned memory is short, or of a kind that this driver does not pin
            return None

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

    def _attempt(
        self, function: str, prepared: Prepared, slot: memoryview, maps: Sequence[memoryview]
    ) -> Exception | None:
        assert self._context is not None
        try:
            with using_tenant(self._context, self._tenant(function), self._cupy) as cupy:
                device = _Device(cupy, self._context.facts.ordinal, self._attached)
                run_on_gpu(prepared, slot, device, maps)
        except Exception as error:  # noqa: BLE001 - of CuPy, of the driver, of others' kernels
            told = _told(error).with_traceback(None)
            told.__context__ = told.__cause__ = None  # these have tracebacks too
            return told
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
        """Arrays that only cycles hold, and what pools keep: of that, what the stream is done with."""
        gc.collect()
        try:
            for tenant in self._tenants.values():
                with contextlib.suppress(GpuTimeout):
                    tenant.synchronize(_SETTLE_S)
                tenant.trim()
        except GpuFault as fault:
            raise _told(fault) from None


class _Device(CupyDevice):
    """CuPy, which takes arrays where they lie if the device shares that memory with the host."""

    def __init__(self, cupy: Any, device_id: int, attached: Sequence[Registration]) -> None:
        super().__init__(cupy)
        self._device_id = device_id
        self._shared = [one for one in attached if one.zero_copy]

    def put(self, array: Any) -> Any:
        address = array.__array_interface__["data"][0]
        for one in self._shared if array.flags.c_contiguous else ():
            lead = address - one.host_ptr
            if 0 <= lead <= one.size_bytes - array.nbytes:
                return array_over(
                    self.xp,
                    one.device_ptr + lead,
                    array.nbytes,
                    one,
                    shape=array.shape,
                    dtype=array.dtype.str,
                    device_id=self._device_id,
                )
        return super().put(array)


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
