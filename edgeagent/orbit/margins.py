"""By how much a pair of nodes is in contact: margins in km, at least 0 in contact, with bounds on their rates.

Each kind of pair has two margins; there is contact while both are at least 0.

- Ground and satellite: height over the mask's cone, ``q = d.u - sin(mask) |d|`` (d from station to satellite, u the
  vertical; q >= 0 exactly when the elevation is at least the mask), and what is left of the range.
- Satellite and satellite: the segment's clearance over Earth and air, and what is left of the range.

Rates. A margin is a function of the nodes' places that grows at most by a factor g times as fast as they move: g is 1
+ |sin mask| for q (the gradient of q is u - sin(mask) d/|d|), 1 for a distance and for the clearance (each point of a
segment moves at most as fast as its faster end). Speeds change by less than ``ACCELERATION_KM_S2``: gravity at the
guard radius of 6,478 km is 0.0095 km/s^2, the turning frame adds 0.0017 at 11 km/s. So over an interval of length h
the rate is bounded by ``g (max speed at its ends + a h / 2)``.

A horizon that depends on azimuth has no such bound (azimuth turns arbitrarily fast near the zenith). For it ``sure``
takes the highest mask of all directions and ``maybe`` the lowest; what lies between is looked at in full resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeagent.orbit.ephemeris import Ephemeris
from edgeagent.orbit.geodetic import EQUATOR_KM, up_of
from edgeagent.orbit.nodes import GroundNode, Node
from edgeagent.orbit.sight import AIR_KM, clearance_km

__all__ = ["ACCELERATION_KM_S2", "GroundMargins", "Margins", "Sample", "SpaceMargins"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

ACCELERATION_KM_S2 = 0.012


@dataclass(frozen=True)
class Sample:
    """Margins at M moments, km, and how fast they change at most, km/s.

    ``value`` ``(M,)`` decides; ``sure`` and ``maybe`` ``(M, 2)`` bound it from below and above.
    """

    value: Floats
    sure: Floats
    maybe: Floats
    rate: Floats


class Margins(Protocol):
    """The margins of several pairs; ``gain`` ``(2,)`` is by how much an acceleration of each node changes the rates."""

    gain: Floats

    def __len__(self) -> int: ...

    def nodes(self) -> tuple[Rows, Rows]:
        """The rows in the ephemeris of both sides of each pair."""
        ...

    def sample(self, ephemeris: Ephemeris, pairs: Rows, seconds: Floats) -> Sample: ...


def _norm(vectors: Floats) -> Floats:
    return np.asarray(np.sqrt(np.einsum("mi,mi->m", vectors, vectors)))


class GroundMargins:
    """Pairs of a station and a satellite, given as rows of ``nodes``."""

    def __init__(self, nodes: Sequence[Node], pairs: Sequence[tuple[int, int]]) -> None:
        stations = [node for station, _ in pairs if isinstance(node := nodes[station], GroundNode)]
        self._stations = np.array([station for station, _ in pairs], dtype=np.intp)
        self._satellites = np.array([satellite for _, satellite in pairs], dtype=np.intp)
        self._place = np.array([station.position_km for station in stations]).reshape(-1, 3)
        self._up = up_of([s.latitude_deg for s in stations], [s.longitude_deg for s in stations])
        self._range = np.array([station.range_km_max for station in stations])
        self._by_azimuth = {pair: station for pair, station in enumerate(stations) if station.horizon}
        masks = np.radians([station.mask_range_deg for station in stations]).reshape(-1, 2)
        self._sin_low, self._sin_high = np.sin(masks[:, 0]), np.sin(masks[:, 1])
        steepest = float(np.abs(np.sin(masks)).max(initial=0.0))
        self.gain = np.array([1.0 + steepest, 1.0])

    def __len__(self) -> int:
        return len(self._stations)

    def nodes(self) -> tuple[Rows, Rows]:
        return self._stations, self._satellites

    def sample(self, ephemeris: Ephemeris, pairs: Rows, seconds: Floats) -> Sample:
        position, velocity = ephemeris.at(self._satellites[pairs], seconds)
        away = position - self._place[pairs]
        distance, speed = _norm(away), _norm(velocity)
        height = np.einsum("mi,mi->m", away, self._up[pairs])
        left = self._range[pairs] - distance
        maybe = np.stack([height - self._sin_low[pairs] * distance, left], axis=1)
        sure = np.stack([height - self._sin_high[pairs] * distance, left], axis=1)
        over = maybe[:, 0]
        if self._by_azimuth:
            over = height - self._sin_at(pairs, position, maybe[:, 0], sure[:, 0]) * distance
        return Sample(np.minimum(over, left), sure, maybe, speed[:, np.newaxis] * self.gain)

    def _sin_at(self, pairs: Rows, position: Floats, maybe: Floats, sure: Floats) -> Floats:
        """The sine of the mask towards each satellite; looked up only where it decides."""
        sin = self._sin_low[pairs].copy()
        open_ = (maybe >= 0.0) & (sure < 0.0)
        for pair, station in self._by_azimuth.items():
            here = np.flatnonzero(open_ & (pairs == pair))
            if len(here):
                azimuth = station.look(position[here]).azimuth_deg
                sin[here] = np.sin(np.radians(station.mask_at(azimuth)))
        return sin


class SpaceMargins:
    """Pairs of satellites, given as rows of ``nodes``; both must reach, so the shorter range counts."""

    def __init__(self, nodes: Sequence[Node], pairs: Sequence[tuple[int, int]]) -> None:
        self._a = np.array([a for a, _ in pairs], dtype=np.intp)
        self._b = np.array([b for _, b in pairs], dtype=np.intp)
        self._range = np.array([min(nodes[a].range_km_max, nodes[b].range_km_max) for a, b in pairs])
        # The clearance feels the faster end, the distance both.
        self.gain = np.array([1.0, 2.0])

    def __len__(self) -> int:
        return len(self._a)

    def nodes(self) -> tuple[Rows, Rows]:
        return self._a, self._b

    def sample(self, ephemeris: Ephemeris, pairs: Rows, seconds: Floats) -> Sample:
        a, a_speed = ephemeris.at(self._a[pairs], seconds)
        b, b_speed = ephemeris.at(self._b[pairs], seconds)
        clear = clearance_km(a, b) - (EQUATOR_KM + AIR_KM)
        left = self._range[pairs] - _norm(b - a)
        both = np.stack([clear, left], axis=1)
        rate = np.stack([np.maximum(_norm(a_speed), _norm(b_speed)), _norm(b_speed - a_speed)], axis=1)
        return Sample(both.min(axis=1), both, both, rate)
