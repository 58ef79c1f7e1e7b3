"""A device's primary context and what lives on it: functions' streams and memory, pinned memory, events.

A wrapper of ``native/gpu`` with types. Handles are plain integers (``CUcontext``, ``CUstream``, ``CUmemoryPool``,
``CUdeviceptr``), so that CuPy, which uses the same primary context, works on them (:mod:`edgeagent.accel.cupy_glue`).
Every call may raise a :class:`~edgeagent.accel.gpu_errors.GpuFault`; every call that may wait releases the GIL, and any
thread may call. Closing a context closes all that was made on it; after that each use is GpuClosed.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from edgeagent.accel.gpu_driver import DeviceFacts, gpu_core, library_path
from edgeagent.accel.gpu_errors import GpuMisuse, GpuTimeout

__all__ = ["Block", "ContextStats", "GpuContext", "GpuEvent", "PinnedRing", "Registration", "Slot", "Tenant"]

PINNED_BYTES_MAX = 256 * 2**20
_SCHEDULES = {"auto": 0, "spin": 1, "yield": 2, "block": 4}  # CU_CTX_SCHED_*
_Buffer = Any  # whatever gives contiguous bytes: bytes, memoryview, numpy arrays, hoses


class Block(Protocol):
    """Device memory of one tenant; freed on its stream at its end."""

    @property
    def ptr(self) -> int:
        """The CUdeviceptr; GpuClosed after free or eviction."""

    @property
    def size(self) -> int: ...
    @property
    def live(self) -> bool: ...
    def free(self) -> None: ...
    def upload(self, source: _Buffer, offset_bytes: int, /) -> None:
        """Enqueues a copy of all of ``source``, which must live, unchanged, until the stream has done it."""

    def download(self, target: _Buffer, offset_bytes: int, /) -> None: ...


class Slot(Protocol):
    """A piece of a pinned ring, for one thread; its end retires it."""

    @property
    def size(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def host_ptr(self) -> int: ...
    @property
    def device_ptr(self) -> int: ...
    def write(self, source: _Buffer, offset_bytes: int, /) -> None: ...
    def read_into(self, target: _Buffer, offset_bytes: int, /) -> None: ...
    def upload(self, block: Block, size_bytes: int, block_offset_bytes: int, /) -> None: ...
    def download(self, block: Block, size_bytes: int, block_offset_bytes: int, /) -> None: ...
    def retire(self, stream: int, /) -> None:
        """Free when ``stream`` (0: the one of the last copy) has done what it was given."""


@dataclass(frozen=True, slots=True)
class ContextStats:
    """What a context has in use. ``held_bytes``: used, and what pools may keep for reuse, at most."""

    tenants: int
    used_bytes: int
    held_bytes: int
    pinned_bytes: int
    trims: int  # idle functions' cached memory that went to somebody else
    evictions: int  # idle functions' blocks that did
    children: int  # tenants, rings, registrations, events


class _Closing(ABC):
    """``with``: closed at the end."""

    @abstractmethod
    def close(self) -> Any: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Tenant(_Closing):
    """One function on a device: a stream of its own, and memory up to its quota."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self.name: str = native.name
        self.quota_bytes: int = native.quota_bytes

    @property
    def stream(self) -> int:
        """The CUstream, non-blocking towards the default stream."""
        return int(self._native.stream)

    @property
    def pool(self) -> int:
        """The CUmemoryPool, or 0 where the device has none."""
        return int(self._native.pool)

    @property
    def generation(self) -> int:
        """Goes up when its blocks were evicted: whoever kept some makes them anew."""
        return int(self._native.generation)

    @property
    def used_bytes(self) -> int:
        return int(self._native.usage()[0])

    @property
    def blocks(self) -> int:
        return int(self._native.usage()[2])

    @property
    def reserved_bytes(self) -> int:
        """What its pool has of the device, used or not."""
        return int(self._native.reserved_bytes())

    def alloc(self, size_bytes: int) -> Block:
        """GpuQuota over its own bound; GpuOutOfMemory when the device is full even after idle functions gave way."""
        block: Block = self._native.alloc(size_bytes)
        return block

    @contextlib.contextmanager
    def running(self) -> Iterator[int]:
        """While it runs nothing of it is evicted. Gives the generation: compare it with the one kept blocks are of."""
        self._native.begin()
        try:
            yield self.generation
        finally:
            self._native.end()

    def is_idle(self) -> bool:
        """Whether its stream has done all it was given; a fault of that work comes out here."""
        return bool(self._native.is_idle())

    def synchronize(self, timeout_s: float | None = None) -> None:
        """Waits for its stream; GpuTimeout when that is not done in time. None: as long as it takes."""
        if not self._native.synchronize(timeout_s):
            raise GpuTimeout(f"{self.name}: the GPU is not done after {timeout_s} s")

    def trim(self) -> None:
        """Gives cached memory back to the device."""
        self._native.trim()

    def evict(self) -> None:
        """Frees its blocks too; GpuBusy while it runs. Arrays over them must not be used any more."""
        self._native.evict()

    def close(self) -> None:
        """Frees all of it; waits up to 5 s for its stream."""
        self._native.close()


