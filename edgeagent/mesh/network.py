"""The predicted network as placement asks for it: one row a member, in the order of their ids.

Members that have not said where they are have no place in the link graph; they are taken to hang on every ground node,
one nominal way apart. For one thread at a time.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeagent.mesh.predicted import ContactTable
from edgeagent.mesh.sky import sunlit
from edgeagent.orbit.nodes import Node, Satellite
from edgeagent.topology.graph import Graph
from edgeagent.topology.snapshot import Snapshot
from edgeagent.topology.topology import Topology

__all__ = ["NOMINAL_MS", "MeshNetwork"]

NOMINAL_MS = 1.0  # between nodes of which no distance is known
_NOMINAL_MBIT_S = 1000.0
_KEPT = 16
_SUN_LOOKS = 9

Floats = NDArray[np.float64]


class MeshNetwork:
    """A :class:`placement.network.Network` over the contact table. ``table`` None: nothing is predicted."""

    def __init__(
        self,
        ids: Sequence[str],
        nodes: Mapping[str, Node],
        table: ContactTable | None,
        topology: Topology | None,
    ) -> None:
        self.ids = tuple(ids)
        self._nodes = [nodes.get(one) for one in self.ids]
        self._table = table
        self._topology = topology
        known = {} if topology is None else {one: row for row, one in enumerate(topology.ids)}
        self._rows = np.array([known.get(one, -1) for one in self.ids], dtype=np.intp)
        self._mine = {int(row): index for index, row in enumerate(self._rows) if row >= 0}
        self._graphs: OrderedDict[int, tuple[Graph, dict[tuple[int, int], float]]] = OrderedDict()

    def graph(self, at_s: float) -> Graph:
        """Latencies in ms one way at this UTC."""
        return self._at(at_s)[0]

    def mbit_s(self, source_row: int, at_s: float) -> Floats:
        """``(nodes,)``: the narrowest link on the way from ``source_row``; infinite to itself, 0 where none leads."""
        graph, widths = self._at(at_s)
        tree = graph.tree(source_row)
        found = np.zeros(len(self.ids))
        found[source_row] = np.inf
        for row in np.argsort(tree.distance, kind="stable").tolist():
            before = int(tree.predecessor[row])
            if before >= 0:
                width = widths.get((min(before, row), max(before, row)), _NOMINAL_MBIT_S)
                found[row] = min(found[before], width)
        return found

    def sunlit_share(self, row: int, from_s: float, to_s: float) -> float | None:
        """Of the time between; None for what is no satellite."""
        node = self._nodes[row]
        if not isinstance(node, Satellite):
            return None
        looks = [sunlit(node, float(at_s)) for at_s in np.linspace(from_s, max(from_s, to_s), _SUN_LOOKS)]
        told = [one for one in looks if one is not None]
        return sum(told) / len(told) if told else None

    def contact_until_s(self, a_row: int, b_row: int, at_s: float) -> float:
        """Until when the two have a route; ``at_s`` where they have none now, infinite where nothing is predicted."""
        if self._table is None or a_row == b_row:
            return math.inf
        return self._table.contact_until_s(self.ids[a_row], self.ids[b_row], at_s)

    def _at(self, at_s: float) -> tuple[Graph, dict[tuple[int, int], float]]:
        step = 0 if self._topology is None else math.floor(at_s / self._topology.settings.step_s)
        found = self._graphs.get(step)
        if found is None:
            found = self._graphs[step] = self._build(at_s)
            while len(self._graphs) > _KEPT:
                self._graphs.popitem(last=False)
        return found

    def _build(self, at_s: float) -> tuple[Graph, dict[tuple[int, int], float]]:
        a, b, weights, widths = (
            self._predicted(self._topology.at(at_s)) if self._topology is not None else ([], [], [], {})
        )
        lost = np.flatnonzero(self._rows < 0).tolist()
        ground = [row for row, node in enumerate(self._nodes) if not isinstance(node, Satellite)]
        for row in lost:
            for other in ground:
                if other != row and (other not in lost or other < row):
                    a.append(row)
                    b.append(other)
                    weights.append(NOMINAL_MS)
        return Graph(len(self.ids), a, b, weights), widths

    def _predicted(
        self, moment: Snapshot
    ) -> tuple[list[int], list[int], list[float], dict[tuple[int, int], float]]:
        a: list[int] = []
        b: list[int] = []
        weights: list[float] = []
        widths: dict[tuple[int, int], float] = {}
        links = moment.links
        for one, other, ms, mbit_s in zip(
            links.a.tolist(),
            links.b.tolist(),
            links.latency_ms.tolist(),
            links.bandwidth_mbit_s.tolist(),
            strict=True,
        ):
            i, j = self._mine.get(one), self._mine.get(other)
            if i is None or j is None:
                continue
            a.append(i)
            b.append(j)
            weights.append(ms)
            key = (min(i, j), max(i, j))
            widths[key] = max(widths.get(key, 0.0), mbit_s)
        return a, b, weights, widths
