"""+Grid: each satellite links to the next and the last one of its plane, and to one each of the planes beside it.

Pairs are chosen once, from the geometry of the constellation; which of them are linked at a moment depends on reach and
sight (``protocols.grid_links``): a ring of few satellites is not closed through the Earth.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeagent.topology.errors import TopologyRefused
from edgeagent.topology.planes import MeanOrbits, Planes

__all__ = ["plane_pairs", "walker_pairs"]

Ints = NDArray[np.int32]
_PLANES_APART_DEG = 60.0  # wider is no neighbour: the seam of a star, a shell with planes missing


def _unique(first: NDArray[np.intp], second: NDArray[np.intp]) -> Ints:
    """Pairs in order, each once; what links to itself is none."""
    pairs = np.sort(np.stack([first.ravel(), second.ravel()], axis=1), axis=1).astype(np.int32)
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)


def walker_pairs(*, total: int, planes: int, phasing: int, kind: Literal["delta", "star"] = "delta") -> Ints:
    """Pairs ``(m, 2)`` of a Walker constellation numbered plane by plane (``orbit.walker``), a < b, sorted.

    A plane stands ``phasing / planes`` of a slot further than the one before it, so across the last plane's border the
    slots have shifted by ``phasing``; where a plane is ahead by more than half a slot, its satellites link to the slot
    behind. A star's last plane meets its first one head on: no links there.
    """
    if not 1 <= planes <= total or total % planes or not 0 <= phasing < planes:
        raise TopologyRefused(
            f"{total}/{planes}/{phasing} is no Walker constellation",
            hint="planes divide the total, the phasing is below the planes",
        )
    if kind not in {"delta", "star"}:
        raise TopologyRefused(f"{kind!r} is no kind of constellation", hint="use delta or star")
    slots = total // planes
    plane, slot = np.divmod(np.arange(total), slots)
    along = plane * slots + (slot + 1) % slots
    back = 1 if 2 * phasing > planes else 0  # slots behind
    wraps = plane + 1 == planes
    beside = ((plane + 1) % planes) * slots + (slot - back + phasing * wraps) % slots
    crossing = ~wraps if kind == "star" or planes == 1 else np.ones(total, dtype=np.bool_)
    numbers = np.arange(total)
    return _unique(np.concatenate([numbers, numbers[crossing]]), np.concatenate([along, beside[crossing]]))


def plane_pairs(orbits: MeanOrbits, planes: Planes) -> Ints:
    """Pairs ``(m, 2)`` of satellites of any real constellation, a < b, sorted.

    In a plane neighbours by argument of latitude; between planes that follow each other by node, at most 60 degrees
    apart, the pairs closest in phase, each satellite at most once to either side. Groups of less than a quarter of the
    shell's largest plane have no neighbours.
    """
    firsts: list[NDArray[np.intp]] = []
    seconds: list[NDArray[np.intp]] = []
    for shell in range(int(planes.shell.max(initial=-1)) + 1):
        members = np.flatnonzero(planes.shell == shell)
        rings = [
            _ring(members[planes.plane[members] == one], orbits) for one in np.unique(planes.plane[members])
        ]
        for ring in rings:
            firsts.append(ring)
            seconds.append(np.roll(ring, -1))
        # Spares and satellites on their way to another plane do not come between two planes.
        full = [ring for ring in rings if 4 * len(ring) >= max(map(len, rings))]
        follow = list(zip(full, full[1:] + full[:1], strict=True))
        for west, east in follow[: 1 if len(full) == 2 else None] if len(full) > 1 else []:
            if _nodes_apart(west, east, orbits) <= _PLANES_APART_DEG:
                one, other = _in_phase(west, east, orbits)
                firsts.append(one)
                seconds.append(other)
    if not firsts:
        return np.empty((0, 2), dtype=np.int32)
    return _unique(np.concatenate(firsts), np.concatenate(seconds))


def _ring(members: NDArray[np.intp], orbits: MeanOrbits) -> NDArray[np.intp]:
    return members[np.argsort(orbits.latitude_argument_deg[members], kind="stable")]


def _nodes_apart(west: NDArray[np.intp], east: NDArray[np.intp], orbits: MeanOrbits) -> float:
    return float((orbits.raan_deg[east[0]] - orbits.raan_deg[west[0]]) % 360.0)


def _in_phase(
    west: NDArray[np.intp], east: NDArray[np.intp], orbits: MeanOrbits
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """A matching of two rings, the closest in argument of latitude first; each offers its two neighbours in phase."""
    phase, other = orbits.latitude_argument_deg[west], orbits.latitude_argument_deg[east]
    after = np.searchsorted(other, phase) % len(east)
    near = np.stack([after, (after - 1) % len(east)], axis=1)
    apart = np.abs((other[near] - phase[:, np.newaxis] + 180.0) % 360.0 - 180.0)
    rows, columns = np.repeat(west, 2), east[near].ravel()
    order = np.lexsort((columns, rows, apart.ravel()))
    taken: set[int] = set()
    pairs = []
    for i, j in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        # A westerner and an easterner are never the same satellite, so one set serves both.
        if i not in taken and j not in taken:
            taken |= {i, j}
            pairs.append((i, j))
    found = np.array(pairs, dtype=np.intp).reshape(-1, 2)
    return found[:, 0], found[:, 1]
