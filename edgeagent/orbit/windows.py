"""When pairs are in contact: coarse sampling, halving of what is undecided, bisection of the edges.

Why nothing of a second or more is missed. A margin m with |m'| <= L on an interval of length h cannot exceed
``(m(left) + m(right) + L h) / 2`` inside it, nor fall below ``(m(left) + m(right) - L h) / 2`` (the tips of the two
lines of slope L through its ends). So:

1. The first intervals are those of the grid, 60 s.
2. An interval where one margin's upper bound is below 0 holds no contact; one where all margins' lower bounds are
   above 0 holds no gap. Both are settled, whatever happens inside.
3. Every other interval is halved, down to 60/64 s. Contact or gap that began and ended between two neighbouring samples
   lasted less than that: every contact and every gap of at least 0.94 s (``RESOLUTION_S``) is found.
4. Where the two ends of a last interval differ, the edge is bisected to ``EDGE_S``.

What remains of error in an edge: the ephemeris' interpolation (2 m) and the model itself.

Where a node has no position at one end of a grid interval, there is no contact in that interval; windows end and
begin at the grid points next to it. So does a window that reaches over the span: it is cut there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeagent.orbit.ephemeris import GRID_S, Ephemeris
from edgeagent.orbit.margins import ACCELERATION_KM_S2, Margins, Sample

__all__ = ["EDGE_S", "RESOLUTION_S", "Spans", "find_windows"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

_HALVINGS = 6
RESOLUTION_S = GRID_S / 2**_HALVINGS
EDGE_S = 1e-4
_BISECTIONS = 14  # RESOLUTION_S / 2**14 < EDGE_S
_SAMPLES_MAX = 100_000  # at once: bounds memory to some 100 MB


@dataclass(frozen=True)
class Spans:
    """Windows: pair ``pair[w]`` is in contact from ``start_s[w]`` to ``end_s[w]``, UTC; by pair, then by time."""

    pair: Rows
    start_s: Floats
    end_s: Floats


@dataclass(frozen=True)
class _Intervals:
    """Intervals whose content is not known yet: pair, left end and length in seconds, what was sampled at both ends."""

    pair: Rows
    left_s: Floats
    length_s: float
    at_left: Sample
    at_right: Sample

    def undecided(self, gain: Floats) -> NDArray[np.bool_]:
        reach = self.length_s * (
            np.maximum(self.at_left.rate, self.at_right.rate)
            + gain * (ACCELERATION_KM_S2 * self.length_s / 2)
        )
        out = (self.at_left.maybe + self.at_right.maybe + reach < 0.0).any(axis=1)
        inside = (self.at_left.sure + self.at_right.sure - reach > 0.0).all(axis=1)
        # Ends that differ are never settled, so that begins and ends alternate whatever the bounds are worth.
        changes = (self.at_left.value >= 0.0) != (self.at_right.value >= 0.0)
        return np.asarray(changes | ~(out | inside))

    def take(self, which: NDArray[np.bool_] | slice) -> _Intervals:
        left, right = _pick(self.at_left, which), _pick(self.at_right, which)
        return _Intervals(self.pair[which], self.left_s[which], self.length_s, left, right)

    def halves(self, margins: Margins, ephemeris: Ephemeris) -> _Intervals:
        half = self.length_s / 2
        middle_s = self.left_s + half
        middle = _sampled(margins, ephemeris, self.pair, middle_s)
        return _Intervals(
            np.concatenate([self.pair, self.pair]),
            np.concatenate([self.left_s, middle_s]),
            half,
            _joined([self.at_left, middle]),
            _joined([middle, self.at_right]),
        )


def _pick(sample: Sample, which: NDArray[np.bool_] | Rows | slice) -> Sample:
    return Sample(sample.value[which], sample.sure[which], sample.maybe[which], sample.rate[which])


def _joined(parts: list[Sample]) -> Sample:
    return Sample(
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.sure for part in parts]),
        np.concatenate([part.maybe for part in parts]),
        np.concatenate([part.rate for part in parts]),
    )


def _sampled(margins: Margins, ephemeris: Ephemeris, pairs: Rows, seconds: Floats) -> Sample:
    """A sample of any size, made in bounded pieces."""
    if len(pairs) <= _SAMPLES_MAX:
        return margins.sample(ephemeris, pairs, seconds)
    cuts = range(0, len(pairs), _SAMPLES_MAX)
    return _joined(
        [
            margins.sample(ephemeris, pairs[cut : cut + _SAMPLES_MAX], seconds[cut : cut + _SAMPLES_MAX])
            for cut in cuts
        ]
    )


def _edges(margins: Margins, ephemeris: Ephemeris, intervals: _Intervals) -> tuple[Rows, Floats]:
    """(pair, time) of the change between the two ends of each of the finest intervals that has one."""
    before = intervals.at_left.value >= 0.0
    changes = before != (intervals.at_right.value >= 0.0)
    pair, before = intervals.pair[changes], before[changes]
    low = intervals.left_s[changes]
    high = low + intervals.length_s
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        still = (_sampled(margins, ephemeris, pair, middle).value >= 0.0) == before
        low, high = np.where(still, middle, low), np.where(still, high, middle)
    return pair, high


def _find(margins: Margins, ephemeris: Ephemeris, first: int, last: int) -> tuple[Rows, Floats]:
    """(pair, seconds) of every toggle of the pairs ``first`` to ``last - 1``: each two of a pair enclose a contact."""
    points = ephemeris.count
    pairs = np.repeat(np.arange(first, last), points)
    seconds = np.tile(GRID_S * np.arange(points), last - first)
    coarse = _sampled(margins, ephemeris, pairs, seconds)
    a, b = margins.nodes()
    good = ephemeris.good[a[first:last]] & ephemeris.good[b[first:last]]
    valid = good[:, :-1] & good[:, 1:]
    # A contact that touches the end of the span, or of where positions are known, is cut there.
    beside = np.pad(valid, ((0, 0), (1, 1)))
    cut = ((beside[:, :-1] != beside[:, 1:]).ravel()) & (coarse.value >= 0.0)
    lefts = np.flatnonzero(np.pad(valid, ((0, 0), (0, 1))).ravel())
    todo = _Intervals(pairs[lefts], seconds[lefts], GRID_S, _pick(coarse, lefts), _pick(coarse, lefts + 1))
    found = _refined(margins, ephemeris, todo.take(todo.undecided(margins.gain)))
    found.append((pairs[cut], seconds[cut]))
    return np.concatenate([pair for pair, _ in found]), np.concatenate([moment for _, moment in found])


def _refined(margins: Margins, ephemeris: Ephemeris, todo: _Intervals) -> list[tuple[Rows, Floats]]:
    """The edges in undecided grid intervals; depth first, so that memory is bounded even where nothing gets settled."""
    edges = []
    stack = [(todo, _HALVINGS)]
    while stack:
        part, halvings = stack.pop()
        count = len(part.pair)
        if count > _SAMPLES_MAX:
            stack += [
                (part.take(slice(count // 2)), halvings),
                (part.take(slice(count // 2, None)), halvings),
            ]
        elif count and not halvings:
            edges.append(_edges(margins, ephemeris, part))
        elif count:
            halves = part.halves(margins, ephemeris)
            stack.append((halves.take(halves.undecided(margins.gain)), halvings - 1))
    return edges


def find_windows(margins: Margins, ephemeris: Ephemeris) -> Spans:
    """All contacts of the pairs within the ephemeris' span."""
    none = np.empty(0, np.intp), np.empty(0)
    found = [none]
    if ephemeris.count > 1:
        batch = max(1, _SAMPLES_MAX // ephemeris.count)
        found += [
            _find(margins, ephemeris, first, min(first + batch, len(margins)))
            for first in range(0, len(margins), batch)
        ]
    pair = np.concatenate([part for part, _ in found])
    moment = np.concatenate([part for _, part in found])
    order = np.lexsort((moment, pair))
    pair, moment = pair[order], moment[order]
    begin, end = moment[0::2], moment[1::2]
    longer = end > begin
    return Spans(pair[0::2][longer], ephemeris.start_s + begin[longer], ephemeris.start_s + end[longer])
