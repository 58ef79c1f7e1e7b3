"""All links of one moment, as arrays, and the graph over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edgeagent.topology.graph import Graph, Tree
from edgeagent.topology.links import LinkKind, LinkModels, bandwidth_mbit_s, latency_ms

__all__ = ["LinkTable", "Snapshot", "link_table"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Rows = NDArray[np.intp]

TREES_MAX = 256  # kept for a moment: at 20,000 nodes 60 MB


@dataclass(frozen=True, eq=False)
class LinkTable:
    """One row a link, a < b, by kind, then a, then b. Latencies in ms one way, with the processing of one hop."""

    a: Ints
    b: Ints
    kind: NDArray[np.uint8]
    length_km: Floats
    latency_ms: Floats
    bandwidth_mbit_s: Floats

    def __len__(self) -> int:
        return len(self.a)

    def of_kind(self, kind: LinkKind) -> NDArray[np.intp]:
        """The rows of one kind."""
        return np.flatnonzero(self.kind == kind)

    def find(self, i: int, j: int) -> int:
        """The row of the fastest link between two nodes; -1 where there is none."""
        rows = np.flatnonzero((self.a == min(i, j)) & (self.b == max(i, j)))
        return int(rows[np.argmin(self.latency_ms[rows])]) if len(rows) else -1


def link_table(parts: Sequence[tuple[LinkKind, Rows, Rows, Floats]], models: LinkModels) -> LinkTable:
    """Of (kind, one end, other end, lengths in km); ends in any order."""
    columns: list[tuple[NDArray[np.generic], ...]] = []
    for kind, one, other, length in sorted(parts, key=lambda part: part[0]):
        a, b = np.minimum(one, other), np.maximum(one, other)
        order = np.lexsort((b, a))
        columns.append(
            (
                a[order].astype(np.int32),
                b[order].astype(np.int32),
                np.full(len(a), kind, dtype=np.uint8),
                length[order],
                latency_ms(length[order], kind, models),
                bandwidth_mbit_s(length[order], kind, models),
            )
        )
    if not columns:
        none, nothing = np.empty(0, dtype=np.int32), np.empty(0)
        return LinkTable(none, none, np.empty(0, dtype=np.uint8), nothing, nothing, nothing)
    return LinkTable(*(np.concatenate(column) for column in zip(*columns, strict=True)))


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The network at one moment. Rows are nodes in the order of the topology's ids; positions are ECEF km."""

    utc_s: float
    positions_km: Floats
    links: LinkTable
    relays: NDArray[np.bool_]
    _trees: dict[int, Tree] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def graph(self) -> Graph:
        return Graph(
            len(self.positions_km), self.links.a, self.links.b, self.links.latency_ms, relays=self.relays
        )

    def tree(self, source: int) -> Tree:
        """Shortest paths from one node, computed once."""
        found = self._trees.get(source)
        if found is None:
            if len(self._trees) >= TREES_MAX:
                self._trees.pop(next(iter(self._trees)))
            found = self._trees[source] = self.graph.tree(source)
        return found

    def reachable(self, a: int, b: int) -> bool:
        """Whether a route leads from ``a`` to ``b``; routes lead back as well."""
        if a == b:
            return True
        if self.graph.components[a] != self.graph.components[b]:
            return False
        return bool(self.relays.all() or np.isfinite(self.tree(a).distance[b]))
