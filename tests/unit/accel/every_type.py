"""Calls of every shipped kernel in every type that it takes: for whatever runs them elsewhere.

CuPy and numpy differ by type where they differ at all: in which loops there are, and in what a type becomes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgeagent.accel.dtypes import COMPLEX, FLOATS, INTEGERS, REALS, SIGNED, Dtype
from edgeagent.accel.kernels.arrays import working, working_of
from edgeagent.accel.kernels.expression import FUNCTIONS
from tests.unit.accel.every_kernel import KernelCase, kernel_case

__all__ = ["typed_cases"]

_F32, _I64, _U8 = Dtype.F32, Dtype.I64, Dtype.U8


def typed_cases() -> list[KernelCase]:
    rooms = (_products, _transforms, _pointwise, _functions, _reductions, _lines, _pictures)
    return [case for room in rooms for case in room(np.random.default_rng(17))]


def _some(rng: Any, dtype: Dtype, *shape: int) -> Any:
    """Small whole numbers and, of floats, quarters of such: exact in every type."""
    low = 0 if dtype in INTEGERS - SIGNED else -9
    whole = rng.integers(low, 10, shape)
    if dtype in COMPLEX:
        return (whole + 1j * rng.integers(low, 10, shape)).astype(dtype.array_name)
    return (whole / 4 if dtype in FLOATS else whole).astype(dtype.array_name)


def _products(rng: Any) -> Iterator[KernelCase]:
    for dtype in sorted(FLOATS | COMPLEX | {Dtype.I32, _I64}):
        a, b = _some(rng, dtype, 7, 9), _some(rng, dtype, 9, 5)
        yield kernel_case("matmul", [a, b], [(dtype, (7, 5))], terms=9)
        a, b = _some(rng, dtype, 2, 1, 4, 6), _some(rng, dtype, 1, 3, 6, 5)
        yield kernel_case("batched_matmul", [a, b], [(dtype, (2, 3, 4, 5))], terms=6)
    for dtype in sorted(FLOATS):
        image, weights = _some(rng, dtype, 2, 4, 9, 8), _some(rng, dtype, 6, 2, 3, 2)
        numbers = (2, 1, 1, 0, 1, 2, 2)
        out = [(dtype, (2, 6, 5, 6))]
        yield kernel_case("conv2d", [image, weights, _some(rng, dtype, 6)], out, numbers, terms=12)


def _transforms(rng: Any) -> Iterator[KernelCase]:
    for dtype in sorted(REALS | COMPLEX):
        out = dtype if dtype in COMPLEX else Dtype.C64 if working(dtype) is _F32 else Dtype.C128
        for inverse in (0, 1):
            given = [_some(rng, dtype, 2, 6, 10)]
            yield kernel_case("fft2", given, [(out, (2, 6, 10))], (inverse,), terms=60)


def _pointwise(rng: Any) -> Iterator[KernelCase]:
    for dtype in sorted(REALS):
        a, b = _some(rng, dtype, 6, 11), _some(rng, dtype, 6, 11)
        yield kernel_case("elementwise", [a], [(_F32, (6, 11))], (), "a / 2 + 1")
        yield kernel_case("elementwise", [a[0].astype("float32")], [(dtype, (6, 11))], (), "a * 300 - 7")
        odd = np.array([np.nan, np.inf, -np.inf, 0.5, -0.5, 1e30], "float32")
        yield kernel_case("elementwise", [odd], [(dtype, (6,))], (), "a")
        for out in sorted(FLOATS):
            yield kernel_case("normalized_difference", [a, b], [(out, (6, 11))], (7,))
        for comparison in range(4):
            yield kernel_case("threshold", [a], [(_U8, (6, 11))], (1.25, comparison, 9, 3))


def _functions(rng: Any) -> Iterator[KernelCase]:
    """Of the expression language: all of it, where it is defined."""
    for dtype in (_F32, Dtype.F64):
        a = (0.1 + 0.8 * rng.random((5, 6))).astype(dtype.array_name)
        b, c = (rng.standard_normal((5, 6)).astype(dtype.array_name) for _ in range(2))
        for name, (count, _) in FUNCTIONS.items():
            text = f"{name}({', '.join('abc'[:count])})"
            yield kernel_case("elementwise", [a, b, c], [(dtype, (5, 6))], (), text)
        text = "(-a ** 2 % 3 <= b) + !c * pi - (a > b & b >= c | a < c) / (1 + (a == b) + (b != c))"
        yield kernel_case("elementwise", [a, b, c], [(dtype, (5, 6))], (), text)


def _reductions(rng: Any) -> Iterator[KernelCase]:
    for axes, shape in ((0, ()), (2, (4, 6)), (5, (5,))):
        for dtype in sorted(REALS | COMPLEX):
            given = [_some(rng, dtype, 4, 5, 6)]
            for name, out in _results(dtype).items():
                if name.startswith("arg") and axes == 5:
                    continue
                yield kernel_case(name, given, [(out, shape)], (axes,), terms=120)

    for dtype in sorted(FLOATS):
        for name in ("min", "max", "argmin", "argmax"):
            for given in (_odd(dtype), _odd(dtype)[2:6]):
                out = _I64 if name.startswith("arg") else dtype
                yield kernel_case(name, [given], [(out, ())], (0,))


def _odd(dtype: Dtype) -> Any:
    """NaN of both signs, infinities, zeros of both signs."""
    values = [1, np.copysign(np.nan, -1), np.inf, -np.inf, 0.0, -0.0, 1, np.nan]
    return np.array(values, dtype.array_name)


def _results(dtype: Dtype) -> dict[str, Dtype]:
    """Kernel -> the type of what it gives for this one."""
    wide = working_of(dtype)
    if dtype in INTEGERS:
        wide = _I64 if dtype in SIGNED else Dtype.U64
    found = {"sum": wide, "prod": wide, "mean": dtype if dtype in FLOATS | COMPLEX else Dtype.F64}
    if dtype in REALS:
        mean = found["mean"]
        found |= {"var": mean, "min": dtype, "max": dtype, "argmin": _I64, "argmax": _I64}
    return found


def _lines(rng: Any) -> Iterator[KernelCase]:
    for dtype in sorted(FLOATS):
        for axis in (-1, 0):
            yield kernel_case("softmax", [_some(rng, dtype, 6, 9)], [(dtype, (6, 9))], (axis,), terms=9)
    for dtype in sorted(REALS):
        for largest, places in ((0, Dtype.I32), (1, _I64)):
            given = [_some(rng, dtype, 4, 9, 2)]
            outputs = [(dtype, (4, 3, 2)), (places, (4, 3, 2))]
            yield kernel_case("topk", given, outputs, (3, 1, largest))
    for dtype in sorted(FLOATS):
        odd = _odd(dtype)
        for largest in (0, 1):
            yield kernel_case("topk", [odd], [(dtype, (8,)), (_I64, (8,))], (8, -1, largest))


def _pictures(rng: Any) -> Iterator[KernelCase]:
    for dtype in sorted(REALS):
        for mode, shape in ((0, (5, 20)), (1, (5, 20)), (1, (13, 4))):
            given = [_some(rng, dtype, 2, 9, 7)]
            yield kernel_case("resize", given, [(dtype, (2, *shape))], (mode,), terms=4)
    for dtype in sorted(INTEGERS):
        for connectivity in (4, 8):
            mask = rng.integers(0, 2, (12, 15)).astype(dtype.array_name)
            outputs = [(Dtype.I32, (12, 15)), (_I64, ())]
            yield kernel_case("connected_components", [mask], outputs, (connectivity,))
    empty = [np.zeros((4, 5), "uint8")]
    yield kernel_case("connected_components", empty, [(Dtype.I32, (4, 5)), (Dtype.I32, ())], (4,))
