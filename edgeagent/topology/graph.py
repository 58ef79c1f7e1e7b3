"""One graph in compressed rows (CSR) and the questions that placement, state and simulator ask of it.

Links lead both ways unless said. Weights are latencies here, and may be anything that is finite and at least 0. A graph
never changes; any number of threads may ask it, and the extension computes without the GIL. Answers are the same with
and without the extension, down to which of several equally short paths is taken: the one whose nodes' predecessors have
the lowest numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeagent.topology import pure_graph
from edgeagent.topology.errors import TopologyRefused
from edgeagent.topology.kernels import kernels

__all__ = ["Graph", "Tree"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
_NONE = np.empty(0, dtype=np.uint8)
_NODES_MAX = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Tree:
    """Shortest paths from one or several sources: ``distance`` infinite and ``predecessor`` -1 where none leads."""

    distance: Floats
    predecessor: Ints

    def path_to(self, node: int) -> list[int]:
        """The nodes from the source to ``node``, both included; empty where there is no path."""
        if self.distance[node] == np.inf:
            return []
        nodes = [node]
        before = self.predecessor.data  # gives whole numbers of Python, several times faster than the array
        while (node := before[node]) >= 0:
            nodes.append(node)
        return nodes[::-1]


class Graph:
    """``nodes`` nodes and links ``a[i]`` - ``b[i]``; of several links between two nodes the lightest counts.

    ``relays`` ``(nodes,)`` says through which nodes paths may lead; at the others they begin or end. ``one_way``: links
    lead from ``a`` to ``b`` only. Raises TopologyRefused for arrays that are no graph. ``pure_only`` leaves the
    extension aside.
    """

    def __init__(
        self,
        nodes: int,
        a: ArrayLike,
        b: ArrayLike,
        weights: ArrayLike,
        *,
        relays: ArrayLike | None = None,
        one_way: bool = False,
        pure_only: bool = False,
    ) -> None:
        one, other = _ends(a, nodes), _ends(b, nodes)
        cost = np.asarray(weights, dtype=np.float64)
        if not one.shape == other.shape == cost.shape:
            raise TopologyRefused("ends and weights differ in number", hint="give one of each for a link")
        if not ((cost >= 0.0) & (cost < np.inf)).all():
            raise TopologyRefused(
                "a weight is negative or not finite", hint="leave out links that are not there"
            )
        flags = _flags(relays, nodes)
        self.nodes = nodes
        self.indptr, self.indices, self.weights = _compressed(nodes, one, other, cost, one_way=one_way)
        self._native = kernels is not None and not pure_only
        csr = kernels.Csr if self._native else pure_graph.PureCsr
        # Relays everywhere are the same as no flags, and cheaper.
        self._csr: Any = csr(self.indptr, self.indices, self.weights, _NONE if flags.all() else flags)

    def tree(self, sources: int | ArrayLike, *, bound: float = np.inf) -> Tree:
        """Shortest paths from the nearest of ``sources`` to all nodes within ``bound``."""
        return Tree(*self._csr.tree(self._rows(sources), float(bound)))

    def many(self, sources: ArrayLike, *, bound: float = np.inf) -> Floats:
        """Distances from each of ``sources`` to all nodes, ``(len(sources), nodes)``."""
        return np.asarray(self._csr.many(self._rows(sources), float(bound)))

    def spread(self, starts: ArrayLike, *, factor: float = 1.0, bound: float = np.inf) -> tuple[Floats, Ints]:
        """(values, origins) ``(nodes,)``: the least of ``starts[u] + factor * distance(u, v)`` and the u that gives it.

        ``starts`` ``(nodes,)`` are at least 0, infinite where nothing starts; of several origins the lowest wins;
        infinity and -1 where the value is over ``bound``. This is one step of dynamic programming over all nodes at the
        price of one search.
        """
        begin = np.ascontiguousarray(starts, dtype=np.float64)
        if begin.shape != (self.nodes,):
            raise TopologyRefused(f"{begin.size} starts for {self.nodes} nodes", hint="give one a node")
        if not (begin >= 0.0).all() or not 0.0 <= factor < np.inf:
            raise TopologyRefused("a start or the factor is negative or not a number", hint="shift them to 0")
        return tuple(self._csr.spread(begin, float(factor), float(bound)))

    def distances(self, source: int, targets: ArrayLike, *, bound: float = np.inf) -> Floats:
        """Distances to ``targets`` ``(m,)``; ends when the last of them is found."""
        return np.asarray(self._csr.distances(self._row(source), self._rows(targets), float(bound)))

    def path(self, source: int, target: int, *, bound: float = np.inf) -> tuple[float, list[int]]:
        """(distance, nodes from source to target); (infinity, []) where there is no path within ``bound``."""
        distance, nodes = self._csr.path(self._row(source), self._row(target), float(bound))
        return float(distance), nodes.tolist()

    def within(
        self, source: int, bound: float, *, count_max: int | None = None, among: ArrayLike | None = None
    ) -> tuple[Ints, Floats]:
        """(nodes, distances) of the nearest ``count_max`` nodes within ``bound``, nearest first, without ``source``.

        ``among`` ``(nodes,)`` are flags of those that count; the others are passed through.
        """
        if count_max is not None and count_max < 0:
            raise TopologyRefused(f"{count_max} nodes were asked for", hint="give 0 or more, or None")
        flags = _NONE if among is None else _flags(among, self.nodes)
        limit = self.nodes if count_max is None else min(count_max, self.nodes)
        nodes, distances = self._csr.within(self._row(source), float(bound), limit, flags)
        return nodes, distances

    @cached_property
    def components(self) -> Ints:
        """The component of each node by links alone, numbered by their lowest member from 0; relays are not asked."""
        rows = np.repeat(np.arange(self.nodes, dtype=np.int32), np.diff(self.indptr))
        label = kernels.components if self._native else pure_graph.components
        return np.asarray(label(self.nodes, rows, self.indices))

    def weight(self, a: int, b: int) -> float:
        """The weight of the link between two nodes; infinity where there is none."""
        begin, end = self.indptr[self._row(a)], self.indptr[a + 1]
        at = begin + int(np.searchsorted(self.indices[begin:end], self._row(b)))
        return float(self.weights[at]) if at < end and self.indices[at] == b else np.inf

    def _row(self, node: int) -> int:
        if not 0 <= node < self.nodes:
            raise TopologyRefused(f"no node {node} in a graph of {self.nodes}", hint="count from 0")
        return int(node)

    def _rows(self, nodes: int | ArrayLike) -> Ints:
        return _ends(np.atleast_1d(np.asarray(nodes)), self.nodes)


def _ends(values: ArrayLike, nodes: int) -> Ints:
    rows = np.asarray(values)
    if rows.size == 0:
        rows = rows.astype(np.int32)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise TopologyRefused("nodes are not a list of whole numbers", hint="count from 0")
    if rows.size and (rows.min() < 0 or rows.max() >= nodes):
        raise TopologyRefused(f"a node is not from 0 to {nodes - 1}", hint="count from 0")
    return np.ascontiguousarray(rows, dtype=np.int32)


def _flags(values: ArrayLike | None, nodes: int) -> NDArray[np.uint8]:
    if not 0 <= nodes <= _NODES_MAX:
        raise TopologyRefused(f"a graph of {nodes} nodes", hint=f"give 0 to {_NODES_MAX}")
    if values is None:
        return np.ones(nodes, dtype=np.uint8)
    flags = np.ascontiguousarray(np.asarray(values, dtype=np.bool_), dtype=np.uint8)
    if flags.shape != (nodes,):
        raise TopologyRefused(f"{flags.size} flags for {nodes} nodes", hint="give one a node")
    return flags


def _compressed(nodes: int, a: Ints, b: Ints, cost: Floats, *, one_way: bool) -> tuple[Ints, Ints, Floats]:
    """The directions of each link, by row, then column; loops left out, of parallel links the lightest kept."""
    straight = a != b
    if not straight.all():
        a, b, cost = a[straight], b[straight], cost[straight]
    rows, columns, costs = a, b, cost
    if not one_way:
        rows, columns, costs = np.concatenate([a, b]), np.concatenate([b, a]), np.concatenate([cost, cost])
    key = rows.astype(np.int64) * max(nodes, 1) + columns
    order = np.argsort(key, kind="stable")
    key = key[order]
    if (key[1:] == key[:-1]).any():
        order = np.lexsort((costs, rows.astype(np.int64) * max(nodes, 1) + columns))
        key = rows[order].astype(np.int64) * max(nodes, 1) + columns[order]
        order = order[np.concatenate([[True], key[1:] != key[:-1]])]
    indptr = np.zeros(nodes + 1, dtype=np.int32)
    np.cumsum(np.bincount(rows[order], minlength=nodes), out=indptr[1:])
    return indptr, columns[order], costs[order]