class PinnedRing(_Closing):
    """Pinned host memory for staging, given out in order."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self.size_bytes: int = native.size

    @property
    def used_bytes(self) -> int:
        return int(self._native.used_bytes)

    def reserve(self, size_bytes: int, timeout_s: float = 0.0) -> Slot:
        """GpuBusy when there is no room in time; room comes as slots retire and the device is done with them."""
        slot: Slot = self._native.reserve(size_bytes, timeout_s)
        return slot

    def close(self) -> None:
        self._native.close()


class Registration(_Closing):
    """Memory of others, pinned in place; it keeps the buffer until it is closed, and no work may use it then."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self.size_bytes: int = native.size
        self.read_only: bool = native.read_only
        self.zero_copy: bool = native.zero_copy  # integrated: kernels use it in place; else copy from it

    @property
    def host_ptr(self) -> int:
        return int(self._native.host_ptr)

    @property
    def device_ptr(self) -> int:
        """What kernels use, 0 where the device does not map host memory; on discrete ones it is across the bus."""
        return int(self._native.device_ptr)

    def close(self) -> None:
        self._native.close()


class GpuEvent(_Closing):
    """A mark in a tenant's stream."""

    def __init__(self, native: Any) -> None:
        self._native = native

    def record(self, tenant: Tenant) -> None:
        self._native.record(tenant._native)

    def is_done(self) -> bool:
        return bool(self._native.is_done())

    def wait(self, timeout_s: float) -> None:
        """GpuTimeout when the device has not come to it in time."""
        if not self._native.wait(timeout_s):
            raise GpuTimeout(f"the GPU is not done after {timeout_s} s")

    def ms_until(self, later: GpuEvent) -> float:
        """Milliseconds on the device between the two, both done; GpuMisuse otherwise."""
        return float(self._native.ms_until(later._native))

    def close(self) -> None:
        self._native.close()


class GpuContext(_Closing):
    """The primary context of one device; ``poison`` is the CUresult that ended it, or 0."""

    def __init__(
        self,
        ordinal: int = 0,
        *,
        library: str = "",
        budget_bytes: int = 0,
        pinned_bytes_max: int = PINNED_BYTES_MAX,
        schedule: Literal["auto", "spin", "yield", "block"] = "auto",
    ) -> None:
        """``budget_bytes``: device memory of all tenants, 0 for all there is; ``schedule``: how the driver waits."""
        flags = _SCHEDULES.get(schedule)
        if flags is None:
            raise GpuMisuse(f"schedule is one of {', '.join(_SCHEDULES)}, not {schedule!r}")
        self._native = gpu_core().Context(
            library_path(library),
            ordinal=ordinal,
            budget_bytes=budget_bytes,
            pinned_bytes_max=pinned_bytes_max,
            schedule_flags=flags,
        )
        self.facts = DeviceFacts(**self._native.facts)

    @property
    def handle(self) -> int:
        return int(self._native.handle)

    @property
    def closed(self) -> bool:
        return bool(self._native.closed)

    @property
    def poison(self) -> int:
        return int(self._native.poison)

    def memory(self) -> tuple[int, int]:
        """Bytes of the device that are free, and all, as the driver counts them."""
        free_bytes, total_bytes = self._native.memory()
        return int(free_bytes), int(total_bytes)

    def stats(self) -> ContextStats:
        return ContextStats(*self._native.stats())

    def tenant(
        self,
        name: str,
        *,
        quota_bytes: int,
        keep_bytes: int | None = None,
        priority: int = 0,
        evictable: bool = False,
    ) -> Tenant:
        """A function's stream and memory.

        ``keep_bytes``: what its pool keeps unused (None: its quota); ``priority``: lower is sooner; ``evictable``: its
        blocks may go while it does not run, so it checks the generation when it starts.
        """
        keep = quota_bytes if keep_bytes is None else keep_bytes
        return Tenant(
            self._native.tenant(
                name, quota_bytes=quota_bytes, keep_bytes=keep, priority=priority, evictable=evictable
            )
        )

    def ring(self, size_bytes: int) -> PinnedRing:
        """GpuQuota over ``pinned_bytes_max``, registrations counted."""
        return PinnedRing(self._native.ring(size_bytes))

    def register(self, buffer: _Buffer, *, read_only: bool = False) -> Registration:
        """Pins a page-aligned buffer in place; GpuUnsupported where the device refuses (stage through a ring then).

        ``read_only`` tells the driver so where it can be told; memory that is mapped without write access needs it.
        """
        return Registration(self._native.register(buffer, read_only))

    def event(self, *, timing: bool = True) -> GpuEvent:
        return GpuEvent(self._native.event(timing))

    def close(self, timeout_s: float = 5.0, *, reset: bool = False) -> list[str]:
        """Ends all of it; what the driver refused comes back, one line each.

        GpuBusy, with everything as it was, when work is not done in time: then only the end of the process helps.
        ``reset`` takes the context from CuPy too.
        """
        if not math.isfinite(timeout_s):
            raise GpuMisuse("a close has a finite time to wait")
        return [str(line) for line in self._native.close(timeout_s, reset)]
