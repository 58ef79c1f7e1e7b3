"""One call of a kernel, from its description to its outputs. Pure but for the arrays that it writes.

prepared = prepare(registry, name, description, memory_bytes, limits)    # refuses; says how much work it is
run_on_cpu(prepared, memory)                                             # on a worker thread
run_on_gpu(prepared, memory, device)                                     # in a broker: memory is a slot of the arena
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from edgeagent.accel.descriptors import Operand, check_operands, contiguous, unpack_call
from edgeagent.accel.kernel_errors import KernelFailed, KernelTooLarge
from edgeagent.accel.kernels.kernel import Call, Kernel, Work, bind
from edgeagent.accel.registry import Registry
from edgeagent.accel.views import map_bases, view, whole
from edgeagent.model.errors import EdgeError

__all__ = ["CallLimits", "Device", "Prepared", "beyond_cpu", "prepare", "run_on_cpu", "run_on_gpu"]


class CallLimits(NamedTuple):
    """Of one call: a kernel that runs cannot be stopped, and its scratch is the host's, not the guest's."""

    cpu_s: float = 60.0
    scratch_bytes: int = 1 << 30


class Prepared(NamedTuple):
    kernel: Kernel
    call: Call
    work: Work


def prepare(
    registry: Registry, name: str, described: bytes | memoryview, memory_bytes: int, limits: CallLimits
) -> Prepared:
    """Raises BadDescriptor and its kinds, UnknownKernel, KernelTooLarge."""
    kernel = registry.get(name)
    description = unpack_call(described)
    check_operands(description, memory_bytes, in_place=kernel.in_place)
    call = bind(kernel, description)
    work = kernel.plan(call)
    prepared = Prepared(kernel, call, work)
    beyond = beyond_cpu(prepared, limits.cpu_s) or _beyond(
        name, "bytes of scratch", work.scratch_bytes, limits.scratch_bytes
    )
    if beyond is not None:
        raise beyond
    return prepared


def beyond_cpu(prepared: Prepared, cpu_s: float) -> KernelTooLarge | None:
    """Why a CPU must not be asked for this: it could not be stopped, once it runs. None: it may be."""
    return _beyond(prepared.kernel.name, "seconds of a CPU", prepared.work.cpu_s, cpu_s)


def _beyond(name: str, what: str, wanted: float, most: float) -> KernelTooLarge | None:
    if wanted <= most:
        return None
    return KernelTooLarge(f"a call of {name} takes about {wanted:g} {what}", hint=f"at most {most:g}")


class Device(Protocol):
    """What a kernel needs of a device: a namespace with numpy's functions, and arrays there and back."""

    @property
    def xp(self) -> Any: ...
    def put(self, array: Any) -> Any:
        """A copy of a numpy array there."""
        ...

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """An array there, of whatever."""
        ...

    def take(self, array: Any, into: Any) -> None:
        """Into a numpy array of the same shape and type; it is all there when this returns."""
        ...


def run_on_cpu(prepared: Prepared, memory: memoryview) -> None:
    """By numpy, in place. ``memory`` is all of the guest's, and nobody else writes there meanwhile.

    Raises KernelFailed, or KernelTooLarge where the host has no memory for it; outputs may be half written then. A
    kernel that keeps an array of ``memory``, which goes away, has failed too: no later use of it can be prevented.
    """
    held = whole(memory)
    watch = weakref.ref(held)
    failure = _attempt(prepared, held)
    del held
    if watch() is not None:
        gc.collect()
        if watch() is not None:
            failure = KernelFailed(f"{prepared.kernel.name} keeps an array of a guest's memory")
    if failure is not None:
        raise failure  # here, for a traceback from where the arrays are would keep them


def _attempt(prepared: Prepared, memory: Any) -> EdgeError | None:
    import numpy as np

    kernel, call, _ = prepared
    try:
        inputs = [view(memory, one, writable=False) for one in call.inputs]
        outputs = [view(memory, one, writable=True) for one in call.outputs]
        with np.errstate(all="ignore"):  # a NaN is an answer
            kernel.run(np, inputs, outputs, call)
    except MemoryError:
        return KernelTooLarge(f"the host has no memory for a call of {kernel.name}")
    except Exception as error:  # noqa: BLE001 - others' kernels, of whatever quality
        return KernelFailed(f"{kernel.name} failed: {type(error).__name__}: {error}")
    return None


def run_on_gpu(
    prepared: Prepared, memory: memoryview, device: Device, maps: Sequence[memoryview] = ()
) -> None:
    """By the same array function on the device's arrays; outputs are written to ``memory`` once all are known.

    Inputs may lie in ``maps``, which follow ``memory`` as ``map_bases`` says.

    Raises whatever the kernel and the device raise: it is for the backend to tell what it means.
    """
    kernel, call, _ = prepared
    held = whole(memory)
    bases, _ = map_bases(len(memory), [(0, len(one)) for one in maps])
    mapped = list(zip(bases, map(whole, maps), strict=True))
    inputs = [_put(device, *_place(held, mapped, one)) for one in call.inputs]
    outputs = [device.empty(one.shape, one.dtype.array_name) for one in call.outputs]
    kernel.run(device.xp, inputs, outputs, call)
    for array, one in zip(outputs, call.outputs, strict=True):
        device.take(array, view(held, one, writable=True))


def _place(held: Any, mapped: list[tuple[int, Any]], one: Operand) -> tuple[Any, Operand]:
    """What an input lies in, and the input there."""
    for base, memory in reversed(mapped):
        if one.range[0] >= base:
            return memory, one._replace(offset=one.offset - base)
    return held, one


def _put(device: Device, held: Any, one: Operand) -> Any:
    """An input there. What has no gaps goes over as it lies, in whatever order; what indices see many times, once."""
    xp, item = device.xp, one.dtype.item_bytes
    low, high = one.range
    is_gapless = high - low <= one.bytes and 0 not in one.strides
    if is_gapless and not any(step % item for step in (one.offset - low, high - low, *one.strides)):
        flat = device.put(held[low:high].view(one.dtype.array_name))
        if one.strides == contiguous(one.offset, one.dtype, one.shape).strides:  # the usual case, and cheaper
            return flat.reshape(one.shape)
        first = flat[(one.offset - low) // item :]
        return xp.lib.stride_tricks.as_strided(first, one.shape, one.strides)
    once = tuple(slice(None) if stride else slice(0, 1) for stride in one.strides)
    array = device.put(view(held, one, writable=False)[(*once, ...)])
    return array if array.shape == one.shape else xp.broadcast_to(array, one.shape)
