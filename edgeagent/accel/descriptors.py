"""How a guest describes one call of a kernel, and what of it is believed. Pure; the twin of sdk/edge_accel.h.

All numbers are little-endian:

    call      u16 version (1), u16 flags (0), u16 inputs, u16 outputs, u16 numbers, u16 0, u32 text (bytes)
              operands: the inputs, then the outputs
              f64 numbers
              text, UTF-8
    operand   u64 offset in linear memory of the element whose indices are all 0
              u32 dtype, u32 rank (0 to 8)
              u64 shape[8], i64 strides[8] in bytes; 0 beyond the rank

A stride may be negative, and in an input 0 (one element seen many times) or such that elements overlap. Nothing of an
output is seen twice: its elements do not overlap, and it shares no byte range with another operand. Range here is all
from its first byte to its last, also what lies between its elements; two that are interleaved are refused too. The
one exception is a kernel that works in place, whose output may be an input, exactly.

Python's integers do not overflow: whatever a guest says, sums and products of it are what they are.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import NamedTuple

from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.kernel_errors import BadDescriptor, BadOperand, OperandOutside, OperandsOverlap

__all__ = [
    "CALL_BYTES_MAX",
    "CALL_LAYOUT",
    "NAME_BYTES_MAX",
    "NUMBERS_MAX",
    "OPERANDS_MAX",
    "OPERAND_LAYOUT",
    "RANK_MAX",
    "TEXT_BYTES_MAX",
    "Description",
    "Operand",
    "check_operands",
    "contiguous",
    "pack_call",
    "unpack_call",
]

VERSION = 1
RANK_MAX = 8
OPERANDS_MAX = 16
NUMBERS_MAX = 16
TEXT_BYTES_MAX = 1024
NAME_BYTES_MAX = 64

_CALL = struct.Struct("<HHHHHHI")
_OPERAND = struct.Struct(f"<QII{RANK_MAX}Q{RANK_MAX}q")
_NUMBER = struct.Struct("<d")
_BY_CODE = {int(dtype): dtype for dtype in Dtype}
CALL_BYTES_MAX = _CALL.size + OPERANDS_MAX * _OPERAND.size + NUMBERS_MAX * _NUMBER.size + TEXT_BYTES_MAX


class CallLayout(NamedTuple):
    """Where parts of a call are, in bytes, for who sees only some of them; ``size`` is that of the header."""

    size: int
    inputs: int
    outputs: int


class OperandLayout(NamedTuple):
    """The same of an operand."""

    size: int
    dtype: int
    rank: int
    shape: int


CALL_LAYOUT = CallLayout(_CALL.size, *(struct.calcsize(before) for before in ("<HH", "<HHH")))
OPERAND_LAYOUT = OperandLayout(_OPERAND.size, *(struct.calcsize(before) for before in ("<Q", "<QI", "<QII")))


class Operand(NamedTuple):
    """An array in linear memory; ``strides`` in bytes."""

    offset: int
    dtype: Dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Of its elements, each counted as often as it is seen."""
        return self.elements * self.dtype.item_bytes

    @property
    def range(self) -> tuple[int, int]:
        """The first byte, and the one after the last."""
        low = high = self.offset
        for size, stride in zip(self.shape, self.strides, strict=True):
            if stride < 0:
                low += (size - 1) * stride
            else:
                high += (size - 1) * stride
        return low, high + self.dtype.item_bytes


class Description(NamedTuple):
    """A call as it was described: nothing of it has been held against a memory or a kernel yet."""

    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    numbers: tuple[float, ...] = ()
    text: str = ""


def contiguous(offset: int, dtype: Dtype, shape: Sequence[int]) -> Operand:
    """An array whose last index runs fastest, without gaps."""
    strides, step = [], dtype.item_bytes
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return Operand(offset, dtype, tuple(shape), tuple(reversed(strides)))


def pack_call(call: Description) -> bytes:
    """As guests do it: what a broker is told in their place."""
    text = call.text.encode()
    head = (VERSION, 0, len(call.inputs), len(call.outputs), len(call.numbers), 0, len(text))
    pieces = [_CALL.pack(*head)]
    for one in (*call.inputs, *call.outputs):
        rest = (0,) * (RANK_MAX - one.rank)
        pieces.append(_OPERAND.pack(one.offset, one.dtype, one.rank, *one.shape, *rest, *one.strides, *rest))
    return b"".join([*pieces, *map(_NUMBER.pack, call.numbers), text])


