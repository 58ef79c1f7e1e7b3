"""Who is how far from whom in one epoch of the network: the graph by names, each shortest-path tree searched once.

A link leads one way and has a latency in ms; a graph file lists for each node those that it reaches::

    {node: [[neighbour, latency_ms], ...]}

Of several links between two nodes the fastest counts, links of a node to itself count nowhere, and a node that is only
named as a neighbour leads nowhere. Pure.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import msgspec
import numpy as np

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.state.errors import ElectionRefused
from edgeagent.topology.errors import NodeAbsent
from edgeagent.topology.graph import Graph, Tree

__all__ = ["GRAPH_BYTES_MAX", "Ways", "read_graph"]

GRAPH_BYTES_MAX = 64 << 20
TREES_MAX = 256  # kept for an epoch: at 20,000 nodes 60 MB
# json.dumps writes the keys of a dictionary of numbers as text, and leaves the neighbours numbers.
_Links = dict[str, list[tuple[str | int, float]]]


class Ways:
    """``graph`` has a row for each of ``ids``, in their order; ``back`` is the same with all links turned round, None
    where all of them lead both ways. The next epoch is another object.
    """

    def __init__(self, ids: Sequence[str], graph: Graph, back: Graph | None = None) -> None:
        if graph.nodes != len(ids):
            raise ElectionRefused(
                f"a graph of {graph.nodes} rows for {len(ids)} nodes", hint="give a row to each"
            )
        self.ids = tuple(ids)
        self._rows = {name: row for row, name in enumerate(self.ids)}
        self._graphs = (graph, graph if back is None else back)
        self._trees: dict[tuple[int, int], Tree] = {}
        self._is_both_ways = back is None

    @property
    def graph(self) -> Graph:
        """The links as they lead."""
        return self._graphs[0]

    def row(self, name: str) -> int:
        """Raises NodeAbsent."""
        found = self._rows.get(name)
        if found is None:
            near = difflib.get_close_matches(name, self.ids[:1000], n=1)
            hint = f"did you mean {near[0]!r:.80}?" if near else f"it has {len(self.ids)} nodes"
            raise NodeAbsent(f"the graph has no node {name!r:.80}", hint=hint)
        return found

    def tree(self, row: int) -> Tree:
        """The shortest ways from a node; searched once."""
        return self._tree(0, row)

    def tree_back(self, row: int) -> Tree:
        """The shortest ways to a node; ``predecessor`` is the next node on it."""
        return self._tree(0 if self._is_both_ways else 1, row)

    def _tree(self, side: int, row: int) -> Tree:
        found = self._trees.get((side, row))
        if found is None:
            if len(self._trees) >= TREES_MAX:
                self._trees.pop(next(iter(self._trees)))
            found = self._trees[side, row] = self._graphs[side].tree(row)
        return found


def read_graph(data: bytes) -> Ways:
    """The graph of a file. Raises ElectionRefused for what is none."""
    if len(data) > GRAPH_BYTES_MAX:
        raise ElectionRefused(f"the graph has {len(data)} bytes", hint=f"at most {GRAPH_BYTES_MAX}")
    try:
        links = msgspec.json.decode(data, type=_Links)
    except UNDECODABLE as error:
        raise ElectionRefused(
            f"the graph cannot be read: {error}", hint='{"node": [["neighbour", latency_ms], ...], ...}'
        ) from None
    rows: dict[str, int] = {name: row for row, name in enumerate(links)}
    a, b, latency_ms = [], [], []
    for name, neighbours in links.items():
        row = rows[name]
        for other, ms in neighbours:
            neighbour = str(other)
            if not 0.0 <= ms < np.inf:
                raise ElectionRefused(
                    f"the link from {name!r:.80} to {neighbour!r:.80} has a latency of {ms} ms",
                    hint="latencies are finite and at least 0",
                )
            a.append(row)
            b.append(rows.setdefault(neighbour, len(rows)))
            latency_ms.append(ms)
    if not rows:
        raise ElectionRefused("the graph has no nodes")
    one, other_end = np.array(a, dtype=np.int32), np.array(b, dtype=np.int32)
    there = Graph(len(rows), one, other_end, latency_ms, one_way=True)
    return Ways(tuple(rows), there, Graph(len(rows), other_end, one, latency_ms, one_way=True))
