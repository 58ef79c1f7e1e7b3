"""What a decider asks of the network, now and ahead; and a network of which nothing is predicted."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeagent.placement.errors import PlanRefused
from edgeagent.topology.graph import Graph

__all__ = ["FlatNetwork", "Network"]

Floats = NDArray[np.float64]


class Network(Protocol):
    """Times are orbital seconds, rows count through ``ids``.

    A graph may have further rows behind these, nodes that only pass on; all graphs have as many.
    """

    @property
    def ids(self) -> tuple[str, ...]: ...

    def graph(self, at_s: float) -> Graph:
        """The links, weighted with latencies in ms one way."""
        ...

    def mbit_s(self, source_row: int, at_s: float) -> Floats:
        """The bandwidth along the path from a row to every row (at least one entry a node); infinite: not known."""
        ...

    def sunlit_share(self, row: int, from_s: float, to_s: float) -> float | None:
        """The share of the time that the node is in the sun; None: not known, or it does not matter to it."""
        ...

    def contact_until_s(self, a_row: int, b_row: int, at_s: float) -> float:
        """Until when a route between two nodes is predicted; infinite: no end is known."""
        ...


class FlatNetwork:
    """All pairs one latency apart, or as a matrix says (infinite: no route), at all times; no bandwidth is known.

    Raises PlanRefused for latencies that cannot be.
    """

    def __init__(self, ids: tuple[str, ...], latency_ms: float | ArrayLike = 1.0) -> None:
        self._ids = ids
        nodes = len(ids)
        rows = np.arange(nodes, dtype=np.int32)
        ways = np.asarray(latency_ms, dtype=np.float64)
        if (ways.ndim and ways.shape != (nodes, nodes)) or not (ways >= 0.0).all():
            raise PlanRefused(
                f"latencies of {ways.shape} for {nodes} nodes",
                hint="give one number, or a square of numbers >= 0",
            )
        if ways.ndim:
            a, b = np.nonzero(np.isfinite(ways))
            relays = np.zeros(
                nodes, dtype=np.bool_
            )  # the matrix is the whole truth: no way leads over a third
            self._graph = Graph(nodes, a, b, ways[a, b], relays=relays)
        elif math.isfinite(float(ways)):
            # A hub that runs nothing, half of the way from all: as many links as nodes, not as pairs.
            hub = np.full(nodes, nodes, dtype=np.int32)
            half = np.full(nodes, float(ways) / 2.0)
            self._graph = Graph(nodes + 1, rows, hub, half, relays=np.arange(nodes + 1) == nodes)
        else:
            raise PlanRefused("all nodes are infinitely far apart", hint="give the latency of a usual path")

    @property
    def ids(self) -> tuple[str, ...]:
        return self._ids

    def graph(self, at_s: float) -> Graph:
        return self._graph

    def mbit_s(self, source_row: int, at_s: float) -> Floats:
        return np.full(len(self._ids), np.inf)

    def sunlit_share(self, row: int, from_s: float, to_s: float) -> float | None:
        return None

    def contact_until_s(self, a_row: int, b_row: int, at_s: float) -> float:
        return math.inf
