"""Where recorded latencies change in kind, with hindsight: binary segmentation of both backends at once.

A stretch is cut where two means fit the logarithms better than one by more than ``_PENALTY`` log n (Gaussian cost, each
series scaled to its noise; Scott & Knott 1974, Killick & Eckley 2014 on the penalty). The noise is that of the steps
between neighbours, so that the changes that are looked for do not count as noise, and what lies 3 of its deviations
beyond the bulk is pulled in: single outliers are no drift. Size classes are levelled first, so that a change of their
mix is none either.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeagent.accel.size_classes import size_class
from edgeagent.accel.traces import Traces

__all__ = ["SEGMENT_MIN", "drift_segments"]

SEGMENT_MIN = 20
_PENALTY = 8.0
_CLIP = 3.0
_NOISE_MIN = 0.05  # of the logarithm: changes of a few percent are none


def _levelled(times: Sequence[float], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scaled logarithms with the median of each class taken off; failures stand for ten times the largest."""
    values = np.asarray(times, np.float64)
    largest = float(values.max())
    logs = np.log(np.maximum(np.where(values < 0.0, 10.0 * max(largest, 1.0), values), 1e-3))
    for which in np.unique(classes):
        mine = classes == which
        logs[mine] -= np.median(logs[mine])
    steps = np.abs(np.diff(logs))
    noise = max(float(np.median(steps)) / 0.9539, _NOISE_MIN) if steps.size else _NOISE_MIN
    return np.asarray(np.clip(logs / noise, -_reach(logs, noise), _reach(logs, noise)))


def _reach(logs: NDArray[np.float64], noise: float) -> float:
    """As far as the bulk of the values goes, and three deviations more."""
    return float(np.quantile(np.abs(logs), 0.75)) / noise + _CLIP


def _best_cut(sums: NDArray[np.float64], start: int, end: int) -> tuple[float, int]:
    """(how much better two means fit, where) for the stretch [start, end)."""
    cuts = np.arange(start + SEGMENT_MIN, end - SEGMENT_MIN + 1)
    if not cuts.size:
        return 0.0, start
    left, right = (cuts - start)[:, None], (end - cuts)[:, None]
    before, after = sums[cuts] - sums[start], sums[end] - sums[cuts]
    whole = (sums[end] - sums[start]) ** 2 / (end - start)
    gains = (before**2 / left + after**2 / right - whole).max(axis=1)
    best = int(np.argmax(gains))
    return float(gains[best]), int(cuts[best])


def drift_segments(traces: Traces) -> list[tuple[int, int]]:
    """The stretches [start, end) of one kind, in order; each has at least 20 requests where there are so many."""
    count = len(traces)
    classes = np.asarray([size_class(size) for size in traces.sizes], np.int64)
    series = np.stack([_levelled(traces.cpu_ms, classes), _levelled(traces.gpu_ms, classes)], axis=1)
    sums = np.vstack([np.zeros((1, 2)), np.cumsum(series, axis=0)])
    penalty = _PENALTY * float(np.log(max(count, 2)))
    open_ends, done = [(0, count)], []
    while open_ends:
        start, end = open_ends.pop()
        gain, cut = _best_cut(sums, start, end)
        if gain > penalty:
            open_ends += [(cut, end), (start, cut)]
        else:
            done.append((start, end))
    return sorted(done)
