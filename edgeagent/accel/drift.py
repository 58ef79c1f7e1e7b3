"""Whether the newest times are of another kind than those before: means over spans of doubling length.

The last 3, 6, 12, 24 and 48 logarithms are compared with those before them. A span differs when its mean is further
from theirs than ``_DEVIATIONS`` standard errors and than a floor: short spans see only large changes, and all three of
the shortest must agree. What lies far off counts as ``_REACH`` deviations off: outliers do not move a mean much then.
The spread is the median absolute deviation, which outliers do not move, or half the standard deviation, which knows of
a second mode.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

__all__ = ["shifted"]

_SPANS = ((3, 0.6), (6, 0.3), (12, 0.15), (24, 0.12), (48, 0.1))  # length, least change of the logarithm
_BEFORE_MIN = 5
_DEVIATIONS = 4.0
_REACH = 2.5
_SPREAD_MIN = 0.02
_PAIRS_SPREAD_MIN = 0.2
_SHORTEST = 3
_OUTLIERS = 0.5
_PRICE = 1.1  # error of a mean of which outliers are pulled in, over that of a mean


def shifted(logs: Sequence[float], *, pairs: bool = False) -> int:
    """How many of the newest are of another kind; 0: none. ``pairs``: these are few and of logarithms of ratios."""
    before_min, spread_min = (2, _PAIRS_SPREAD_MIN) if pairs else (_BEFORE_MIN, _SPREAD_MIN)
    for span, least in _SPANS:
        before = logs[:-span]
        if len(before) < max(before_min, span // 2):
            return 0
        middle = statistics.median(before)
        off = [one - middle for one in before]
        spread = max(
            1.4826 * statistics.median(map(abs, off)),
            _OUTLIERS * math.sqrt(sum([one * one for one in off]) / len(off)),
            spread_min,
        )
        reach = _REACH * spread
        usual = sum(_pulled_in(off, reach)) / len(off)
        error = _PRICE * spread * math.sqrt(1.0 / span + 1.0 / len(before))
        newest = [one - middle - usual for one in logs[-span:]]
        if span == _SHORTEST and not pairs:
            shift = min(newest, key=abs)
        else:
            centre = statistics.median(newest)
            shift = centre + sum(_pulled_in([one - centre for one in newest], reach)) / span
        if abs(shift) > max(least, _DEVIATIONS * error) and (span > _SHORTEST or _one_sided(newest)):
            return span
    return 0


def _pulled_in(off: Sequence[float], reach: float) -> list[float]:
    return [one if -reach <= one <= reach else math.copysign(reach, one) for one in off]


def _one_sided(newest: Sequence[float]) -> bool:
    return min(newest) > 0.0 or max(newest) < 0.0
