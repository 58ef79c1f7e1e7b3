"""Shortest paths with heapq: for machines without the extension, with its interface and its answers to the bit.

Nodes settle in the order of (distance, number); of predecessors at equal distance the lowest that has settled before
wins.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["PureCsr", "components"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


def components(count: int, a: Ints, b: Ints) -> Ints:
    """The component of each node, numbered by their lowest member, from 0."""
    parent = list(range(count))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in zip(a.tolist(), b.tolist(), strict=True):
        low, high = sorted((find(i), find(j)))
        parent[high] = low
    roots = np.array([find(i) for i in range(count)], dtype=np.intp)
    return np.unique(roots, return_inverse=True)[1].astype(np.int32)


class PureCsr:
    """A graph in compressed rows; the arrays are trusted (``graph.Graph`` checks them)."""

    def __init__(self, indptr: Ints, indices: Ints, weights: Floats, relays: NDArray[np.uint8]) -> None:
        starts, to, cost = indptr.tolist(), indices.tolist(), weights.tolist()
        self._arcs = [
            list(zip(to[begin:end], cost[begin:end], strict=True))
            for begin, end in itertools.pairwise(starts)
        ]
        self._relays = relays.tolist() or [1] * len(self._arcs)

    def _search(
        self, sources: Sequence[int], bound: float, visit: Callable[[int, float], bool]
    ) -> tuple[dict[int, float], dict[int, int]]:
        """Settles nodes in order until ``visit(node, distance)`` says False; (distances, predecessors)."""
        distance = dict.fromkeys(sources, 0.0) if bound >= 0.0 else {}
        before = dict.fromkeys(distance, -1)
        heap = [(0.0, node) for node in distance]
        heapq.heapify(heap)
        settled: set[int] = set()
        while heap:
            so_far, node = heapq.heappop(heap)
            if node in settled:
                continue
            settled.add(node)
            if not visit(node, so_far):
                break
            if not self._relays[node] and before[node] >= 0:
                continue  # an end, not a way
            for following, weight in self._arcs[node]:
                through = so_far + weight
                if through > bound or following in settled:
                    continue
                known = distance.get(following, math.inf)
                if through < known:
                    distance[following], before[following] = through, node
                    heapq.heappush(heap, (through, following))
                elif through == known and node < before[following]:
                    before[following] = node
        return distance, before

    def tree(self, sources: Ints, bound: float) -> tuple[Floats, Ints]:
        distance, before = self._search(sources.tolist(), bound, lambda _node, _distance: True)
        found, previous = np.full(len(self._arcs), np.inf), np.full(len(self._arcs), -1, dtype=np.int32)
        reached = list(distance)
        found[reached] = list(distance.values())
        previous[reached] = [before[node] for node in reached]
        return found, previous

    def many(self, sources: Ints, bound: float) -> Floats:
        rows = [self.tree(np.array([source]), bound)[0] for source in sources.tolist()]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self._arcs))

    def path(self, source: int, target: int, bound: float) -> tuple[float, Ints]:
        reached: list[float] = []

        def visit(node: int, distance: float) -> bool:
            if node == target:
                reached.append(distance)
            return node != target

        _, before = self._search([source], bound, visit)
        nodes = []
        node = target if reached else -1
        while node >= 0:
            nodes.append(node)
            node = before[node]
        return (reached or [math.inf])[0], np.array(nodes[::-1], dtype=np.int32)

    def spread(self, starts: Floats, factor: float, bound: float) -> tuple[Floats, Ints]:
        begun = np.flatnonzero((starts <= bound) & np.isfinite(starts)).tolist()
        value = {node: float(starts[node]) + 0.0 for node in begun}
        origin = {node: node for node in begun}
        heap = [(start, node) for node, start in value.items()]
        settled: set[int] = set()

        def offer(node: int, so_far: float, first: int) -> None:
            for following, weight in self._arcs[node]:
                through = so_far + factor * weight
                if through > bound or following in settled:
                    continue
                known = value.get(following, math.inf)
                if through < known:
                    value[following], origin[following] = through, first
                    heapq.heappush(heap, (through, following))
                elif through == known and first < origin[following]:
                    origin[following] = first

        heapq.heapify(heap)
        for node in begun:
            if not self._relays[node]:  # an end offers its own start and nobody else's
                offer(node, float(starts[node]) + 0.0, node)
        while heap:
            so_far, node = heapq.heappop(heap)
            if node not in settled:
                settled.add(node)
                if self._relays[node]:
                    offer(node, so_far, origin[node])
        found, first = np.full(len(self._arcs), np.inf), np.full(len(self._arcs), -1, dtype=np.int32)
        found[list(value)] = list(value.values())
        first[list(origin)] = list(origin.values())
        return found, first

    def distances(self, source: int, targets: Ints, bound: float) -> Floats:
        left = set(targets.tolist())

        def visit(node: int, _distance: float) -> bool:
            left.discard(node)
            return bool(left)

        distance, _ = self._search([source], bound, visit) if left else ({}, {})
        return np.array([distance.get(target, math.inf) for target in targets.tolist()], dtype=np.float64)

    def within(
        self, source: int, bound: float, count_max: int, among: NDArray[np.uint8]
    ) -> tuple[Ints, Floats]:
        flags = among.tolist()
        found: list[tuple[int, float]] = []

        def visit(node: int, distance: float) -> bool:
            if node != source and (not flags or flags[node]):
                found.append((node, distance))
            return len(found) < count_max

        if count_max > 0:
            self._search([source], bound, visit)
        return (
            np.array([node for node, _ in found], dtype=np.int32),
            np.array([distance for _, distance in found], dtype=np.float64),
        )
