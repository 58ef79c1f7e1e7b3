"""Contacts of satellites without links between them: two are in contact while both are in sight of the ground network.

Windows come from real orbits (SGP4 and masks, :mod:`orbit.planner`). The stations are one network that is never apart.
The plan errs as one from elements some days old does: each satellite runs ahead of it, or late, by a time of its own.
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Iterable, Mapping, Sequence

from edgeagent.orbit.nodes import GroundNode, Satellite
from edgeagent.orbit.planner import Planner
from edgeagent.orbit.walker import walker

__all__ = ["BentPipe", "Spans", "bent_pipe", "union"]

Spans = list[tuple[float, float]]

_MASK_DEG = 10.0
_STATIONS = (  # degrees north, east
    (69.7, 18.9),
    (47.3, 11.4),
    (28.3, -16.5),
    (-25.9, 27.7),
    (-35.4, 149.0),
    (1.3, 103.8),
    (64.8, -147.7),
    (35.3, -116.9),
    (-33.1, -70.7),
    (19.0, -155.7),
)


def union(spans: Iterable[tuple[float, float]]) -> Spans:
    """The spans as one sorted list without overlaps."""
    found: Spans = []
    for start_s, end_s in sorted(spans):
        if found and start_s <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end_s))
        else:
            found.append((start_s, end_s))
    return found


class BentPipe:
    """A :class:`gossip.occlusion.Contacts`. ``spans``: when each satellite is in sight of some station, UTC seconds,
    sorted and apart; whoever is not in it is always there. ``ahead_s``: by how much each one is early in truth.
    """

    def __init__(self, spans: Mapping[str, Spans], ahead_s: Mapping[str, float] | None = None) -> None:
        self._starts = {name: [start_s for start_s, _ in found] for name, found in spans.items()}
        self._ends = {name: [end_s for _, end_s in found] for name, found in spans.items()}
        self._ahead_s = ahead_s or {}

    def reachable(self, a: str, b: str, at_s: float) -> bool:
        """By plan."""
        return a == b or (self.in_sight(a, at_s) and self.in_sight(b, at_s))

    def returns_at_s(self, a: str, b: str, at_s: float) -> float | None:
        while not self.reachable(a, b, at_s):
            later_s = max(self._next_s(a, at_s), self._next_s(b, at_s))
            if math.isinf(later_s):
                return None
            at_s = later_s
        return at_s

    def truly_visible(self, a: str, b: str, at_s: float) -> bool:
        """In truth."""
        ahead_s = self._ahead_s
        return self.in_sight(a, at_s + ahead_s.get(a, 0.0)) and self.in_sight(b, at_s + ahead_s.get(b, 0.0))

    def in_sight(self, name: str, at_s: float) -> bool:
        """Whether some station sees this one, by plan."""
        starts = self._starts.get(name)
        if starts is None:
            return True
        place = bisect.bisect_right(starts, at_s) - 1
        return place >= 0 and at_s < self._ends[name][place]

    def share(self, name: str, start_s: float, end_s: float) -> float:
        """The share of a time in which some station sees this one."""
        spans = zip(self._starts[name], self._ends[name], strict=True)
        seen_s = sum(max(0.0, min(end, end_s) - max(start, start_s)) for start, end in spans)
        return seen_s / (end_s - start_s)

    def _next_s(self, name: str, at_s: float) -> float:
        if self.in_sight(name, at_s):
            return at_s
        starts: Sequence[float] = self._starts[name]
        place = bisect.bisect_right(starts, at_s)
        return starts[place] if place < len(starts) else math.inf


def bent_pipe(
    satellites: int, start_s: float, horizon_s: float, chance: random.Random, *, error_s: float = 2.0
) -> tuple[list[str], BentPipe]:
    """(names, contacts) of a Walker shell of so many satellites, ten to a plane, at 550 km and 53 degrees, and of ten
    stations, for so long. ``error_s``: how far the plan is off at most; 2 s are 15 km along the track.
    """
    shell = walker(
        total=satellites,
        planes=satellites // 10,
        phasing=1,
        inclination_deg=53,
        altitude_km=550,
        epoch_us=int(start_s * 1e6),
    )
    flying = [Satellite(f"sat-{place:03}", elements) for place, elements in enumerate(shell)]
    ground = [
        GroundNode(id=f"ground-{place}", latitude_deg=north, longitude_deg=east, mask_deg=_MASK_DEG)
        for place, (north, east) in enumerate(_STATIONS)
    ]
    pairs = [(station.id, one.id) for one in flying for station in ground]
    plan = Planner([*ground, *flying], pairs=pairs, horizon_s=horizon_s).advance(start_s)
    spans = {
        one.id: union(
            (window.start_s, window.end_s)
            for station in ground
            for window in plan.windows_of(station.id, one.id)
        )
        for one in flying
    }
    names = [station.id for station in ground] + [one.id for one in flying]
    ahead_s = {one.id: chance.uniform(-error_s, error_s) for one in flying}
    return names, BentPipe(spans, ahead_s)
