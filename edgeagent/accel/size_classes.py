"""Inputs told apart by size, and what a class may expect from its neighbours.

One class for each power of four, as everywhere in the platform. Time grows with size on both backends, so the logarithm
of their ratio is near a line over the classes; where it crosses 0 is the crossover. A class without evidence of its own
takes its prior from the line through its two nearest neighbours, the less sure the further they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

__all__ = ["neighbours_prior", "size_class"]

_LEVEL_ERROR = 1.5  # of the log ratio where nothing is known
# Of a step: a GPU gains with size, as what it costs to ask it does not grow.
_SLOPE, _SLOPE_ERROR = -0.25, 0.6
_STEP_ERROR = 0.35  # how far a class lies off the line, before anything was seen
_STEP_TRUST = 2.0  # classes that this is worth


def size_class(size: float) -> int:
    """0 for nothing, then 1 for 1 to 3, 2 for 4 to 15 and so on by powers of four."""
    return (int(min(max(size, 0.0), 2.0**62)).bit_length() + 1) // 2


def _step_error(seen: Sequence[tuple[int, float, float]]) -> float:
    """How far a class lies off the line through its neighbours, but for noise, as seen so far."""
    squares = _STEP_TRUST * _STEP_ERROR**2
    for left, middle, right in zip(seen, seen[1:], seen[2:], strict=False):
        share = (middle[0] - left[0]) / (right[0] - left[0])
        line = left[1] * (1.0 - share) + right[1] * share
        noise2 = middle[2] + left[2] * (1.0 - share) ** 2 + right[2] * share**2
        squares += max((middle[1] - line) ** 2 - noise2, 0.0)
    return math.sqrt(squares / (_STEP_TRUST + max(len(seen) - 2, 0)))


def neighbours_prior(which: int, known: Mapping[int, tuple[float, float]]) -> tuple[float, float] | None:
    """(log ratio, its error) of class ``which`` by the (log ratio, variance) of others; None where there are none.

    A line through all of them, each the less trusted the further it is (ridge regression; random effects by class).
    """
    seen = sorted((one, ratio, variance) for one, (ratio, variance) in known.items() if one != which)
    if not seen:
        return None
    step2 = _step_error(seen) ** 2
    level, slope, across = _LEVEL_ERROR**-2, _SLOPE_ERROR**-2, 0.0
    up = down = 0.0
    for one, ratio, variance in seen:
        away = one - which
        weight = 1.0 / (variance + step2 * away * away)
        level += weight
        across += weight * away
        slope += weight * away * away
        up += weight * (ratio - _SLOPE * away)
        down += weight * (ratio - _SLOPE * away) * away
    determinant = level * slope - across * across
    return (slope * up - across * down) / determinant, math.sqrt(slope / determinant + step2)
