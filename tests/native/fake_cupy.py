"""As much of CuPy as the glue touches, over the double's memory: its stream and its allocator are thread-local too."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

__all__ = ["CUDADriverError", "CUDARuntimeError", "OutOfMemoryError", "fake_cupy"]


class CUDADriverError(RuntimeError):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"driver {status}")


class CUDARuntimeError(RuntimeError):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"runtime {status}")


class OutOfMemoryError(MemoryError):
    pass


class _UnownedMemory:
    def __init__(self, ptr: int, size: int, owner: object, device_id: int) -> None:
        self.ptr, self.size, self.owner, self.device_id = ptr, size, owner, device_id


class _MemoryPointer:
    def __init__(self, mem: _UnownedMemory, offset: int) -> None:
        self.mem, self.ptr = mem, mem.ptr + offset


class _Array:
    """``fill`` works through the pointer, as a kernel would."""

    def __init__(
        self, shape: tuple[int, ...], dtype: Any = "u1", memptr: _MemoryPointer | None = None
    ) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.nbytes = self.dtype.itemsize * int(np.prod(shape))
        self.data = memptr if memptr is not None else _local().allocator(self.nbytes)

    def fill(self, byte: int) -> None:
        ctypes.memset(self.data.ptr, byte, self.nbytes)


_threads = threading.local()


def _local() -> Any:
    if not hasattr(_threads, "allocator"):
        _threads.allocator, _threads.streams, _threads.devices = None, [0], [0]
    return _threads


class _Stack:
    def __init__(self, name: str, value: int) -> None:
        self._name, self._value = name, value

    def __enter__(self) -> None:
        getattr(_local(), self._name).append(self._value)

    def __exit__(self, *_: object) -> None:
        assert getattr(_local(), self._name).pop() == self._value


def _external_stream(ptr: int, device_id: int) -> _Stack:
    assert device_id == 0
    warnings.warn("ExternalStream is deprecated", DeprecationWarning, stacklevel=2)  # as in CuPy 14
    return _Stack("streams", ptr)


@contextlib.contextmanager
def _using_allocator(allocator: Callable[[int], Any]) -> Iterator[None]:
    local = _local()
    former, local.allocator = local.allocator, allocator
    try:
        yield
    finally:
        local.allocator = former


def fake_cupy() -> Any:
    """The module."""
    cuda = SimpleNamespace(
        UnownedMemory=_UnownedMemory,
        MemoryPointer=_MemoryPointer,
        Device=lambda device_id: _Stack("devices", device_id),
        ExternalStream=_external_stream,
        using_allocator=_using_allocator,
        current=lambda: (_local().devices[-1], _local().streams[-1]),
    )
    return SimpleNamespace(cuda=cuda, ndarray=_Array, dtype=np.dtype)
