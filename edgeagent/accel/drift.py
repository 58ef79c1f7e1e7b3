"""Whether the newest times are of another kind than those before: a likelihood ratio over spans of growing length.

The last 2, 3, 4 and so on up to 48 logarithms are compared with those before them. What speaks for a change is the
logarithm of how much likelier these are around a mean of their own (a generalised likelihood ratio, Lorden 1971; normal
around the median, of the spread of those before). No single time says more than how rare its like was before: so
outliers count for what they are where these are usual, whatever the distribution. The spread is the median absolute
deviation, which outliers do not move, or half the standard deviation, which knows of a second mode. The ranks alone
must speak for a change too, though less: they know of no spread, and so of none that is wrong.

Simulated, looked at every fourth request: log-normal times (deviation 0.1 and 0.3) give one false alarm in 2,500 to
4,000 requests, times of which every tenth is eight times as long one in 300. A change by two deviations is seen after 5
or 6 requests, one by four after 2 or 3.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["shifted"]

_SPANS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
_BEFORE_MIN = 5  # times before; of a longer span half as many as it has
_CHANGED = 8.0  # of the log likelihood ratio
_LEAST = 0.1  # change of the logarithm that matters
_REACH = 2.5  # spreads from the middle beyond which a time moves the mean no further
_SPREAD_MIN = 0.02
_SPREAD_DOUBT = 2.0  # times: by how much the spread of few is taken to be larger, over how many these are
_OUTLIERS = 0.5  # of the standard deviation: the spread is this at least
_RANKS = 3.0  # of the log likelihood ratio of the ranks, beside that


def shifted(logs: Sequence[float]) -> int:
    """How many of the newest are of another kind; 0: none."""
    best, found = _CHANGED, 0
    for span in _SPANS:
        before = logs[:-span]
        if len(before) < max(_BEFORE_MIN, span // 2):
            break
        ratio = _log_ratio(before, logs[-span:])
        if ratio > best and _by_ranks(before, logs[-span:]) > _RANKS:
            best, found = ratio, span
    return found


def _log_ratio(before: Sequence[float], newest: Sequence[float]) -> float:
    """Of the likelihoods of ``newest`` around a mean of their own and around that of ``before``."""
    count, span = len(before), len(newest)
    middle = statistics.median(before)
    off = [one - middle for one in before]
    absolute = list(map(abs, off))
    spread = max(
        1.4826 * statistics.median(absolute),
        _OUTLIERS * math.sqrt(sum([one * one for one in off]) / count),
        _SPREAD_MIN,
    )
    spread *= 1.0 + _SPREAD_DOUBT / count
    reach = _REACH * spread
    usual = sum(_pulled_in(off, reach)) / count
    centre = statistics.median(newest) - middle
    shift = centre + sum(_pulled_in([one - middle - centre for one in newest], reach)) / span - usual
    if abs(shift) < _LEAST:
        return 0.0
    sign, times = math.copysign(1.0, shift), abs(shift) / spread
    sorted_off = sorted([sign * (one - usual) for one in off])
    total = 0.0
    for one in newest:
        away = sign * (one - middle - usual)
        says = times * (away / spread - 0.5 * times)
        if says > 0.0:
            as_far = count - bisect_left(sorted_off, away)
            says = min(says, -math.log((as_far + 0.5) / (count + 1.0)))
        total += says
    return total * count / (count + span)


def _by_ranks(before: Sequence[float], newest: Sequence[float]) -> float:
    """Of the likelihoods that the ranks of ``newest`` among ``before`` gather at one end, and that they are anywhere.

    A share p of those before is as far or further; among equals p is uniform, else it has the density a * p ** (a - 1)
    (Lehmann's alternatives), whose a is taken as it is likeliest.
    """
    count, span, best = len(before), len(newest), 0.0
    for sign in (1.0, -1.0):
        ordered = sorted([sign * one for one in before])
        far = [count - bisect_left(ordered, sign * one) for one in newest]
        says = -sum([math.log((each + 0.5) / (count + 1.0)) for each in far])
        if says > span:
            best = max(best, span * math.log(span / says) + says - span)
    return best


def _pulled_in(off: Sequence[float], reach: float) -> list[float]:
    return [one if -reach <= one <= reach else math.copysign(reach, one) for one in off]
