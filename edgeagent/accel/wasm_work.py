"""How much work a call of ``edge_accel`` is, from what its description says of shapes (layout: descriptors.py).

The offset of an operand may be known at run time only, and other parts too: what is read here is the kernel's name,
how many operands there are, and their types and shapes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from edgeagent.accel.descriptors import CALL_LAYOUT, OPERAND_LAYOUT, OPERANDS_MAX, RANK_MAX
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.modes import bytes_as_flops

__all__ = ["Shape", "kernel_flops", "read_shapes"]

_ITEM_BYTES = {int(dtype): dtype.item_bytes for dtype in Dtype}
_SIZE_MAX = 1 << 48


class Shape(msgspec.Struct, frozen=True):
    sizes: tuple[int, ...]
    item_bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.sizes)

    @property
    def size_bytes(self) -> int:
        return self.elements * self.item_bytes


def read_shapes(call: Sequence[int | None]) -> tuple[list[Shape], list[Shape]] | None:
    """Inputs and outputs of a description of which some bytes are not known; None where these are needed."""
    inputs, outputs = _number(call, CALL_LAYOUT.inputs, 2), _number(call, CALL_LAYOUT.outputs, 2)
    if inputs is None or outputs is None or not 0 < inputs + outputs <= OPERANDS_MAX:
        return None
    shapes = []
    for index in range(inputs + outputs):
        at = CALL_LAYOUT.size + index * OPERAND_LAYOUT.size
        dtype, rank = _number(call, at + OPERAND_LAYOUT.dtype, 4), _number(call, at + OPERAND_LAYOUT.rank, 4)
        if dtype not in _ITEM_BYTES or rank is None or rank > RANK_MAX:
            return None
        sizes = [_number(call, at + OPERAND_LAYOUT.shape + 8 * axis, 8) for axis in range(rank)]
        if any(size is None or size > _SIZE_MAX for size in sizes):
            return None
        shapes.append(Shape(tuple(size or 0 for size in sizes), _ITEM_BYTES[dtype]))
    return shapes[:inputs], shapes[inputs:]


def _number(data: Sequence[int | None], at: int, size: int) -> int | None:
    value = 0
    for i in range(size):
        byte = data[at + i] if at + i < len(data) else None
        if byte is None:
            return None
        value |= byte << (8 * i)
    return value


def kernel_flops(name: str, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> float:
    """Products count two operations an element, transforms 5 N log2 N (as FFTW counts); all else the bytes it
    touches.
    """
    touched = bytes_as_flops(sum(one.size_bytes for one in (*inputs, *outputs)))
    out = max((one.elements for one in outputs), default=0)
    if "matmul" in name and inputs and inputs[0].sizes:
        return 2.0 * out * inputs[0].sizes[-1] + touched
    if "conv" in name and len(inputs) > 1:
        return 2.0 * out * math.prod(inputs[1].sizes[1:]) + touched
    if "fft" in name:
        return 5.0 * out * math.log2(max(out, 2)) + touched
    return touched
