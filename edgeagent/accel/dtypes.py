"""The element types of operands: codes of sdk/edge_accel.h, names of the array API. Pure."""

from __future__ import annotations

from enum import IntEnum
from typing import Self

__all__ = ["COMPLEX", "FLOATS", "INTEGERS", "REALS", "SIGNED", "UNSIGNED", "Dtype"]


class Dtype(IntEnum):
    """There is no bool: masks are U8, for a guest's byte may hold anything.

    ``array_name`` is what numpy, CuPy and the array API call it; offsets and strides are multiples of ``align_bytes``,
    of complex numbers the size of a part.
    """

    array_name: str
    item_bytes: int
    align_bytes: int

    def __new__(cls, code: int, array_name: str, item_bytes: int, align_bytes: int) -> Self:
        self = int.__new__(cls, code)
        self._value_ = code
        self.array_name = array_name
        self.item_bytes = item_bytes
        self.align_bytes = align_bytes
        return self

    U8 = (1, "uint8", 1, 1)
    I8 = (2, "int8", 1, 1)
    U16 = (3, "uint16", 2, 2)
    I16 = (4, "int16", 2, 2)
    U32 = (5, "uint32", 4, 4)
    I32 = (6, "int32", 4, 4)
    U64 = (7, "uint64", 8, 8)
    I64 = (8, "int64", 8, 8)
    F16 = (9, "float16", 2, 2)
    F32 = (10, "float32", 4, 4)
    F64 = (11, "float64", 8, 8)
    C64 = (12, "complex64", 8, 4)  # two F32: real, imaginary
    C128 = (13, "complex128", 16, 8)

    # Enum's own goes through the name, in Python, for each look into a set.
    __hash__ = int.__hash__


UNSIGNED = frozenset({Dtype.U8, Dtype.U16, Dtype.U32, Dtype.U64})
SIGNED = frozenset({Dtype.I8, Dtype.I16, Dtype.I32, Dtype.I64})
INTEGERS = UNSIGNED | SIGNED
FLOATS = frozenset({Dtype.F16, Dtype.F32, Dtype.F64})
COMPLEX = frozenset({Dtype.C64, Dtype.C128})
REALS = INTEGERS | FLOATS
