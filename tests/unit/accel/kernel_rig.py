"""Calls of kernels on arrays that lie somewhere in a guest's memory, with whatever strides."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeagent.accel.descriptors import Description, Operand
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.execute import CallLimits, prepare, run_on_cpu
from edgeagent.accel.registry import shipped
from edgeagent.accel.tolerances import agree, tolerance
from edgeagent.accel.views import view, whole
from tests.guest_frames import pack_call

__all__ = ["MEMORY_BYTES", "REGISTRY", "assert_close", "call", "dtype_of", "place"]

MEMORY_BYTES = 1 << 20
REGISTRY = shipped()
_FILL = 0xA5


def dtype_of(array: Any) -> Dtype:
    return next(dtype for dtype in Dtype if dtype.array_name == str(array.dtype))


def place(at: int, dtype: Dtype, shape: Sequence[int], rng: random.Random) -> Operand:
    """An array at or behind ``at``: its indices in any order, some of them backwards, with gaps."""
    order = list(range(len(shape)))
    if rng.random() < 0.7:
        rng.shuffle(order)
    strides, step, low = [0] * len(shape), dtype.item_bytes, 0
    for i in reversed(order):
        step += dtype.item_bytes * rng.choice((0, 0, 0, 1, 3))
        strides[i] = step if rng.random() < 0.8 else -step
        low += min(0, strides[i] * (shape[i] - 1))
        step *= shape[i]
    at += -at % 16 + 16 * rng.randrange(3)
    return Operand(at - low, dtype, tuple(shape), tuple(strides))


def call(
    name: str,
    inputs: Sequence[Any],
    outputs: Sequence[tuple[str, Sequence[int]]],
    numbers: Sequence[float] = (),
    text: str = "",
    seed: int = 0,
) -> list[Any]:
    """The outputs of a kernel; nothing beside them was written."""
    rng, memory, at = random.Random(seed), bytearray([_FILL]) * MEMORY_BYTES, 0
    wanted = [(dtype_of(one), one.shape) for one in map(np.asarray, inputs)]
    wanted += [(dtype_of(np.empty(0, dtype)), tuple(shape)) for dtype, shape in outputs]
    operands = []
    for dtype, shape in wanted:
        operands.append(place(at, dtype, shape, rng))
        at = operands[-1].range[1]
    data = memoryview(memory)
    given, made = operands[: len(inputs)], operands[len(inputs) :]
    for operand, array in zip(given, inputs, strict=True):
        view(whole(data), operand, writable=True)[...] = array
    before = bytes(memory)
    described = pack_call(Description(tuple(given), tuple(made), tuple(numbers), text))
    prepared = prepare(REGISTRY, name, described, MEMORY_BYTES, CallLimits())
    run_on_cpu(prepared, data)
    results = []
    for operand in made:
        array = view(whole(data), operand, writable=True)
        results.append(array.copy())
        array[...] = np.frombuffer(bytes([_FILL]) * operand.dtype.item_bytes, operand.dtype.array_name)[0]
    del array
    assert bytes(memory) == before
    return results


def assert_close(name: str, got: Any, wanted: Any, terms: int = 1, scale: float = 0.0) -> None:
    allowed = tolerance(REGISTRY.get(name), dtype_of(got), terms)
    wanted = np.asarray(wanted).astype(got.dtype).reshape(got.shape)
    assert agree(np, got, wanted, allowed, scale), (name, got, wanted)
