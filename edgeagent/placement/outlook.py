"""The network at the times that one decision looks at; each question is asked once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeagent.placement.errors import PlanRefused
from edgeagent.placement.network import Network
from edgeagent.placement.settings import DecideSettings
from edgeagent.topology.graph import Graph

__all__ = ["Outlook", "Window"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """When a step runs, in orbital seconds, and the times in it at which the network is looked at."""

    start_s: float
    end_s: float
    times_s: tuple[float, ...]


class Outlook:
    """``speed``: orbital seconds per real second."""

    def __init__(self, network: Network, speed: float, settings: DecideSettings) -> None:
        if not 0.0 < speed < math.inf:
            raise PlanRefused(f"an orbital speed of {speed}", hint="give more than 0")
        self.network, self.speed = network, speed
        self.nodes = len(network.ids)
        self._settings = settings
        self._graphs: dict[float, Graph] = {}
        self._ways: dict[tuple[int, float], Floats] = {}
        self._mbit_s: dict[tuple[int, float], Floats] = {}
        self._light: dict[tuple[int, float, float], float | None] = {}

    def window(self, start_s: float, real_ms: float) -> Window:
        """The times are both ends and some between; the beginning alone where the step is over at once."""
        span = real_ms / 1000.0 * self.speed
        end = start_s + span
        if span < 1.0:
            return Window(start_s, end, (start_s,))
        count = min(2 + int(span / self._settings.sample_s), max(self._settings.samples_max, 2))
        return Window(start_s, end, tuple(np.linspace(start_s, end, count).tolist()))

    def graph(self, at_s: float) -> Graph:
        graph = self._graphs.get(at_s)
        if graph is None:
            graph = self._graphs[at_s] = self.network.graph(at_s)
            if graph.nodes < self.nodes:
                raise PlanRefused(
                    f"a graph of {graph.nodes} rows for {self.nodes} nodes", hint="give a row to each node"
                )
        return graph

    def ways_ms(self, row: int, at_s: float) -> Floats:
        """Latencies from a row to all nodes ``(nodes,)``; infinite where there is no route."""
        ways = self._ways.get((row, at_s))
        if ways is None:
            ways = self._ways[row, at_s] = self.graph(at_s).tree(row).distance[: self.nodes]
        return ways

    def mbit_s(self, row: int, at_s: float) -> Floats:
        """Bandwidths from a row to all nodes; infinite where unknown, and to itself."""
        rates = self._mbit_s.get((row, at_s))
        if rates is None:
            rates = np.array(self.network.mbit_s(row, at_s), dtype=np.float64)[: self.nodes]
            rates[row] = np.inf
            self._mbit_s[row, at_s] = rates
        return rates

    def sending_ms(self, count_bytes: int, row: int, at_s: float) -> Floats:
        """How long so many bytes take from a row to all nodes, beside the latency."""
        if count_bytes <= 0:
            return np.zeros(self.nodes)
        rates = self.mbit_s(row, at_s)
        rates = np.where(np.isfinite(rates), rates, self._settings.mbit_s_assumed)
        with np.errstate(divide="ignore"):
            times = np.asarray(count_bytes * 8.0 / (rates * 1000.0))
        times[row] = 0.0
        return times

    def assumed_ms(self, count_bytes: int) -> float:
        """The same where it is not known from where."""
        return max(count_bytes, 0) * 8.0 / (self._settings.mbit_s_assumed * 1000.0)

    def light(self, row: int, from_s: float, to_s: float) -> float | None:
        """The share of sunlight; None where it is not known."""
        key = (row, from_s, to_s)
        if key not in self._light:
            self._light[key] = self.network.sunlit_share(row, from_s, to_s)
        return self._light[key]
