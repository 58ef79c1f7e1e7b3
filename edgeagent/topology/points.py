"""Satellites as points, and which pairs of them may be linked: both present, within the reach of both, in sight.

Searches here go row by row, one satellite against all others, in memory of the order of n: the path for machines
without the extension, and the oracle of the tests for those with it. Lengths are compared as squares that are computed
in one order of operations, here as in C++, so that both paths see the same ties.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeagent.orbit.geodetic import EQUATOR_KM
from edgeagent.orbit.sight import AIR_KM, clearance_km
from edgeagent.topology.errors import TopologyRefused

__all__ = ["Flags", "Points", "Rows", "points_of", "positions_array"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Rows = NDArray[np.intp]

_FARTHEST_KM = 1e7  # beyond it a position is a mistake, and its square may overflow


def positions_array(positions_km: ArrayLike) -> Floats:
    """A copy ``(n, 3)``; whole rows are NaN where a node is not there: not finite, or beyond 1e7 km."""
    places = np.array(positions_km, dtype=np.float64, order="C")
    if places.shape == (0,):
        places = places.reshape(0, 3)
    if places.ndim != 2 or places.shape[1] != 3:
        raise TopologyRefused(f"positions have the shape {places.shape}", hint="give (n, 3), in km")
    places[~(np.abs(places) <= _FARTHEST_KM).all(axis=1)] = np.nan
    return places


@dataclass(frozen=True, eq=False)
class Points:
    """``xyz`` ``(n, 3)``, NaN where absent; ``reach_km`` ``(n,)``; links stay above ``clear_km`` from the centre.

    ``clear_km`` is minus infinity where sight is not tested.
    """

    xyz: Floats
    reach_km: Floats
    clear_km: float

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def present(self) -> Flags:
        return np.asarray(~np.isnan(self.xyz[:, 0]))

    def distance2(self, i: int) -> Floats:
        """Squared distances from ``i`` to all; NaN to the absent."""
        x, y, z = (self.xyz - self.xyz[i]).T
        return np.asarray(x * x + y * y + z * z)

    def in_reach(self, i: int, d2: Floats) -> Flags:
        """Which may be linked to ``i`` as far as distance goes."""
        near: Flags = d2 <= np.minimum(self.reach_km * self.reach_km, self.reach_km[i] * self.reach_km[i])
        near[i] = False
        return near

    def in_sight(self, i: int, rows: Rows) -> Flags:
        """Which of ``rows`` are seen from ``i``."""
        if self.clear_km == -np.inf:
            return np.ones(len(rows), dtype=np.bool_)
        # The lower number first, so that both ends agree to the bit.
        lower = (rows > i)[:, np.newaxis]
        here, there = self.xyz[i], self.xyz[rows]
        clearance = clearance_km(np.where(lower, here, there), np.where(lower, there, here))
        return np.asarray(clearance > self.clear_km)

    def nearest(self, i: int, count: int, among: Flags | None = None) -> tuple[Rows, Floats]:
        """The ``count`` nearest linkable points and their squared distances, by distance, then number."""
        d2 = self.distance2(i)
        wanted = self.in_reach(i, d2) if among is None else self.in_reach(i, d2) & among
        near = np.flatnonzero(wanted)
        batch = 4 * count + 8
        while True:
            some = near
            if len(near) > batch:  # sight is dear: few at a time, with all those at the same distance
                some = near[d2[near] <= np.partition(d2[near], batch)[batch]]
            some = some[np.argsort(d2[some], kind="stable")]
            seen = some[self.in_sight(i, some)][:count]
            if len(seen) == count or len(some) == len(near):
                return seen, d2[seen]
            batch *= 4


def points_of(
    positions_km: ArrayLike, *, reach_km: ArrayLike = np.inf, air_km: float | None = AIR_KM
) -> Points:
    """Points in km, any one frame with the Earth's centre as its origin.

    ``reach_km`` is one for all or one a satellite; ``air_km`` is how far links stay above the equator's radius, None
    for no test of sight. Raises TopologyRefused for arrays that cannot be.
    """
    places = positions_array(positions_km)
    reach = np.asarray(reach_km, dtype=np.float64)
    if reach.shape not in {(), (len(places),)}:
        raise TopologyRefused(f"reaches have the shape {reach.shape}", hint="give one, or one a satellite")
    if not (reach >= 0.0).all():
        raise TopologyRefused("a reach is negative or not a number", hint="give km, or infinity")
    if air_km is not None and not -EQUATOR_KM <= air_km < np.inf:
        raise TopologyRefused(f"{air_km} km of air cannot be", hint="give km above the equator's radius")
    clear = -np.inf if air_km is None else EQUATOR_KM + air_km
    return Points(places, np.ascontiguousarray(np.broadcast_to(reach, (len(places),))), float(clear))