def unpack_call(data: bytes | memoryview) -> Description:
    """Raises BadDescriptor, of operands BadOperand."""
    if len(data) < _CALL.size:
        raise BadDescriptor("a call is shorter than its header")
    version, flags, inputs, outputs, numbers, zero, text = _CALL.unpack_from(data)
    if version != VERSION or flags or zero:
        raise BadDescriptor(
            f"version {version} of a call, or its flags, are unknown", hint="version 1, flags 0"
        )
    if inputs + outputs > OPERANDS_MAX or numbers > NUMBERS_MAX or text > TEXT_BYTES_MAX:
        raise BadDescriptor(
            "a call has too much",
            hint=f"up to {OPERANDS_MAX} operands, {NUMBERS_MAX} numbers, {TEXT_BYTES_MAX} bytes of text",
        )
    if not inputs or not outputs:
        raise BadDescriptor("a call needs an input and an output")
    size = _CALL.size + (inputs + outputs) * _OPERAND.size + numbers * _NUMBER.size + text
    if len(data) != size:
        raise BadDescriptor(f"a call of {size} bytes was given in {len(data)}")
    operands = [_operand(data, i) for i in range(inputs + outputs)]
    at = _CALL.size + (inputs + outputs) * _OPERAND.size
    values = struct.unpack_from(f"<{numbers}d", data, at)
    if not all(map(math.isfinite, values)):
        raise BadDescriptor("a number of a call is not finite")
    try:
        words = bytes(data[len(data) - text :]).decode() if text else ""
    except UnicodeDecodeError:
        raise BadDescriptor("the text of a call is not UTF-8") from None
    return Description(tuple(operands[:inputs]), tuple(operands[inputs:]), values, words)


def _operand(data: bytes | memoryview, index: int) -> Operand:
    offset, code, rank, *sizes = _OPERAND.unpack_from(data, _CALL.size + index * _OPERAND.size)
    dtype = _BY_CODE.get(code)
    if dtype is None:
        raise BadOperand(f"operand {index} has the unknown type {code}", operand=index)
    if rank > RANK_MAX:
        raise BadOperand(f"operand {index} has rank {rank}", hint=f"up to {RANK_MAX}", operand=index)
    shape, strides = sizes[:rank], sizes[RANK_MAX : RANK_MAX + rank]
    if any(sizes[rank:RANK_MAX]) or any(sizes[RANK_MAX + rank :]):
        raise BadOperand(f"operand {index} has sizes or strides beyond its rank", operand=index)
    return Operand(offset, dtype, tuple(shape), tuple(strides))


def check_operands(call: Description, memory_bytes: int, *, in_place: bool = False) -> None:
    """Hold every operand against a memory of this size, and against the others.

    ``in_place``: an output may be an input, exactly. Raises BadOperand, OperandOutside, OperandsOverlap.
    """
    operands = (*call.inputs, *call.outputs)
    ranges = [one.range for one in operands]
    for index, one in enumerate(operands):
        _check_alone(one, index, ranges[index], memory_bytes)
        if index >= len(call.inputs):
            _check_injective(one, index)
    for output in range(len(call.inputs), len(operands)):
        for other in range(output):
            meet = ranges[output][0] < ranges[other][1] and ranges[other][0] < ranges[output][1]
            is_same = in_place and other < len(call.inputs) and operands[output] == operands[other]
            if meet and not is_same:
                raise OperandsOverlap(
                    f"operand {output}, an output, overlaps operand {other}", operand=output, other=other
                )


def _check_alone(one: Operand, index: int, covers: tuple[int, int], memory_bytes: int) -> None:
    if 0 in one.shape:
        raise BadOperand(f"operand {index} is empty", operand=index)
    align = one.dtype.align_bytes
    if one.offset % align or any(stride % align for stride in one.strides):
        raise BadOperand(
            f"the offset or a stride of operand {index} is no multiple of {align}", operand=index
        )
    low, high = covers
    if low < 0 or high > memory_bytes:
        raise OperandOutside(
            f"operand {index} is [{low}, {high}) of a memory of {memory_bytes} bytes", operand=index
        )
    # A size of 1 is never stepped over, but sizes and elements are bounded for kernels' own sums. Broadcast inputs may
    # have more elements than the memory has bytes; kernels bound their work, not this.
    if one.elements >= 1 << 48:
        raise BadOperand(f"operand {index} has {one.elements} elements", operand=index)


def _check_injective(one: Operand, index: int) -> None:
    """No element of an output overlaps another: sufficient, and true of every array that a program would make."""
    reach = one.dtype.item_bytes
    for stride, size in sorted((abs(s), n) for s, n in zip(one.strides, one.shape, strict=True) if n > 1):
        if stride < reach:
            raise OperandsOverlap(f"elements of operand {index}, an output, overlap", operand=index)
        reach = stride * (size - 1) + reach
