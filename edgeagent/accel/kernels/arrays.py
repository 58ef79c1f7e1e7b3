"""What kernels share: working types, blocks of a shape, and results stored as an output's type. Pure.

``xp`` is numpy or what has its functions. A kernel works in a float type that holds its inputs well, and rounds once,
at the end: integers to the nearest, halves to even, what is beyond the range to its end, NaN to 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgeagent.accel.dtypes import Dtype

__all__ = [
    "BLOCK_ELEMENTS",
    "DEVICE_BLOCK_ELEMENTS",
    "block_elements",
    "blocks",
    "store",
    "summed",
    "working",
    "working_of",
]

# A block and a handful of temporaries of it fit a core's second-level cache.
BLOCK_ELEMENTS = 1 << 16
DEVICE_BLOCK_ELEMENTS = 1 << 22
_TERMS = 256  # that are summed one after the other
_NARROW = frozenset({Dtype.U8, Dtype.I8, Dtype.U16, Dtype.I16, Dtype.F16, Dtype.F32})


def block_elements(xp: Any) -> int:
    """How much to work on at once: caches are what counts on a CPU, launches on a device."""
    return BLOCK_ELEMENTS if xp.__name__ == "numpy" else DEVICE_BLOCK_ELEMENTS


def working(*dtypes: Dtype) -> Dtype:
    """The real type that work on these is done in: F32 where it holds all their values, else F64."""
    return Dtype.F32 if all(dtype in _NARROW for dtype in dtypes) else Dtype.F64


def working_of(dtype: Dtype) -> Dtype:
    """Of a kernel that keeps its input's float type: F16 is worked on as F32."""
    return Dtype.F32 if dtype is Dtype.F16 else dtype


def blocks(shape: tuple[int, ...], elements_max: int) -> Iterator[tuple[Any, ...]]:
    """Indices that cut an array of this shape into parts of up to ``elements_max`` elements, in order.

    What they give is a view also where the array has rank 0.
    """
    inner = 1
    for axis in range(len(shape) - 1, -1, -1):
        if inner * shape[axis] > elements_max:
            break
        inner *= shape[axis]
    else:
        yield (...,)
        return
    step = max(1, elements_max // inner)
    yield from _cut(shape, axis, step, ())


def _cut(shape: tuple[int, ...], axis: int, step: int, front: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    at = len(front)
    if at == axis:
        for start in range(0, shape[axis], step):
            yield (*front, slice(start, min(start + step, shape[axis])))
        return
    for index in range(shape[at]):
        yield from _cut(shape, axis, step, (*front, slice(index, index + 1)))


def store(xp: Any, out: Any, value: Any, dtype: Dtype) -> None:
    """``value``, of real floats, into ``out`` of this type."""
    name = dtype.array_name
    if not name.startswith(("int", "uint")):
        out[...] = value  # rounded to the output's type as it is written
        return
    info = xp.iinfo(name)
    rounded = xp.nan_to_num(xp.rint(value), nan=0.0, posinf=float("inf"), neginf=float("-inf"))
    low = rounded <= float(info.min)
    high = rounded >= float(info.max)  # of wide types this is one more than the largest
    inside = xp.where(low | high, 0.0, rounded).astype(name)
    out[...] = xp.where(
        low, xp.asarray(info.min, dtype=name), xp.where(high, xp.asarray(info.max, dtype=name), inside)
    )


def summed(xp: Any, array: Any, axis: int, dtype: str) -> Any:
    """The sum along one index, which has 1 there then; ``axis`` counts from the front.

    Of 256 at a time, then of these sums: numpy adds one after the other along all indices but the last, and a float to
    which so much has been added takes nothing more.
    """
    size = array.shape[axis]
    if size <= 2 * _TERMS:
        return xp.sum(array, axis=axis, keepdims=True, dtype=dtype)
    front, most = (slice(None),) * axis, size - size % _TERMS
    parts = array[(*front, slice(0, most))]
    parts = parts.reshape(*array.shape[:axis], most // _TERMS, _TERMS, *array.shape[axis + 1 :])
    parts = xp.sum(parts, axis=axis + 1, dtype=dtype)
    if most < size:
        rest = xp.sum(array[(*front, slice(most, None))], axis=axis, keepdims=True, dtype=dtype)
        parts = xp.concatenate([parts, rest], axis=axis)
    return summed(xp, parts, axis, dtype)
