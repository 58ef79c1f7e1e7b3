"""Which satellites link to which: the protocols under the names that Stardust's configurations use, and more.

Each is a function of positions alone: no order of arrival, no history. Links are ordered by length, then by the numbers
of their ends, so that there are no ties and one answer.

| protocol | rule |
|---|---|
| nearest | each satellite's ``neighbours`` nearest, shortest first while both ends have a free terminal |
| mst | the minimum spanning forest of all pairs in reach and sight, exact |
| mst_loop | and one more link, its shortest, for each satellite with 1 to ``neighbours - 2`` links |
| mst_smart_loop | the same for leaves only |
| pst | each satellite in turn takes its shortest link into another component, both ends below ``neighbours`` |
| pst_loop, pst_smart_loop | as above, over pst |
| +grid | given pairs (``plus_grid``), as far as they are in reach and sight |
| bent_pipe | none: satellites relay between ground nodes |

The tree protocols keep no cap on what a satellite of the tree has (in practice at most 5 links); loops respect it.
"""

from __future__ import annotations

import difflib
import math

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeagent.orbit.sight import AIR_KM, clearance_km
from edgeagent.topology import pure_protocols as pure
from edgeagent.topology.edges import Edges, edges_of
from edgeagent.topology.errors import TopologyRefused
from edgeagent.topology.kernels import kernels
from edgeagent.topology.points import Points, points_of

__all__ = ["ISL_RANGE_KM", "PROTOCOLS", "IslSettings", "grid_links", "isl_links", "protocol_links"]

Ints = NDArray[np.int32]

ISL_RANGE_KM = 2126.0  # Stardust's MaxISLDistance, a third of 6,378 km; its tree protocols only
NEIGHBOURS_MAX = 1024
_SEARCHED = ("nearest", "mst", "mst_loop", "mst_smart_loop", "pst", "pst_loop", "pst_smart_loop")
PROTOCOLS = (*_SEARCHED, "+grid", "bent_pipe")


class IslSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How satellites link. Construction raises TopologyRefused for what cannot be.

    ``range_km_max`` None is 2,126 km for the tree protocols and no limit for others; ``air_km`` None is no test of
    sight.
    """

    protocol: str = "nearest"
    neighbours: int = 4
    range_km_max: float | None = None
    air_km: float | None = AIR_KM

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            near = difflib.get_close_matches(self.protocol, PROTOCOLS, n=1)
            raise TopologyRefused(
                f"no protocol {self.protocol!r:.60}",
                hint=f"did you mean {near[0]}?" if near else f"there are: {', '.join(PROTOCOLS)}",
            )
        if not 1 <= self.neighbours <= NEIGHBOURS_MAX:
            raise TopologyRefused(f"{self.neighbours} neighbours", hint=f"give 1 to {NEIGHBOURS_MAX}")
        if self.range_km_max is not None and not self.range_km_max > 0.0:
            raise TopologyRefused(f"the range is {self.range_km_max} km", hint="give a positive one, or none")

    @property
    def reach_km(self) -> float:
        """The range in force."""
        if self.range_km_max is not None:
            return self.range_km_max
        return ISL_RANGE_KM if self.protocol.startswith(("mst", "pst")) else math.inf


def isl_links(
    positions_km: ArrayLike,
    settings: IslSettings,
    *,
    reach_km: ArrayLike = np.inf,
    pairs: ArrayLike | None = None,
) -> Edges:
    """The links between satellites at ``positions_km`` ``(n, 3)``, km from the Earth's centre in any one frame.

    NaN: the satellite is not there. ``reach_km`` ``(n,)`` bounds single satellites further; ``pairs`` ``(m, 2)`` are
    +grid's. Raises TopologyRefused.
    """
    reach = np.minimum(np.asarray(reach_km, dtype=np.float64), settings.reach_km)
    points = points_of(positions_km, reach_km=reach, air_km=settings.air_km)
    if settings.protocol == "bent_pipe":
        return edges_of([])
    if settings.protocol == "+grid":
        if pairs is None:
            raise TopologyRefused(
                "+grid needs the pairs of its grid", hint="make them with topology.plus_grid"
            )
        return grid_links(points, pairs)
    return protocol_links(points, settings.protocol, settings.neighbours)


def protocol_links(points: Points, protocol: str, neighbours: int = 4, *, pure_only: bool = False) -> Edges:
    """What ``isl_links`` does for the protocols that search; ``pure_only`` leaves the extension aside."""
    if kernels is not None and not pure_only:
        return Edges(*kernels.links(protocol, points.xyz, points.reach_km, points.clear_km, neighbours))
    if protocol == "nearest":
        return edges_of(pure.nearest_links(points, neighbours))
    kind, _, loops = protocol.partition("_")
    links = pure.spanning_links(points) if kind == "mst" else pure.partial_links(points, neighbours)
    if loops:
        pure.add_loops(points, neighbours, leaves_only=loops == "smart_loop", links=links)
    return edges_of(links)


def grid_links(points: Points, pairs: ArrayLike) -> Edges:
    """Those of ``pairs`` ``(m, 2)``, each a < b and once, that may be linked."""
    chosen = np.asarray(pairs, dtype=np.int32).reshape(-1, 2)
    if len(chosen) and (chosen.min() < 0 or chosen.max() >= len(points)):
        raise TopologyRefused("a pair names a satellite that is not there", hint="count from 0 to n - 1")
    if not (chosen[:, 0] < chosen[:, 1]).all():
        raise TopologyRefused("a pair is not in order", hint="give the lower number first")
    chosen = np.unique(chosen, axis=0)
    a, b = chosen.T
    along = points.xyz[a] - points.xyz[b]
    x, y, z = along.T
    d2 = x * x + y * y + z * z
    reach = np.minimum(points.reach_km[a], points.reach_km[b])
    keep = d2 <= reach * reach
    keep[keep] = _clear(points, a[keep], b[keep])
    return Edges(np.ascontiguousarray(a[keep]), np.ascontiguousarray(b[keep]), np.sqrt(d2[keep]))


def _clear(points: Points, a: Ints, b: Ints) -> NDArray[np.bool_]:
    if points.clear_km == -np.inf:
        return np.ones(len(a), dtype=np.bool_)
    return np.asarray(clearance_km(points.xyz[a], points.xyz[b]) > points.clear_km)
