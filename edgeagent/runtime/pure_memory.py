"""Bounds-checked access to a guest's linear memory from host functions; the twin of native/wasi/guest_memory.hpp."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import wasmtime

__all__ = ["Fault", "GuestMemory"]


class Fault(Exception):
    """A guest's pointer is outside its memory."""


class GuestMemory:
    """Base and size are read once: valid during one host call, or between calls."""

    __slots__ = ("base", "size")

    def __init__(self, memory: wasmtime.Memory, store: Any) -> None:
        self.base = ctypes.addressof(memory.data_ptr(store).contents)
        self.size = memory.data_len(store)

    def check(self, ptr: int, count: int) -> int:
        """The host address of [ptr, ptr + count); raises Fault when it is not all inside."""
        if ptr < 0 or count < 0 or ptr + count > self.size:
            raise Fault
        return self.base + ptr

    def read(self, ptr: int, count: int) -> bytes:
        return ctypes.string_at(self.check(ptr, count), count)

    def write(self, ptr: int, data: bytes | memoryview) -> None:
        address = self.check(ptr, len(data))
        if isinstance(data, memoryview):
            data = bytes(data)
        ctypes.memmove(address, data, len(data))

    def unpack(self, layout: str, ptr: int) -> tuple[Any, ...]:
        return struct.unpack(layout, self.read(ptr, struct.calcsize(layout)))

    def pack(self, layout: str, ptr: int, *values: Any) -> None:
        self.write(ptr, struct.pack(layout, *values))
