"""Links between ground stations and satellites: who is seen, and who is chosen where antennas are few.

A satellite is seen when it stands at or above the station's mask over the ellipsoid's vertical and within range. Links
are then given out in the order of the policy while both ends have a free antenna, so nobody's turn matters:
``nearest`` by slant range, ``longest`` by how long the satellite stays in sight from now on. Ties go by station, then
satellite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeagent.orbit.geodetic import geodetic_of, up_of
from edgeagent.orbit.nodes import GroundNode
from edgeagent.topology.errors import TopologyRefused
from edgeagent.topology.kernels import kernels
from edgeagent.topology.points import positions_array

__all__ = [
    "GroundSettings",
    "Policy",
    "Sightings",
    "Stations",
    "choose",
    "seen_s",
    "sightings",
    "stations_of",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Policy = Literal["nearest", "longest"]


class GroundSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How ground links are chosen. Construction raises TopologyRefused for what cannot be.

    ``per_station`` and ``per_satellite`` bound the links of each; 0: no bound. ``look_ahead_s`` and ``look_every_s``
    are how far and how finely the policy ``longest`` looks.
    """

    policy: Policy = "nearest"
    per_station: int = 1
    per_satellite: int = 0
    look_ahead_s: float = 900.0
    look_every_s: float = 30.0

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise TopologyRefused(f"no policy {self.policy!r:.60}", hint="use nearest or longest")
        if self.per_station < 0 or self.per_satellite < 0:
            raise TopologyRefused("a number of antennas is negative", hint="0 is no bound")
        if not 0.0 < self.look_every_s <= self.look_ahead_s <= 1000.0 * self.look_every_s:
            raise TopologyRefused(
                f"looking {self.look_ahead_s} s ahead every {self.look_every_s} s",
                hint="from one to a thousand looks",
            )


@dataclass(frozen=True, eq=False)
class Stations:
    """Ground stations as arrays, one row each: ECEF km, unit verticals, sines of the masks, slant ranges."""

    xyz: Floats
    up: Floats
    sin_mask: Floats
    range_km_max: Floats
    horizons: dict[int, GroundNode]

    def __len__(self) -> int:
        return len(self.xyz)


@dataclass(frozen=True, eq=False)
class Sightings:
    """Pairs that see each other, one row each, ordered by station, then satellite."""

    station: Ints
    satellite: Ints
    range_km: Floats

    def __len__(self) -> int:
        return len(self.station)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Sightings:
        """Some of them."""
        return Sightings(self.station[rows], self.satellite[rows], self.range_km[rows])


def stations_of(
    positions_km: ArrayLike,
    mask_deg: ArrayLike,
    *,
    range_km_max: ArrayLike = np.inf,
    horizons: Mapping[int, tuple[tuple[float, float], ...]] | None = None,
) -> Stations:
    """Stations at ECEF ``positions_km`` ``(n, 3)``; masks and ranges are one for all or one each.

    ``horizons`` gives some stations, by row, a mask by azimuth (``orbit.nodes.GroundNode``); the higher one counts.
    """
    places = positions_array(positions_km)
    mask = np.ascontiguousarray(np.broadcast_to(np.asarray(mask_deg, dtype=np.float64), (len(places),)))
    reach = np.ascontiguousarray(np.broadcast_to(np.asarray(range_km_max, dtype=np.float64), (len(places),)))
    if not ((mask >= -10.0) & (mask <= 90.0)).all():
        raise TopologyRefused("a mask is not from -10 to 90 degrees", hint="lower is through the Earth")
    if not (reach >= 0.0).all():
        raise TopologyRefused("a range is negative or not a number", hint="give km, or infinity")
    latitude, longitude, height = geodetic_of(places)
    nodes = {
        row: GroundNode(
            id=str(row),
            latitude_deg=float(latitude[row]),
            longitude_deg=float(longitude[row]),
            height_m=1e3 * float(height[row]),
            mask_deg=float(mask[row]),
            horizon=horizon,
        )
        for row, horizon in ({} if horizons is None else horizons).items()
        if not math.isnan(places[row, 0])
    }
    return Stations(places, up_of(latitude, longitude), np.sin(np.radians(mask)), reach, nodes)


def sightings(stations: Stations, satellites_km: ArrayLike, *, pure_only: bool = False) -> Sightings:
    """Who sees whom, satellites at ECEF ``(n, 3)``; ``pure_only`` leaves the extension aside."""
    targets = positions_array(satellites_km)
    if kernels is not None and not pure_only:
        seen = Sightings(
            *kernels.sightings(stations.xyz, stations.up, stations.sin_mask, stations.range_km_max, targets)
        )
    else:
        seen = _pure_sightings(stations, targets)
    for row, node in stations.horizons.items():
        mine = np.flatnonzero(seen.station == row)
        look = node.look(targets[seen.satellite[mine]])
        low = mine[look.elevation_deg < node.mask_at(look.azimuth_deg)]
        seen = seen.take(np.delete(np.arange(len(seen)), low))
    return seen


def _pure_sightings(stations: Stations, targets: Floats) -> Sightings:
    rows, columns, ranges = [], [], []
    for row, place in enumerate(stations.xyz):
        x, y, z = (targets - place).T
        up = stations.up[row]
        height = x * up[0] + y * up[1] + z * up[2]
        distance = np.sqrt(x * x + y * y + z * z)
        seen = (height >= stations.sin_mask[row] * distance) & (distance <= stations.range_km_max[row])
        found = np.flatnonzero(seen).astype(np.int32)
        rows.append(np.full(len(found), row, dtype=np.int32))
        columns.append(found)
        ranges.append(distance[found])
    if not rows:
        return Sightings(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0))
    return Sightings(np.concatenate(rows), np.concatenate(columns), np.concatenate(ranges))


def seen_s(now: Sightings, later: list[Sightings], every_s: float) -> Floats:
    """How long each pair of ``now`` stays in sight, as far as samples ``every_s`` apart tell: ``(len(now),)``."""
    satellites = 1 + max(int(one.satellite.max(initial=0)) for one in [now, *later])
    pairs = now.station.astype(np.int64) * satellites + now.satellite
    duration = np.zeros(len(now))
    alive = np.ones(len(now), dtype=np.bool_)
    for one in later:
        alive &= np.isin(pairs, one.station.astype(np.int64) * satellites + one.satellite)
        duration[alive] += every_s
    return duration


def choose(seen: Sightings, settings: GroundSettings, remaining_s: Floats | None = None) -> Sightings:
    """The pairs that are linked; ``remaining_s`` is needed by ``longest`` (from :func:`seen_s`)."""
    if settings.policy == "longest":
        if remaining_s is None:
            raise TopologyRefused("longest needs to know how long pairs see each other", hint="see seen_s")
        order = np.lexsort((seen.satellite, seen.station, seen.range_km, -remaining_s))
    else:
        order = np.lexsort((seen.satellite, seen.station, seen.range_km))
    per_station = settings.per_station or len(seen)
    per_satellite = settings.per_satellite or len(seen)
    at_station: dict[int, int] = {}
    at_satellite: dict[int, int] = {}
    chosen = []
    ends = zip(seen.station[order].tolist(), seen.satellite[order].tolist(), order.tolist(), strict=True)
    for station, satellite, row in ends:
        if at_station.get(station, 0) < per_station and at_satellite.get(satellite, 0) < per_satellite:
            at_station[station] = at_station.get(station, 0) + 1
            at_satellite[satellite] = at_satellite.get(satellite, 0) + 1
            chosen.append(row)
    return seen.take(np.sort(np.array(chosen, dtype=np.intp)))
