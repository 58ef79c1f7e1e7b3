"""Plays a placement case: one decision after the other, by its rules, for any scheduler; and accounts for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeagent.simulator.wildfire_case import Case, Instance, Task
from edgeagent.topology.graph import Graph

__all__ = ["Networks", "Placement", "Played", "Summary", "Turn", "play"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Placement(msgspec.Struct, frozen=True):
    """Where one task went; ``node`` -1 where no node was found. Latencies in ms one way."""

    wf: int
    task: str
    node: int
    pred_ms: float | None
    data_ms: float | None
    decision_cpu_ms: float
    slo_violated: bool
    heat_violated: bool


class Summary(msgspec.Struct, frozen=True):
    """The figures of a case: means over the workflows that were placed to their end, and counts over all."""

    mean_pred_sum_per_wf: float
    mean_critical_path: float
    mean_data: float
    slo_violations: int
    heat_violations: int
    decision_cpu_ms_mean: float
    unplaced: int
    workflows_unfinished: int


@dataclass(frozen=True)
class Played:
    """What a scheduler did in a case."""

    placements: tuple[Placement, ...]
    summary: Summary

    def finished(self) -> dict[int, tuple[float, float]]:
        """(critical path, sum of the ways between steps) in ms of each workflow that was placed to its end."""
        return {
            wf: (
                math.fsum(max(one.pred_ms or 0.0, one.data_ms or 0.0) for one in run),
                math.fsum(one.pred_ms or 0.0 for one in run),
            )
            for wf, run in _runs(self.placements).items()
            if all(_reached(one) for one in run)
        }


@dataclass(eq=False)
class Networks:
    """The networks of a case, made once each; ``build_cpu_ms`` is what each took."""

    case: Case
    build_cpu_ms: list[float] = field(default_factory=list)
    _graphs: dict[int, Graph] = field(default_factory=dict)
    _ways: dict[tuple[int, int], Floats] = field(default_factory=dict)

    def at(self, t: int) -> Graph:
        if t not in self._graphs:
            began = time.process_time()
            self._graphs[t] = self.case.graph(t)
            self.build_cpu_ms.append((time.process_time() - began) * 1e3)
        return self._graphs[t]

    def forget_ways(self) -> None:
        """Forget the latencies, not the networks: what one scheduler computed is no gift to the next."""
        self._ways.clear()

    def from_ms(self, node: int, t: int) -> Floats:
        """Latencies from one node to all, computed once."""
        if (node, t) not in self._ways:
            self._ways[node, t] = self.at(t).tree(node).distance
        return self._ways[node, t]


@dataclass(eq=False, kw_only=True)
class Turn:
    """One decision, as a scheduler sees it. ``number`` counts the decisions of the case."""

    case: Case
    networks: Networks
    instance: Instance
    index: int
    number: int
    predecessor: int
    free: Floats
    source_known: bool

    @property
    def task(self) -> Task:
        return self.case.tasks[self.index][1]

    @property
    def t(self) -> int:
        return self.instance.decision_times[self.case.tasks[self.index][0]]

    @property
    def graph(self) -> Graph:
        return self.networks.at(self.t)

    @property
    def latency_ms_max(self) -> float:
        limit = self.task.max_pred_latency_ms
        return math.inf if limit is None else limit

    @property
    def data_ms_max(self) -> float:
        limit = self.task.max_data_latency_ms
        return math.inf if limit is None else limit

    def from_predecessor_ms(self) -> Floats:
        """Latencies from the predecessor's node to all."""
        return self.networks.from_ms(self.predecessor, self.t)

    def from_source_ms(self) -> Floats | None:
        """Latencies from the data source to all; None where the task has none."""
        return (
            None
            if self.task.data_source is None
            else self.networks.from_ms(self.instance.eo_satellite, self.t)
        )

    @property
    def architecture_fits(self) -> Flags:
        return np.isin(self.case.architectures, self.task.archs)

    @property
    def heat_c(self) -> tuple[Floats, Floats, Floats]:
        return self.case.heat_c(self.task)

    @cached_property
    def places_deg(self) -> tuple[Floats, Floats]:
        """Latitudes and longitudes; of satellites those below them."""
        shot = self.case.document.snapshots[str(self.t)]
        ground = self.case.document.nodes.terrestrial
        return (
            np.r_[np.array(shot.sat_lat_e4) / 1e4, [one.lat for one in ground]],
            np.r_[np.array(shot.sat_lon_e4) / 1e4, [one.lon for one in ground]],
        )

    def of_kind(self, kind: str) -> Flags:
        return np.array([one == kind for one in self.case.kinds])


