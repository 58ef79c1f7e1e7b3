"""Inputs told apart by size, and what a class may expect from its neighbours.

One class for each power of four, as everywhere in the platform. Time grows with size on both backends, so the logarithm
of their ratio is near a line over the classes; where it crosses 0 is the crossover. A class without evidence of its own
takes its prior from the line through its two nearest neighbours, the less sure the further they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from edgeagent.accel.evidence import Estimate

__all__ = ["neighbours_prior", "size_class"]

_STEP_ERROR = 0.35  # before anything was seen
_STEP_TRUST = 2.0  # classes that this is worth
_SLOPE_ERROR = 0.7  # of a step, where only one class is known
_SLOPE_MAX = 1.6  # log 4 is a ratio that grows like the size itself


def size_class(size: float) -> int:
    """0 for nothing, then 1 for 1 to 3, 2 for 4 to 15 and so on by powers of four."""
    return (int(min(max(size, 0.0), 2.0**62)).bit_length() + 1) // 2


def _step_error(known: Mapping[int, Estimate]) -> float:
    """How far a class lies off the line through its neighbours, as seen so far."""
    seen = sorted(one for one in known if known[one].count)
    squares = _STEP_TRUST * _STEP_ERROR**2
    for left, middle, right in zip(seen, seen[1:], seen[2:], strict=False):
        share = (middle - left) / (right - left)
        line = known[left].log_ratio * (1.0 - share) + known[right].log_ratio * share
        squares += (known[middle].log_ratio - line) ** 2
    return math.sqrt(squares / (_STEP_TRUST + max(len(seen) - 2, 0)))


def neighbours_prior(which: int, known: Mapping[int, Estimate]) -> tuple[float, float] | None:
    """(log ratio, its error) for class ``which``; None where no class has evidence."""
    near = sorted(
        (one for one in known if one != which and known[one].count), key=lambda one: abs(one - which)
    )
    if not near:
        return None
    first = known[near[0]]
    distance = abs(near[0] - which)
    step = _step_error(known)
    if len(near) < 2:
        return first.log_ratio, math.hypot(first.error, step * distance, _SLOPE_ERROR * distance)
    second, apart = known[near[1]], near[1] - near[0]
    slope = (second.log_ratio - first.log_ratio) / apart
    slope = min(max(slope, -_SLOPE_MAX), _SLOPE_MAX)
    share = (which - near[0]) / apart  # of the way to the second
    error = math.hypot((1.0 - share) * first.error, share * second.error, step * distance)
    return first.log_ratio + slope * (which - near[0]), error
