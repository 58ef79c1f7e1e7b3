"""One decision in the making: the windows, filters and scores of its steps, and the plans that they give.

A step's ways are known when it is known where the steps before it run. The planner knows latencies between all pairs;
bandwidths it is told from one row, so where they matter the steps are fixed one after another and the rest is planned
again behind them, with one step back where that ends without a node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from edgeagent.placement.bodies import battery_filter, thermal_filter
from edgeagent.placement.errors import NoFeasibleNode, PlanRefused
from edgeagent.placement.filters import Filter, contact_filter, data_filters, edge_filters, node_filters
from edgeagent.placement.outlook import Outlook, Window
from edgeagent.placement.planner import plan_workflow
from edgeagent.placement.reasons import infeasible, together
from edgeagent.placement.scores import Scores, scores_of
from edgeagent.placement.settings import DecideSettings
from edgeagent.placement.steps import Plan, PlanStep
from edgeagent.placement.table import NodeTable
from edgeagent.placement.views import StepAsk

__all__ = ["Looked", "Work", "check_asks"]

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
A = TypeVar("A", NDArray[np.bool_], NDArray[np.float64])


@dataclass(frozen=True, eq=False)
class Looked:
    """What one step finds in one window, wherever the steps before it run."""

    window: Window
    filters: list[Filter]
    allowed: Flags
    scores: Scores


def check_asks(asks: Sequence[StepAsk]) -> None:
    """Raises PlanRefused unless steps follow earlier ones only, once each, and take a time."""
    for index, ask in enumerate(asks):
        if any(not 0 <= before < index for before in ask.after) or len({*ask.after}) != len(ask.after):
            raise PlanRefused(
                f"step {ask.name!r:.60} follows {ask.after}", hint="put every step behind those it follows"
            )
        if not (0.0 <= ask.exec_ms < np.inf and 0.0 < ask.wall_ms < np.inf):
            raise PlanRefused(f"step {ask.name!r:.60} takes no time that can be", hint="give milliseconds")


def _parallel(asks: Sequence[StepAsk]) -> list[bool]:
    """Whether some other step may run at the same time as this one."""
    behind: list[set[int]] = []
    for ask in asks:
        behind.append(set(ask.after).union(*(behind[before] for before in ask.after)))
    return [
        any(
            other != index and index not in behind[other] and other not in behind[index]
            for other in range(len(asks))
        )
        for index in range(len(asks))
    ]


class Work:
    """``here`` is a row; ``jitter_draws`` ``(steps, nodes)`` from 0 to 1."""

    def __init__(
        self,
        asks: Sequence[StepAsk],
        table: NodeTable,
        outlook: Outlook,
        settings: DecideSettings,
        *,
        here: int,
        now_s: float,
        jitter_draws: Floats,
    ) -> None:
        self.asks, self.table, self.outlook, self.settings = asks, table, outlook, settings
        self.here, self.now_s = here, now_s
        self._draws = jitter_draws
        self._parallel = _parallel(asks)
        self._looked: dict[tuple[int, float], Looked] = {}
        self.steps: list[PlanStep] = []  # of the last plan, the one that decides in front

    def pinned_row(self, ask: StepAsk) -> int | None:
        return self.table.row.get(ask.pinned) if ask.pinned else None

    # The windows

    def starts_ms(self, nodes: Sequence[int] | None = None, looked_ms: Sequence[float] = ()) -> list[float]:
        """When each step's input sets out, in real ms from now: by estimates alone, or on the planned ``nodes``.

        ``looked_ms`` are the times for which the plan was made: ways and queues are those of then.
        """
        ends: list[float] = []
        starts: list[float] = []
        for index, ask in enumerate(self.asks):
            start = max((ends[before] for before in ask.after), default=0.0)
            starts.append(start)
            if ask.fixed:
                ends.append(start)
            elif nodes is None:
                ends.append(start + ask.exec_ms)
            else:
                ends.append(start + self.predicted_ms(index, nodes, looked_ms[index]))
        return starts

    def predicted_ms(self, index: int, nodes: Sequence[int], start_ms: float) -> float:
        """From the end of the steps before until this one has run on its planned node."""
        looked = self.look(index, start_ms)
        data = 0.0 if looked.scores.data is None else float(looked.scores.data[nodes[index]])
        waits = max([data, *self.legs_ms(index, nodes, start_ms)])
        return waits + float(looked.scores.runs[nodes[index]])

    def window(self, index: int, start_ms: float) -> Window:
        ask = self.asks[index]
        real = ask.exec_ms if ask.exec_known else ask.exec_ms * self.settings.unknown_factor
        return self.outlook.window(
            self.now_s + start_ms / 1000.0 * self.outlook.speed, min(real, max(ask.wall_ms, ask.exec_ms))
        )

    # Filters and scores

    def look(self, index: int, start_ms: float) -> Looked:
        """Filters and scores of a step that do not depend on where others run."""
        window = self.window(index, start_ms)
        looked = self._looked.get((index, window.start_s))
        if looked is None:
            looked = self._looked[index, window.start_s] = self._look(index, window, lazy=True)
        return looked

    def _look(self, index: int, window: Window, *, lazy: bool) -> Looked:
        """``lazy``: what is dear is asked of nodes alone that passed all before."""
        ask, table = self.asks[index], self.table
        filters = node_filters(ask, table)
        if ask.data_source:
            source = table.row.get(ask.data_source)
            if source is None:
                raise NoFeasibleNode(
                    f"the data source {ask.data_source!r:.60} of step {ask.name!r:.60} is not known",
                    hint="name a node that is a member, or wait until it is heard of",
                    step=ask.name,
                    constraint="data-source",
                )
            filters += data_filters(ask, source, window, self.outlook)
        every = np.ones(table.nodes, dtype=np.bool_)

        def alive() -> Flags:
            return np.logical_and.reduce([every, *(one.passed for one in filters)]) if lazy else every

        thermal, end_c = thermal_filter(table, window, self.now_s, self.outlook, alive())
        filters.append(thermal)
        filters.append(battery_filter(table, window, self.now_s, self.outlook, self.settings, alive()))
        target = table.row.get(ask.returns_to)
        if target is not None:
            filters.append(contact_filter(ask, target, window, self.outlook, alive()))
        scores = scores_of(ask, table, window, self.outlook, here=self.here, end_c=end_c)
        return Looked(window, filters, alive(), scores)

    def anchors(self, index: int, nodes: Mapping[int, int]) -> list[int] | None:
        """The rows that a step's input comes from; None where some are not known yet."""
        if not self.asks[index].after:
            return [self.here]
        rows = [nodes.get(before, self.pinned_row(self.asks[before])) for before in self.asks[index].after]
        return None if None in rows else [row for row in rows if row is not None]

    def filters(self, index: int, start_ms: float, nodes: Mapping[int, int]) -> list[Filter]:
        """All filters of a step, those of its edges among them where they are known."""
        looked, rows = self.look(index, start_ms), self.anchors(index, nodes)
        return looked.filters + self._edges(index, looked.window, rows)

    def _edges(self, index: int, window: Window, rows: list[int] | None) -> list[Filter]:
        if rows is None:
            return []
        return edge_filters(self.asks[index], rows, window, self.outlook, self.table.ids)

    def payload_ms(self, index: int, row: int | None, start_s: float) -> Floats:
        """What the payload of one edge takes on the wire, from ``row`` to all nodes."""
        ask = self.asks[index]
        count = ask.state_bytes + ask.bytes_in // max(len(ask.after), 1)
        if row is None:
            return np.full(self.table.nodes, self.outlook.assumed_ms(count))
        return self.outlook.sending_ms(count, row, start_s)

    def legs_ms(self, index: int, nodes: Sequence[int], start_ms: float) -> list[float]:
        """The legs into a step on its planned node, with hand-over and payload."""
        rows = self.anchors(index, dict(enumerate(nodes))) or []
        at, node = self.look(index, start_ms).window.start_s, nodes[index]
        return [
            0.0
            if row == node
            else float(self.outlook.ways_ms(row, at)[node])
            + float(self.payload_ms(index, row, at)[node])
            + self.settings.hop_ms
            for row in rows
        ]

    # Plans

    def plan(self, starts_ms: Sequence[float]) -> Plan:
        """The plan for steps that start then. Raises NoFeasibleNode."""
        banned: dict[int, set[int]] = {}
        pins: dict[int, int] = {}
        plan = self._solve(starts_ms, pins, banned)
        waiting = [index for index in range(len(self.asks)) if self._needs_rates(index, starts_ms[index])]
        before = self._pinned_in_turn(waiting)
        at = retries = 0
        first: NoFeasibleNode | None = None
        while at < len(before):
            step = before[at]
            pins[step] = plan.nodes[step + 1]
            try:
                plan = self._solve(starts_ms, pins, banned)
                at += 1
            except NoFeasibleNode as refused:
                first, retries = first or refused, retries + 1
                banned.setdefault(step, set()).add(pins.pop(step))
                plan = self._solve_or(
                    starts_ms, pins, banned, first, stop=retries > self.settings.retries_max
                )
        return Plan(plan.chosen, plan.total_ms, plan.exact and not before, plan.candidates)

    def _pinned_in_turn(self, waiting: Sequence[int]) -> list[int]:
        """The steps before those that wait for bandwidths: all where one is asked for, else the first few, for each
        takes a plan of its own, and what lies further ahead is planned again before it is due.
        """
        asked = {
            one for index in waiting if self.asks[index].mbit_s_min > 0.0 for one in self.asks[index].after
        }
        near = sorted({one for index in waiting for one in self.asks[index].after})
        return sorted(asked | set(near[: self.settings.rates_ahead_max]))

    def _solve_or(
        self,
        starts_ms: Sequence[float],
        pins: Mapping[int, int],
        banned: Mapping[int, set[int]],
        first: NoFeasibleNode,
        *,
        stop: bool,
    ) -> Plan:
        """The plan without the banned nodes; where there is none, what was wrong at ``first``."""
        if stop:
            raise first
        try:
            return self._solve(starts_ms, pins, banned)
        except NoFeasibleNode:
            raise first from None

    def _needs_rates(self, index: int, start_ms: float) -> bool:
        """Whether bandwidths matter on edges into this step, and are known, though not from where they come."""
        ask = self.asks[index]
        if ask.fixed or self.anchors(index, {}) is not None:
            return False
        if ask.mbit_s_min > 0.0:
            return True
        rates = self.outlook.mbit_s(self.here, self.window(index, start_ms).start_s)
        slowest = float(rates[np.isfinite(rates) & (rates > 0.0)].min(initial=np.inf))
        count = ask.bytes_in + ask.state_bytes
        return count * 8.0 / (slowest * 1e3) > self.settings.jitter_ms

    def _solve(
        self, starts_ms: Sequence[float], pins: Mapping[int, int], banned: Mapping[int, set[int]]
    ) -> Plan:
        rows = self.outlook.graph(self.now_s).nodes
        free = np.zeros((rows, 1))
        free[: self.table.nodes, 0] = self.table.memory_bytes
        self.steps = [self._root(rows)]
        jitter = np.zeros((len(self.asks) + 1, rows))
        for index, start in enumerate(starts_ms):
            step = self._step(index, start, pins, banned.get(index, set()))
            self.steps.append(step)
            jitter[index + 1, : self.table.nodes] = self.jitter_ms(index, step)
        try:
            return plan_workflow(self.steps, free, self.settings.planner, jitter_ms=jitter)
        except NoFeasibleNode as refused:
            raise together(self.steps, refused) from None

    def _root(self, rows: int) -> PlanStep:
        allowed = np.zeros(rows, dtype=np.bool_)
        allowed[self.here] = True
        return PlanStep(
            name="here",
            graph=self.outlook.graph(self.now_s),
            allowed=allowed,
            demand=(0.0,),
        )

    def _step(self, index: int, start_ms: float, pins: Mapping[int, int], banned: set[int]) -> PlanStep:
        ask = self.asks[index]
        graph = self.outlook.graph(self.window(index, start_ms).start_s)
        if ask.fixed:
            return self._fixed(ask, graph.nodes, start_ms)
        looked, rows = self.look(index, start_ms), self.anchors(index, pins)
        allowed = looked.allowed
        for one in self._edges(index, looked.window, rows):
            allowed = allowed & one.passed
        if not allowed.any():
            raise infeasible(
                ask,
                self._look(index, looked.window, lazy=False).filters
                + self._edges(index, looked.window, rows),
                self.table,
            )
        own, data = looked.scores.own, looked.scores.data
        allowed = allowed & np.isfinite(own)
        if banned:
            allowed = allowed.copy()
            allowed[list(banned)] = False
        if index in pins:
            allowed = allowed & (np.arange(self.table.nodes) == pins[index])
        at = looked.window.start_s
        sources: list[int | None] = [*rows] if rows else [None]
        payload = np.maximum.reduce([self.payload_ms(index, row, at) for row in sources])
        return PlanStep(
            name=ask.name,
            graph=graph,
            allowed=_padded(allowed, graph.nodes, fill=False),
            after=tuple(before + 1 for before in ask.after) or (0,),
            latency_ms_max=ask.latency_ms_max,
            cost_ms=_padded(own, graph.nodes, fill=np.inf),
            data_ms=None if data is None else _padded(data, graph.nodes, fill=np.inf),
            demand=(float(ask.memory_bytes) if self._parallel[index] else 0.0,),
            send_ms=np.full(graph.nodes, self.settings.hop_ms),
            receive_ms=_padded(payload, graph.nodes, fill=0.0),
        )

    def _fixed(self, ask: StepAsk, rows: int, start_ms: float) -> PlanStep:
        """A step whose output lies on a node already: no way, no cost."""
        allowed = np.zeros(rows, dtype=np.bool_)
        row = self.pinned_row(ask)
        if row is None:
            raise infeasible(ask, node_filters(ask, self.table), self.table)
        allowed[row] = True
        graph = self.outlook.graph(self.now_s + start_ms / 1000.0 * self.outlook.speed)
        return PlanStep(name=ask.name, graph=graph, allowed=allowed, demand=(0.0,))

    def jitter_ms(self, index: int, step: PlanStep) -> Floats:
        """A little more cost, by chance, for all but the node that decides: the work of a node may stay there."""
        ask = self.asks[index]
        if ask.fixed or step.cost_ms is None:
            return np.zeros(self.table.nodes)
        cost = step.cost_ms if step.data_ms is None else step.cost_ms + step.data_ms
        best = float(cost[step.allowed].min(initial=np.inf))
        best = best if np.isfinite(best) else 0.0
        reach = max(self.settings.jitter_share * best, self.settings.jitter_ms)
        noise = self._draws[index] * reach
        if not ask.after:
            noise[self.here] = 0.0
        return np.asarray(noise)


def _padded(values: A, rows: int, *, fill: float) -> A:
    """With ``fill`` for the rows behind the nodes, which only pass on."""
    padded = np.full(rows, fill, dtype=values.dtype)
    padded[: len(values)] = values
    return cast(A, padded)
