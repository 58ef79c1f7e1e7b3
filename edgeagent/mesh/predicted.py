"""The contact plan of the mesh: who has a route to whom, by everybody's elements, from now to the horizon.

A table of moments: for each step of time the connected component of every node in the predicted link graph. Two nodes
of one component have a route. The table is made step by step, so that it can be extended in pieces beside the loop;
questions are answered from what is there and never compute anything.

1. A node without a place, or one that is not in the table, is reachable: no plan excuses it.
2. Before and beyond the table nothing is predicted: reachable, and no return in sight.
3. Ground nodes have each other over the ground network, unless the plan is told that they have none.
4. A satellite whose elements are too old has no position. It is reachable, for nothing can be said of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from edgeagent.orbit.nodes import GroundNode, Node, Satellite
from edgeagent.topology.nodes import OrbitPositions, Wire, nodes_of
from edgeagent.topology.topology import Topology, TopologySettings

__all__ = ["ContactTable", "make_table"]

_ABSENT = -1  # the component of a node without a position


class ContactTable:
    """A :class:`gossip.occlusion.Contacts`. Immutable but for :meth:`extend`."""

    def __init__(
        self, nodes: Mapping[str, Node], settings: TopologySettings, *, ground_network: bool
    ) -> None:
        found = [nodes[name] for name in sorted(nodes)]
        stations = [node.id for node in found if isinstance(node, GroundNode)]
        wires = [Wire(a=a, b=b) for a, b in itertools.pairwise(stations)] if ground_network else []
        self.step_s = settings.step_s
        self._make: Callable[[], Topology] = lambda: Topology(
            nodes_of(found), OrbitPositions(found), settings, wires=wires
        )
        # One for questions and one for the thread that extends: a topology is for one thread.
        self.topology = self._make()
        self._ahead = self._make()
        self._rows = {name: row for row, name in enumerate(self.topology.ids)}
        self._steps: dict[int, NDArray[np.int32]] = {}
        self._stacked: tuple[tuple[int, int], NDArray[np.int32]] = (
            (0, 0), np.empty((0, len(found)), dtype=np.int32)
        )  # fmt: skip

    @property
    def end_s(self) -> float:
        """The moment from which on nothing is known, UTC; 0 where nothing is."""
        return (max(self._steps) + 1) * self.step_s if self._steps else 0.0

    def another_topology(self) -> Topology:
        """The same network for another thread."""
        return self._make()

    def extend(self, utc_s: float, horizon_s: float, *, steps_max: int) -> bool:
        """Compute at most so many steps between now and the horizon, forget what is past; whether all is there."""
        first = math.floor(utc_s / self.step_s) - 1
        last = math.ceil((utc_s + horizon_s) / self.step_s)
        for step in [step for step in self._steps if step < first]:
            del self._steps[step]
        missing = (step for step in range(first, last + 1) if step not in self._steps)
        for step in itertools.islice(missing, steps_max):
            self._steps[step] = self._components(step)
        return len(self._steps) >= last - first + 1

    def _components(self, step: int) -> NDArray[np.int32]:
        moment = self._ahead.at(step * self.step_s)
        found = moment.graph.components.astype(np.int32)
        found[np.isnan(moment.positions_km[:, 0])] = _ABSENT
        return found

    def covers(self, a: str, b: str, at_s: float) -> bool:
        """Whether both are in the table, and the time is."""
        return a in self._rows and b in self._rows and math.floor(at_s / self.step_s) in self._steps

    def reachable(self, a: str, b: str, at_s: float) -> bool:
        return self._linked(self._rows.get(a), self._rows.get(b), math.floor(at_s / self.step_s))

    def _linked(self, a: int | None, b: int | None, step: int) -> bool:
        moment = self._steps.get(step)
        if moment is None or a is None or b is None:
            return True
        one, other = int(moment[a]), int(moment[b])
        return one == other or _ABSENT in {one, other}

    def contact_until_s(self, a: str, b: str, at_s: float) -> float:
        """Until when they have a route, ``at_s`` without one; infinite where no end is known. From any thread."""
        one, other = self._rows.get(a), self._rows.get(b)
        first, moments = self._stack()
        begin = math.floor(at_s / self.step_s) - first
        if one is None or other is None or not 0 <= begin < len(moments):
            return math.inf
        left, right = moments[begin:, one], moments[begin:, other]
        apart = np.flatnonzero((left != right) & (left != _ABSENT) & (right != _ABSENT))
        if not len(apart):
            return math.inf
        return max(at_s, (first + begin + int(apart[0])) * self.step_s)

    def _stack(self) -> tuple[int, NDArray[np.int32]]:
        """(first step, one row of components a step), made once for as long as the table stays as it is."""
        steps = dict(self._steps)  # at once: another thread may extend the table
        key = (min(steps, default=0), len(steps))
        if self._stacked[0] != key:
            rows = [steps[one] for one in sorted(steps)]
            self._stacked = (key, np.stack(rows) if rows else np.empty((0, len(self._rows)), dtype=np.int32))
        return self._stacked[0][0], self._stacked[1]

    def returns_at_s(self, a: str, b: str, at_s: float) -> float | None:
        one, other = self._rows.get(a), self._rows.get(b)
        step = math.floor(at_s / self.step_s)
        if self._linked(one, other, step):
            return at_s
        while step + 1 in self._steps:
            step += 1
            if self._linked(one, other, step):
                return step * self.step_s
        return None


def make_table(
    nodes: Mapping[str, Node], settings: TopologySettings, *, ground_network: bool
) -> ContactTable | None:
    """None where no satellite is among the nodes: then nothing is to be predicted."""
    if not any(isinstance(node, Satellite) for node in nodes.values()):
        return None
    return ContactTable(nodes, settings, ground_network=ground_network)
