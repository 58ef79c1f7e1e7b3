"""The element types of operands: codes of sdk/edge_accel.h, names of the array API. Pure."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["COMPLEX", "FLOATS", "INTEGERS", "REALS", "SIGNED", "UNSIGNED", "Dtype"]


class Dtype(IntEnum):
    """There is no bool: masks are U8, for a guest's byte may hold anything."""

    U8 = 1
    I8 = 2
    U16 = 3
    I16 = 4
    U32 = 5
    I32 = 6
    U64 = 7
    I64 = 8
    F16 = 9
    F32 = 10
    F64 = 11
    C64 = 12  # two F32: real, imaginary
    C128 = 13

    @property
    def array_name(self) -> str:
        """As numpy, CuPy and the array API call it."""
        return _NAMES[self][0]

    @property
    def item_bytes(self) -> int:
        return _NAMES[self][1]

    @property
    def align_bytes(self) -> int:
        """What offsets and strides are multiples of: of complex numbers, the size of a part."""
        return _NAMES[self][2]


_NAMES = {
    Dtype.U8: ("uint8", 1, 1),
    Dtype.I8: ("int8", 1, 1),
    Dtype.U16: ("uint16", 2, 2),
    Dtype.I16: ("int16", 2, 2),
    Dtype.U32: ("uint32", 4, 4),
    Dtype.I32: ("int32", 4, 4),
    Dtype.U64: ("uint64", 8, 8),
    Dtype.I64: ("int64", 8, 8),
    Dtype.F16: ("float16", 2, 2),
    Dtype.F32: ("float32", 4, 4),
    Dtype.F64: ("float64", 8, 8),
    Dtype.C64: ("complex64", 8, 4),
    Dtype.C128: ("complex128", 16, 8),
}

UNSIGNED = frozenset({Dtype.U8, Dtype.U16, Dtype.U32, Dtype.U64})
SIGNED = frozenset({Dtype.I8, Dtype.I16, Dtype.I32, Dtype.I64})
INTEGERS = UNSIGNED | SIGNED
FLOATS = frozenset({Dtype.F16, Dtype.F32, Dtype.F64})
COMPLEX = frozenset({Dtype.C64, Dtype.C128})
REALS = INTEGERS | FLOATS
