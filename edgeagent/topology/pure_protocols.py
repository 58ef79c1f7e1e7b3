"""The protocols in numpy, row by row: for machines without the extension; the same links as ``native/graph``.

The tree is Prim's where C++ has Boruvka's: two algorithms that must agree, since the order of links is total.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np

from edgeagent.topology.points import Flags, Points, Rows

__all__ = ["add_loops", "nearest_links", "partial_links", "spanning_links"]

Triple = tuple[float, int, int]  # squared length, lower end, higher end: the order of links


def _triple(d2: float, i: int, j: int) -> Triple:
    return float(d2), min(i, j), max(i, j)


def nearest_links(points: Points, neighbours: int) -> list[Triple]:
    """Each point's ``neighbours`` nearest linkable ones, shortest first while both ends have a free terminal."""
    wanted = set()
    for i in np.flatnonzero(points.present).tolist():
        rows, d2 = points.nearest(i, neighbours)
        wanted |= {_triple(*one) for one in zip(d2.tolist(), [i] * len(rows), rows.tolist(), strict=True)}
    degree = [0] * len(points)
    links = []
    for link in sorted(wanted):
        _, a, b = link
        if degree[a] < neighbours and degree[b] < neighbours:
            degree[a] += 1
            degree[b] += 1
            links.append(link)
    return links


def spanning_links(points: Points) -> list[Triple]:
    """The minimum spanning forest of all linkable pairs."""
    outside = points.present
    best2 = np.full(len(points), np.inf)  # the shortest link from the tree to each point outside,
    source = np.full(len(points), -1)  # and where it begins
    links: list[Triple] = []
    while outside.any():
        i = int(np.argmax(outside))
        outside[i] = False
        while True:
            _offer(points, i, outside, best2, source)
            least = best2[outside].min(initial=np.inf)
            if least == np.inf:
                break
            ends = np.flatnonzero(outside & (best2 == least)).tolist()
            link, i = min((_triple(least, end, int(source[end])), end) for end in ends)
            links.append(link)
            outside[i] = False
    return links


def _offer(points: Points, i: int, outside: Flags, best2: np.ndarray, source: np.ndarray) -> None:
    """Lets point ``i``, new in the tree, improve the ways to the points outside."""
    d2 = points.distance2(i)
    # Of links at one point, equal in length, the one to the lower number is the lesser.
    better = (d2 < best2) | ((d2 == best2) & (i < source))
    rows = np.flatnonzero(outside & points.in_reach(i, d2) & better)
    rows = rows[points.in_sight(i, rows)]
    best2[rows] = d2[rows]
    source[rows] = i


def partial_links(points: Points, neighbours: int) -> list[Triple]:
    """A partial tree: each point in turn takes its shortest link into another component, both below ``neighbours``."""
    component = np.arange(len(points))
    degree = np.zeros(len(points), dtype=np.intp)
    links = []
    for i in np.flatnonzero(points.present).tolist():
        if degree[i] >= neighbours:
            continue
        rows, d2 = points.nearest(i, 1, (degree < neighbours) & (component != component[i]))
        if not len(rows):
            continue
        j = int(rows[0])
        component[component == component[j]] = component[i]
        degree[[i, j]] += 1
        links.append(_triple(d2[0], i, j))
    return links


def add_loops(points: Points, neighbours: int, *, leaves_only: bool, links: list[Triple]) -> None:
    """Adds one link for each point that has few: from 1 to ``neighbours - 2``, or exactly 1 where ``leaves_only``."""
    degree = np.zeros(len(points), dtype=np.intp)
    peers: list[set[int]] = [set() for _ in range(len(points))]

    def join(link: Triple) -> None:
        _, a, b = link
        degree[[a, b]] += 1
        peers[a].add(b)
        peers[b].add(a)

    def wants(i: int) -> bool:
        if leaves_only:
            return bool(degree[i] == 1 and neighbours > 1)
        return bool(0 < degree[i] < neighbours - 1)

    for link in links:
        join(link)
    wishes: list[tuple[Triple, int]] = []
    for i in np.flatnonzero(points.present).tolist():
        if wants(i):
            _wish(points, i, degree < neighbours, peers[i], wishes)
    _grant(
        wishes,
        wants,
        lambda i: _wish(points, i, degree < neighbours, peers[i], wishes),
        join,
        links,
        (lambda i, j: bool(degree[j] < neighbours and j not in peers[i])),
    )


def _wish(points: Points, i: int, free: Flags, linked: set[int], wishes: list[tuple[Triple, int]]) -> None:
    free[list(linked)] = False
    rows: Rows
    rows, d2 = points.nearest(i, 1, free)
    if len(rows):
        heapq.heappush(wishes, (_triple(d2[0], i, int(rows[0])), i))


def _grant(
    wishes: list[tuple[Triple, int]],
    wants: Callable[[int], bool],
    wish: Callable[[int], None],
    join: Callable[[Triple], None],
    links: list[Triple],
    free: Callable[[int, int], bool],
) -> None:
    """Shortest first. Degrees only grow, so a wish that has become impossible is replaced by a longer one."""
    while wishes:
        link, asker = heapq.heappop(wishes)
        if not wants(asker):
            continue
        other = link[1] if link[2] == asker else link[2]
        if free(asker, other):
            join(link)
            links.append(link)
        else:
            wish(asker)
