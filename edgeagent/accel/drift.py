"""Whether the newest times are of another kind than those before: medians over three spans.

The last 3, 6 and 12 logarithms are compared with those before them. A span differs when its median is further from
theirs than ``_DEVIATIONS`` standard errors of a median and than a floor: short spans see only large changes, and all
three of the shortest must agree. The spread is the median absolute deviation, which outliers do not move, or half the
standard deviation, which knows of a second mode.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

__all__ = ["shifted"]

_SPANS = ((3, 0.6), (6, 0.3), (12, 0.15))  # length, least change of the logarithm
_BEFORE_MIN = 5
_DEVIATIONS = 4.0
_SPREAD_MIN = 0.02
_PAIRS_SPREAD_MIN = 0.2
_SHORTEST = 3
_OUTLIERS = 0.5
_MEDIAN_ERROR = 1.2533  # sqrt(pi / 2): of a median, over that of a mean


def shifted(logs: Sequence[float], *, pairs: bool = False) -> int:
    """How many of the newest are of another kind; 0: none. ``pairs``: these are few and of logarithms of ratios."""
    before_min, spread_min = (2, _PAIRS_SPREAD_MIN) if pairs else (_BEFORE_MIN, _SPREAD_MIN)
    for span, least in _SPANS:
        before = logs[:-span]
        if len(before) < before_min:
            return 0
        middle = statistics.median(before)
        off = [one - middle for one in before]
        spread = max(
            1.4826 * statistics.median(map(abs, off)),
            _OUTLIERS * math.sqrt(sum(one * one for one in off) / len(off)),
        )
        error = _MEDIAN_ERROR * max(spread, spread_min) * math.sqrt(1.0 / span + 1.0 / len(before))
        newest = [one - middle for one in logs[-span:]]
        shift = min(newest, key=abs) if span == _SHORTEST and not pairs else statistics.median(newest)
        if abs(shift) > max(least, _DEVIATIONS * error) and (span > _SHORTEST or _one_sided(newest)):
            return span
    return 0


def _one_sided(newest: Sequence[float]) -> bool:
    return min(newest) > 0.0 or max(newest) < 0.0
