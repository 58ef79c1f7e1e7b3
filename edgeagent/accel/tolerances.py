"""How far two backends' answers may be apart. Pure.

Errors are measured against the largest magnitude that went into an element, not against the element: a sum that
cancels is no more exact than what was summed. Where the caller has no such ``scale``, it is the largest magnitude of
the answer.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.kernels.kernel import Kernel

__all__ = ["Tolerance", "agree", "tolerance"]

# Units in the last place, times the root of how many terms a sum has; F16 is summed as F32 and rounded once.
_EPSILON = {
    Dtype.F16: 2.0**-10,
    Dtype.F32: 2.0**-23,
    Dtype.C64: 2.0**-23,
    Dtype.F64: 2.0**-52,
    Dtype.C128: 2.0**-52,
}
_UNITS = 8.0


class Tolerance(NamedTuple):
    relative: float  # of the scale
    steps: int = 0  # of integers: how many apart


def tolerance(kernel: Kernel, dtype: Dtype, terms: int = 1) -> Tolerance:
    """For an output of this type of which each element is made of ``terms`` others."""
    if not kernel.tolerance:
        return Tolerance(0.0)
    if dtype not in _EPSILON:
        return Tolerance(0.0, 1)  # rounded from floats, and two of them may lie on both sides of a half
    return Tolerance(_UNITS * kernel.tolerance * _EPSILON[dtype] * math.sqrt(max(terms, 1)))


def agree(xp: Any, got: Any, wanted: Any, allowed: Tolerance, scale: float = 0.0) -> bool:
    """Whether two arrays of one shape and type agree. Infinities and NaN are like themselves."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return False
    if allowed == Tolerance(0.0):
        return bool(xp.all((got == wanted) | ((got != got) & (wanted != wanted))))  # noqa: PLR0124 - NaN alone
    if allowed.steps:
        apart = xp.where(got > wanted, got - wanted, wanted - got)  # unsigned numbers do not go below 0
        return bool(xp.all(apart <= allowed.steps))
    wide = "complex128" if "complex" in str(got.dtype) else "float64"
    left, right = got.astype(wide), wanted.astype(wide)
    finite = xp.isfinite(left) & xp.isfinite(right)
    same = (left == right) | (xp.isnan(left) & xp.isnan(right))
    left, right = xp.where(finite, left, 0), xp.where(finite, right, 0)
    limit = allowed.relative * max(scale, float(xp.max(xp.abs(right))))
    return bool(xp.all(xp.where(finite, xp.abs(left - right) <= limit, same)))
