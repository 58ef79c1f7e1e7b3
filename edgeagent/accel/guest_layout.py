"""What ``edge_accel`` tells guests: codes, and what a node has. Pure; the twin of sdk/edge_accel.h.

What there is: u32 version (1), u32 backends (bit 0: CPU, bit 1: GPU), u32 kernels, then for each u8 length and name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum, IntFlag

from edgeagent.accel.kernel_errors import (
    BadDescriptor,
    BadExpression,
    KernelTooLarge,
    OperandOutside,
    OperandsOverlap,
    UnknownKernel,
    WrongDtype,
    WrongShape,
)
from edgeagent.model.errors import Busy, EdgeError, Unavailable

__all__ = ["Backend", "Code", "code_of", "pack_query", "unpack_query"]

_HEAD = struct.Struct("<III")
VERSION = 1


class Code(IntEnum):
    """What an import of edge_accel returns instead of 0 or a length; as in sdk/edge_accel.h and native/accel."""

    BAD = -1
    RANGE = -2
    MEMORY = -4
    FULL = -5
    NONE = -10
    OFF = -12
    TOO_LARGE = -16
    FAILED = -20
    OVERLAP = -21
    DTYPE = -22
    SHAPE = -23
    EXPRESSION = -24


class Backend(IntFlag):
    """What could run a kernel now."""

    CPU = 1
    GPU = 2


# The first that fits says the code.
_CODES: tuple[tuple[type[EdgeError], Code], ...] = (
    (OperandOutside, Code.RANGE),
    (OperandsOverlap, Code.OVERLAP),
    (WrongDtype, Code.DTYPE),
    (WrongShape, Code.SHAPE),
    (BadExpression, Code.EXPRESSION),
    (BadDescriptor, Code.BAD),
    (UnknownKernel, Code.NONE),
    (KernelTooLarge, Code.TOO_LARGE),
    (Busy, Code.FULL),
    (Unavailable, Code.OFF),
)


def code_of(error: EdgeError) -> Code:
    return next((code for kind, code in _CODES if isinstance(error, kind)), Code.FAILED)


def pack_query(backends: Backend, kernels: Iterable[str]) -> bytes:
    names = [name.encode() for name in kernels]
    return _HEAD.pack(VERSION, backends, len(names)) + b"".join(bytes([len(name)]) + name for name in names)


def unpack_query(data: bytes) -> tuple[Backend, list[str]]:
    """As guests do it; ``data`` is of pack_query."""
    _, backends, count = _HEAD.unpack_from(data)
    at, names = _HEAD.size, []
    for _ in range(count):
        names.append(data[at + 1 : at + 1 + data[at]].decode())
        at += 1 + data[at]
    return Backend(backends), names
