"""How long signals take in a Walker shell with laser links: the latency of the fastest route, between any two.

Positions are SGP4's and the links a +grid: four lasers a satellite. The table of all pairs is made anew every so often
and holds in between, as the routes of a real network do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeagent.orbit.nodes import Satellite
from edgeagent.orbit.walker import walker
from edgeagent.topology.nodes import OrbitPositions, nodes_of
from edgeagent.topology.plus_grid import walker_pairs
from edgeagent.topology.protocols import IslSettings
from edgeagent.topology.topology import Topology, TopologySettings

__all__ = ["WalkerShell"]


class WalkerShell:
    """``planes`` times ``slots`` satellites at 550 km, 53 degrees; ``names`` are their ids, ``links`` their lasers."""

    def __init__(self, planes: int, slots: int, utc_s: float, *, every_s: float = 60.0) -> None:
        shell = walker(
            total=planes * slots,
            planes=planes,
            phasing=1,
            inclination_deg=53.0,
            altitude_km=550.0,
            epoch_us=round(utc_s * 1e6),
        )
        satellites = [Satellite(one.name, one) for one in shell]
        named = [one.name for one in shell]
        pairs = walker_pairs(total=planes * slots, planes=planes, phasing=1)
        self.links = [(named[a], named[b]) for a, b in pairs.tolist()]
        settings = TopologySettings(isl=IslSettings(protocol="+grid"), step_s=every_s)
        self._topology = Topology(nodes_of(satellites), OrbitPositions(satellites), settings, grid=self.links)
        self.names = list(self._topology.ids)
        self._rows = {name: row for row, name in enumerate(self.names)}
        self._every_s = every_s
        self._step = -1
        self._latency_ms: NDArray[np.float32] = np.zeros((0, 0), dtype=np.float32)

    def latency_s(self, a: str, b: str, utc_s: float) -> float:
        """One way; infinite where there is no route."""
        step = int(utc_s // self._every_s)
        if step != self._step:
            graph = self._topology.at(utc_s).graph
            self._latency_ms = graph.many(np.arange(len(self.names))).astype(np.float32)
            self._step = step
        return float(self._latency_ms[self._rows[a], self._rows[b]]) / 1000.0
