"""Plays a placement case: one decision after the other, by its rules, for any scheduler; and accounts for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeagent.simulator.wildfire_case import Case, Instance, Task
from edgeagent.simulator.wildfire_strain import NO_STRAIN, Ledger, Strain
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
    refusals: int = 0


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
    refusals: int


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
    """One decision, as a scheduler sees it: what is ``free`` as it was ``view_age_s`` ago.

    ``number`` counts the decisions of the case.
    """

    case: Case
    networks: Networks
    instance: Instance
    index: int
    number: int
    predecessor: int
    free: Floats
    source_known: bool
    view_age_s: float = 0.0

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
        return self.case.architecture_fits(self.task)

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
        return self.case.of_kind(kind)


Scheduler = Callable[[Turn], Iterable[int]]


@dataclass
class _Run:
    """One workflow on its way; ``previous`` is the node of its last step."""

    wf: int
    instance: Instance
    previous: int


def play(
    case: Case,
    scheduler: Scheduler,
    *,
    networks: Networks | None = None,
    known: bool = True,
    strain: Strain = NO_STRAIN,
) -> Played:
    """Every decision of the case in the order of time; of the nodes that ``scheduler`` names the first that fits wins.

    What is named is asked for one by one, so a scheduler may think again after each refusal. ``known``: the data source
    is named with the workflow; else it is revealed when the first task has its node. Nothing is ever given back, and
    the data source takes no task once the first one is placed. ``strain``: old views, crowds, failed nodes.
    """
    networks = networks or Networks(case)
    networks.forget_ways()
    ledger = Ledger(case.capacity.copy(), strain.stale_s)
    first = case.document.workflow.tasks[case.document.workflow.chain[0]]
    for instance in case.instances:  # all of them before the first decision, as the published placements show
        ledger.owe(instance.ingest_node, np.array([first.milli_cpu, first.memory_mib]))
    failed = strain.failed_nodes(case)
    placements: list[Placement] = []
    for at_s, run, index in _agenda(case, strain):
        _, task = case.tasks[index]
        turn = Turn(
            case=case, networks=networks, instance=run.instance, index=index, number=len(placements),
            predecessor=run.previous, free=ledger.seen_at(at_s), source_known=known or index > 0,
            view_age_s=strain.stale_s,
        )  # fmt: skip
        networks.at(turn.t)  # its price is a case of its own
        demand = np.array([task.milli_cpu, task.memory_mib])
        began = time.process_time()
        node, refusals = -1, 0
        for one in scheduler(turn):
            if one not in failed and ledger.takes(one, demand):
                node = one
                break
            refusals += 1
        spent_ms = (time.process_time() - began) * 1e3
        placements.append(_account(turn, run.wf, node, spent_ms, refusals))
        if node >= 0:
            ledger.take(at_s, node, demand)
            run.previous = node
        if index == 0:
            ledger.close(at_s, run.instance.eo_satellite)
    placements.sort(key=lambda one: one.wf)
    return Played(tuple(placements), _summary(placements, len(case.instances) * strain.crowd))


def _agenda(case: Case, strain: Strain) -> list[tuple[float, _Run, int]]:
    """(seconds, workflow, index of its task) of all decisions, in the order of time."""
    agenda = []
    for place, instance in enumerate(case.instances):
        for number, offset_s in enumerate(strain.offsets_s(place)):
            run = _Run(instance.wf * strain.crowd + number, instance, instance.ingest_node)
            for index, (name, _) in enumerate(case.tasks):
                agenda.append((60.0 * instance.decision_times[name] + offset_s, run, index))
    if strain.crowd > 1:  # else in the order of the case, whatever its times
        agenda.sort(key=lambda one: one[0])
    return agenda


def _account(turn: Turn, wf: int, node: int, spent_ms: float, refusals: int) -> Placement:
    name = turn.case.tasks[turn.index][0]
    if node < 0:
        return Placement(
            wf, name, -1, None, None, spent_ms, slo_violated=True, heat_violated=False, refusals=refusals
        )
    way = float(turn.from_predecessor_ms()[node])
    source = turn.from_source_ms()
    data = None if source is None else float(source[node])
    after, recommended, _ = turn.heat_c
    return Placement(
        wf, name, node, way, data, spent_ms,
        slo_violated=way > turn.latency_ms_max or (data or 0.0) > turn.data_ms_max,
        heat_violated=bool(after[node] > recommended[node]),
        refusals=refusals,
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
        refusals=sum(one.refusals for one in placements),
    )


def _runs(placements: Sequence[Placement]) -> dict[int, list[Placement]]:
    runs: dict[int, list[Placement]] = {}
    for one in placements:
        runs.setdefault(one.wf, []).append(one)
    return runs


def _reached(one: Placement) -> bool:
    return one.pred_ms is not None and math.isfinite(one.pred_ms) and math.isfinite(one.data_ms or 0.0)
