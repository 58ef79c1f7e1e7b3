"""CuPy on our contexts: its current stream is a tenant's, and its memory comes from that tenant's pool and quota.

CuPy uses the primary context of its current device, which is the one that :class:`GpuContext` retains. Both the current
stream and the allocator are thread-local in CuPy, so several threads may run several tenants. CuPy is imported when the
first tenant is used, never before.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from edgeagent.accel.gpu_context import GpuContext, Tenant
from edgeagent.accel.gpu_driver import classify
from edgeagent.accel.gpu_errors import GpuAbsent, GpuFault, GpuMisuse, GpuOutOfMemory, fault_class

__all__ = ["CupyDevice", "allocator_of", "array_over", "fault_from_cupy", "load_cupy", "using_tenant"]

_INSUFFICIENT_DRIVER = 35
_streams: weakref.WeakKeyDictionary[Tenant, tuple[Any, Any]] = weakref.WeakKeyDictionary()
_streams_lock = threading.Lock()


def load_cupy() -> Any:
    """The module; GpuAbsent where it is not installed or does not load."""
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise GpuAbsent(f"CuPy cannot be imported: {error}", hint="pip install 'edgeagent[gpu]'") from error


def allocator_of(cupy: Any, tenant: Tenant, device_id: int) -> Callable[[int], Any]:
    """What ``cupy.cuda.set_allocator`` takes: bytes in, ``MemoryPointer`` out, freed with the last array over it.

    The memory has its block as owner, so it is freed once, on the tenant's stream, and never after an eviction.
    """

    def allocate(size_bytes: int) -> Any:
        if size_bytes == 0:
            return cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(0, 0, None, device_id), 0)
        block = tenant.alloc(size_bytes)
        memory = cupy.cuda.UnownedMemory(block.ptr, size_bytes, block, device_id)
        return cupy.cuda.MemoryPointer(memory, 0)

    return allocate


def _stream_of(cupy: Any, tenant: Tenant, device_id: int) -> Any:
    """The tenant's stream as CuPy's, one object a tenant.

    CuPy 14 advises ``Stream.from_external`` instead of ``ExternalStream``, with a warning. But what that makes destroys
    the stream at its end (seen in 14's ``cupy/cuda/stream.pyx``), and the stream is ours.
    """
    with _streams_lock:
        known = _streams.get(tenant)
        if known is not None and known[0] is cupy:
            return known[1]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            stream = cupy.cuda.ExternalStream(tenant.stream, device_id)
        _streams[tenant] = (cupy, stream)
        return stream


@contextlib.contextmanager
def using_tenant(context: GpuContext, tenant: Tenant, cupy: Any = None) -> Iterator[Any]:
    """CuPy, on the tenant's stream and memory, in this thread, for the ``with``; the tenant counts as running.

    Work is enqueued, not done, at the end. Results are copied out, and arrays let go, inside it.
    """
    cupy = cupy if cupy is not None else load_cupy()
    device_id = context.facts.ordinal
    with (
        tenant.running(),
        cupy.cuda.Device(device_id),
        _stream_of(cupy, tenant, device_id),
        cupy.cuda.using_allocator(allocator_of(cupy, tenant, device_id)),
    ):
        yield cupy


def array_over(
    cupy: Any, ptr: int, size_bytes: int, owner: object, *, shape: tuple[int, ...], dtype: str, device_id: int
) -> Any:
    """An array over memory that is there already (a registration's ``device_ptr``); ``owner`` is kept with it.

    Nothing is copied. ValueError where shape and dtype need more than ``size_bytes``.
    """
    memory = cupy.cuda.UnownedMemory(ptr, size_bytes, owner, device_id)
    item_bytes = int(cupy.dtype(dtype).itemsize)
    needed_bytes = item_bytes
    for length in shape:
        needed_bytes *= length
    if needed_bytes > size_bytes:
        raise ValueError(f"{shape} of {dtype} need {needed_bytes} bytes, not {size_bytes}")
    return cupy.ndarray(shape, dtype=dtype, memptr=cupy.cuda.MemoryPointer(memory, 0))


def fault_from_cupy(error: BaseException) -> GpuFault | None:
    """What an exception of CuPy means in our tree, or None for one that is not the GPU's.

    CuPy's ``CUDADriverError`` and ``CUDARuntimeError`` carry the code in ``status``. From 100 on, and below where the
    driver has one, the runtime's codes are the driver's; the runtime's own are the caller's fault, but for 35
    (cudaErrorInsufficientDriver). CuPy's ``OutOfMemoryError`` carries none.
    """
    kind = type(error).__name__
    if kind == "OutOfMemoryError":
        return GpuOutOfMemory(str(error), code=2, function="cupy")
    status = getattr(error, "status", None)
    if kind not in {"CUDADriverError", "CUDARuntimeError"} or not isinstance(status, int):
        return None
    fault_kind, name = classify(status)
    made = fault_class(fault_kind)
    if status == _INSUFFICIENT_DRIVER:
        made = GpuAbsent
    elif status < 100 and not name.startswith("CUDA_"):
        made = GpuMisuse
    return made(str(error), code=status, function="cupy")


class CupyDevice:
    """CuPy on whatever stream is current, as ``execute.Device``."""

    def __init__(self, cupy: Any) -> None:
        self.xp = cupy

    def put(self, array: Any) -> Any:
        """From where it lies: CuPy's ``asarray`` copies what is not pinned once more, and keeps a pinned array beyond
        this call.
        """
        order = "F" if array.flags.fnc else "C"
        made = self.xp.empty(array.shape, array.dtype, order)
        made.set(array)
        return made

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self.xp.empty(shape, dtype)

    def take(self, array: Any, into: Any) -> None:
        if into.flags.c_contiguous or into.flags.f_contiguous:
            array.get(out=into)  # waits for the stream
        else:
            into[...] = array.get()