Scheduler = Callable[[Turn], Sequence[int]]


def play(case: Case, scheduler: Scheduler, *, networks: Networks | None = None, known: bool = True) -> Played:
    """Every decision of the case in order; of the nodes that ``scheduler`` names the first that fits wins.

    ``known``: the data source is named with the workflow; else it is revealed when the first task has its node.
    Nothing is ever given back, and the data source takes no task once the first one is placed.
    """
    networks = networks or Networks(case)
    networks.forget_ways()
    free = case.capacity.copy()
    placements: list[Placement] = []
    first = case.document.workflow.tasks[case.document.workflow.chain[0]]
    for instance in case.instances:  # all of them before the first decision, as the published placements show
        free[instance.ingest_node] -= (first.milli_cpu, first.memory_mib)
    for instance in case.instances:
        previous = instance.ingest_node
        for index, (name, task) in enumerate(case.tasks):
            turn = Turn(
                case=case, networks=networks, instance=instance, index=index, number=len(placements),
                predecessor=previous, free=free, source_known=known or index > 0,
            )  # fmt: skip
            networks.at(turn.t)  # its price is a case of its own
            began = time.process_time()
            ranked = scheduler(turn)
            spent_ms = (time.process_time() - began) * 1e3
            demand = np.array([task.milli_cpu, task.memory_mib])
            node = next((one for one in ranked if (free[one] >= demand).all()), -1)
            placements.append(_account(turn, name, node, spent_ms))
            if node >= 0:
                free[node] -= demand
                previous = node
            if index == 0:
                free[instance.eo_satellite] = 0.0
    return Played(tuple(placements), _summary(placements, len(case.instances)))


def _account(turn: Turn, name: str, node: int, spent_ms: float) -> Placement:
    if node < 0:
        return Placement(
            turn.instance.wf, name, -1, None, None, spent_ms, slo_violated=True, heat_violated=False
        )
    way = float(turn.from_predecessor_ms()[node])
    source = turn.from_source_ms()
    data = None if source is None else float(source[node])
    after, recommended, _ = turn.heat_c
    return Placement(
        turn.instance.wf, name, node, way, data, spent_ms,
        slo_violated=way > turn.latency_ms_max or (data or 0.0) > turn.data_ms_max,
        heat_violated=bool(after[node] > recommended[node]),
    )  # fmt: skip


def _summary(placements: Sequence[Placement], instances: int) -> Summary:
    """Means over the workflows whose tasks all have a node that is reached; counts over all."""
    whole = [run for run in _runs(placements).values() if all(_reached(one) for one in run)]
    ways = [one.pred_ms or 0.0 for run in whole for one in run]
    waits = [max(one.pred_ms or 0.0, one.data_ms or 0.0) for run in whole for one in run]
    data = [one.data_ms for run in whole for one in run if one.data_ms is not None]
    return Summary(
        mean_pred_sum_per_wf=math.fsum(ways) / max(len(whole), 1),
        mean_critical_path=math.fsum(waits) / max(len(whole), 1),
        mean_data=math.fsum(data) / max(len(data), 1),
        slo_violations=sum(one.slo_violated for one in placements),
        heat_violations=sum(one.heat_violated for one in placements),
        decision_cpu_ms_mean=math.fsum(one.decision_cpu_ms for one in placements) / max(len(placements), 1),
        unplaced=sum(one.node < 0 for one in placements),
        workflows_unfinished=instances - len(whole),
    )


def _runs(placements: Sequence[Placement]) -> dict[int, list[Placement]]:
    runs: dict[int, list[Placement]] = {}
    for one in placements:
        runs.setdefault(one.wf, []).append(one)
    return runs


def _reached(one: Placement) -> bool:
    return one.pred_ms is not None and math.isfinite(one.pred_ms) and math.isfinite(one.data_ms or 0.0)
