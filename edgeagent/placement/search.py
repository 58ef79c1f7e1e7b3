"""The best plan among the nodes that the bounds leave: depth first over the steps, best first over the nodes, with the
capacities of nodes that several steps share.

A branch ends where what it cost so far, and the least that the rest can cost, is no better than the best plan known.
What the rest costs is known exactly for workflows in which every step follows at most one, but for shared capacities;
so the first branch is the best plan as a rule, and the search only proves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeagent.placement.steps import PlanStep

__all__ = ["Found", "Survivors", "legs_ms", "search", "survivors_of"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

_SLACK = 1e-9  # ms: sums of the same numbers in another order


@dataclass(frozen=True, eq=False)
class Survivors:
    """For each step the nodes that are left, their own cost, and the legs between those of the steps it follows.

    ``legs[s][k]`` ``(survivors of after[k], survivors of s)``: ms one way with the payload's time, infinite over the
    limit. ``own`` has the data legs in it.
    """

    nodes: list[Rows]
    own: list[Floats]
    data: list[Floats]
    legs: list[list[Floats]]
    rest: list[Floats]  # (survivors of s,): the least that all steps cost that follow s, directly or not


def legs_ms(step: PlanStep, sender: int, receivers: ArrayLike, *, most: float = np.inf) -> Floats:
    """The legs of one edge into ``step``, with the payload's time; infinite over the limit, and over ``most``."""
    rows = np.asarray(receivers, dtype=np.int32)
    legs = step.graph.distances(sender, rows, bound=min(step.latency_ms_max, most))
    if step.send_ms is not None:
        legs = legs + step.send_ms[sender]
    if step.receive_ms is not None:
        legs = legs + step.receive_ms[rows]
    legs[rows == sender] = 0.0
    return np.asarray(legs)


def _legs(step: PlanStep, senders: Rows, receivers: Rows, most: float) -> Floats:
    rows = [legs_ms(step, int(node), receivers, most=most) for node in senders]
    return np.array(rows, dtype=np.float64).reshape(len(senders), len(receivers))


def _edge_cost(legs: Floats, data: Floats, weight: float) -> Floats:
    """What one edge costs beyond the data leg: max(p, d) + w p - d."""
    return np.maximum(legs - data, 0.0) + weight * legs


def _crowded(one: PlanStep, other: PlanStep, free: Floats) -> NDArray[np.bool_]:
    """Nodes that cannot take both steps; ``free`` ``(nodes, resources)``."""
    both = np.array(one.demand, dtype=np.float64) + np.array(other.demand, dtype=np.float64)
    return np.asarray((both > free).any(axis=1)) if both.size else np.zeros(len(free), dtype=np.bool_)


def survivors_of(
    steps: Sequence[PlanStep],
    nodes: list[Rows],
    own: list[Floats],
    weight: float,
    free: Floats,
    most: float = np.inf,
) -> Survivors:
    """The tables of the search over ``nodes``; ``own`` are over all nodes. No plan over ``most`` is asked for."""
    legs: list[list[Floats]] = []
    for index, step in enumerate(steps):
        ways = []
        for before in step.after:
            way = _legs(step, nodes[before], nodes[index], most / (1.0 + weight))
            shared = nodes[before][:, np.newaxis] == nodes[index]
            way[shared & _crowded(steps[before], step, free)[nodes[index]]] = np.inf
            ways.append(way)
        legs.append(ways)
    data = [
        np.zeros(len(rows)) if step.data_ms is None else step.data_ms[rows]
        for step, rows in zip(steps, nodes, strict=True)
    ]
    mine = [costs[rows] for costs, rows in zip(own, nodes, strict=True)]
    rest = [np.zeros(len(rows)) for rows in nodes]
    for index in range(len(steps) - 1, -1, -1):
        if steps[index].after:  # one edge of several is followed, as in the bounds
            cost = _edge_cost(legs[index][0], data[index], weight) + mine[index] + rest[index]
            parent = steps[index].after[0]
            least = cost.min(axis=1) if cost.size else np.full(len(nodes[parent]), np.inf)
            rest[parent] = rest[parent] + least
    return Survivors(nodes, mine, data, legs, rest)


@dataclass(eq=False)
class Found:
    """The best plan so far: places among the survivors, its cost, and whether the search came to its end."""

    places: list[int] | None
    cost_ms: float
    exact: bool = True


class _Search:
    def __init__(
        self, steps: Sequence[PlanStep], tables: Survivors, weight: float, free: Floats, branches_max: int
    ) -> None:
        self._steps, self._tables, self._weight = steps, tables, weight
        self._free = free
        self._left = branches_max
        self._places: list[int] = []
        self.best = Found(None, np.inf)
        # What the steps from s on cost at least whatever was chosen before: those no placed step leads to.
        self._roots = [
            float((own + rest).min(initial=np.inf)) if not step.after else 0.0
            for step, own, rest in zip(steps, tables.own, tables.rest, strict=True)
        ]

    def _step_cost(self, index: int) -> Floats:
        """What step ``index`` costs on each of its survivors after the places taken so far."""
        step, tables = self._steps[index], self._tables
        if not step.after:
            return tables.own[index]
        ways = [tables.legs[index][k][self._places[before]] for k, before in enumerate(step.after)]
        longest = np.maximum.reduce(ways)
        waits = np.maximum(longest - tables.data[index], 0.0)
        return np.asarray(tables.own[index] + waits + self._weight * np.sum(ways, axis=0))

    def _open(self, index: int) -> float:
        """What the steps behind ``index`` cost at least, but for those behind ``index`` itself."""
        total = 0.0
        for later in range(index + 1, len(self._steps)):
            after = self._steps[later].after
            if not after:
                total += self._roots[later]
            elif after[0] < index:
                ways = self._tables.legs[later][0][self._places[after[0]]]
                cost = _edge_cost(ways, self._tables.data[later], self._weight)
                total += float(
                    (cost + self._tables.own[later] + self._tables.rest[later]).min(initial=np.inf)
                )
        return total

    def run(self, index: int = 0, so_far: float = 0.0) -> None:
        if index == len(self._steps):
            if so_far < self.best.cost_ms - _SLACK:
                self.best = Found(list(self._places), so_far)
            return
        cost = self._step_cost(index)
        whole = so_far + cost + self._tables.rest[index] + self._open(index)
        demand = np.array(self._steps[index].demand, dtype=np.float64)
        for place in np.argsort(whole, kind="stable").tolist():
            if not whole[place] < self.best.cost_ms - _SLACK:
                return
            node = self._tables.nodes[index][place]
            if demand.size and (self._free[node] < demand).any():
                continue
            if self._left <= 0:
                self.best.exact = False
                return
            self._left -= 1
            self._places.append(place)
            if demand.size:
                self._free[node] -= demand
            self.run(index + 1, so_far + float(cost[place]))
            if demand.size:
                self._free[node] += demand
            self._places.pop()


def search(
    steps: Sequence[PlanStep], tables: Survivors, weight: float, free: Floats, branches_max: int
) -> Found:
    """The best plan within ``free`` ``(nodes, resources)``; after ``branches_max`` branches the best until then."""
    work = _Search(steps, tables, weight, free.copy(), branches_max)
    work.run()
    return Found(work.best.places, work.best.cost_ms, exact=work.best.exact and work._left > 0)
