"""Where bytes from another host land: the port that hoses are bound to, and plain memory for all else."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import msgspec

__all__ = ["Allocate", "Buffer", "Delivery", "MemoryBuffer", "allocate_memory"]


class Buffer(Protocol):
    """Memory for one transfer. Used by one thread at a time, except that stripes write to disjoint parts."""

    @property
    def view(self) -> memoryview:
        """Writable bytes, at least as many as were asked for; resident where that matters for speed."""
        ...

    def publish(self, length: int) -> Any:
        """No byte changes from now on: the payload object that the application is handed. Called once at most, and
        with no slice of ``view`` left.
        """
        ...

    def close(self) -> None:
        """Nobody will write or publish any more; after ``publish`` the payload stays valid."""
        ...


# ``allocate(total bytes)``; called on a thread of a connection. MemoryError and OSError refuse the transfer.
Allocate = Callable[[int], Buffer]


class Delivery(msgspec.Struct, frozen=True):
    """A whole transfer: who sent it, under which id and generation, and what ``Buffer.publish`` made of it."""

    peer: str
    transfer: bytes
    generation: int
    length: int
    payload: Any


_HUGE_BYTES = 2 << 20


class MemoryBuffer:
    """Anonymous memory; its payload is a read-only memoryview, and the pages go with its last user."""

    def __init__(self, length: int) -> None:
        self._memory = mmap.mmap(-1, max(length, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if length >= _HUGE_BYTES:
            with suppress(OSError):  # a kernel without huge pages: small ones do
                self._memory.madvise(mmap.MADV_HUGEPAGE)
        self._view: memoryview | None = memoryview(self._memory)[:length]

    @property
    def view(self) -> memoryview:
        if self._view is None:
            raise ValueError("the buffer is closed")
        return self._view

    def publish(self, length: int) -> memoryview:
        return self.view[:length].toreadonly()

    def close(self) -> None:
        # Not mmap.close(): a payload may still be read, and its memoryview keeps the map alive.
        self._view = None


def allocate_memory(length: int) -> Buffer:
    """The default ``Allocate``. Raises OSError (ENOMEM) where there is none."""
    return MemoryBuffer(length)
