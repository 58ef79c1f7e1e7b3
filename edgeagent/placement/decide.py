"""Decides where steps run, at the node that is asked, from what it computed and heard; nobody else is asked.

Each step is planned for the time at which it will run: the network, the sun and the batteries are those of then. All
steps are planned together (``planner.py``): the ways between them, to their data and back to who waits, and what they
cost where they run (``scores.py``), among the nodes that the filters leave (``filters.py``, ``bodies.py``). No node is
left out by a cap. A little chance decides between nodes that are about as good, so that those who decide at the same
time on the same views do not all choose one.

The first plan uses estimated times; where the ways in it move a step's beginning too far, it is planned again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeagent.placement.bounds import bounds_ahead
from edgeagent.placement.decision import Choice, Decision, StepExplanation
from edgeagent.placement.errors import PlanRefused
from edgeagent.placement.network import Network
from edgeagent.placement.outlook import Outlook
from edgeagent.placement.reasons import explained, lying, why
from edgeagent.placement.settings import Chance, DecideSettings
from edgeagent.placement.table import NodeTable
from edgeagent.placement.views import NodeView, StepAsk
from edgeagent.placement.work import Work, check_asks

__all__ = ["Chance", "Choice", "DecideSettings", "Decision", "StepExplanation", "decide"]

Floats = NDArray[np.float64]
DEFAULTS = DecideSettings()


def decide(
    asks: Sequence[StepAsk],
    nodes: Sequence[NodeView],
    network: Network,
    *,
    here: str,
    now_s: float,
    orbital_speed: float = 1.0,
    chance: Chance,
    settings: DecideSettings = DEFAULTS,
) -> Decision:
    """Where each of ``asks`` runs. ``nodes`` are in the order of ``network.ids``; ``here`` is the one that decides.

    ``now_s`` is orbital time, of which ``orbital_speed`` seconds pass in a real one; heat and batteries go by it too.
    Raises PlanRefused for asks and views that cannot be, NoFeasibleNode (its ``constraint`` is what binds) where a step
    has no node.
    """
    check_asks(asks)
    table = NodeTable(nodes, network.ids, settings)
    row = table.row.get(here)
    if row is None:
        raise PlanRefused(f"the node that decides, {here!r:.60}, is not among them", hint="give its view too")
    draws = np.random.default_rng(int(chance.random() * 2**53)).random((len(asks), table.nodes))
    work = Work(
        asks,
        table,
        Outlook(network, orbital_speed, settings),
        settings,
        here=row,
        now_s=now_s,
        jitter_draws=draws,
    )
    starts = work.starts_ms()
    plan = work.plan(starts)
    moved = work.starts_ms(plan.nodes[1:], starts)
    shift_ms = max((abs(one - other) for one, other in zip(starts, moved, strict=True)), default=0.0)
    if shift_ms / 1000.0 * orbital_speed > settings.replan_s:
        starts = moved
        plan = work.plan(starts)
    outcome = _Outcome(work, starts, plan.nodes[1:])
    return Decision(
        choices=outcome.choices(),
        total_ms=outcome.total_ms(),
        exact=plan.exact,
        cost_ms=plan.total_ms,
        explain=outcome.explanations,
    )


class _Outcome:
    """A plan in words: its choices, and what each node would have been for each step behind the ones chosen."""

    def __init__(self, work: Work, starts_ms: Sequence[float], nodes: Sequence[int]) -> None:
        self._work, self._starts, self._nodes = work, starts_ms, nodes
        self._chosen = dict(enumerate(nodes))
        # What is reported is what the ways and times of the plan add up to, not what it was looked at for.
        self._begins = work.starts_ms(nodes, starts_ms)

    def total_ms(self) -> float:
        """Until the last step has run and its result is back."""
        last = 0.0
        for index, ask in enumerate(self._work.asks):
            looked = self._starts[index]
            if not ask.fixed:
                runs = self._work.predicted_ms(index, self._nodes, looked)
                back = float(self._work.look(index, looked).scores.back[self._nodes[index]])
                last = max(last, self._begins[index] + runs + back)
        return last

    def _ways(self, index: int) -> tuple[Floats, Floats]:
        """(longest path, payload on it) into a step, for each node."""
        work, start = self._work, self._starts[index]
        at = work.look(index, start).window.start_s
        paths, payloads = [], []
        for row in work.anchors(index, self._chosen) or [work.here]:
            path = work.outlook.ways_ms(row, at) + work.settings.hop_ms
            path[row] = 0.0
            paths.append(path)
            payloads.append(work.payload_ms(index, row, at))
        return np.maximum.reduce(paths), np.maximum.reduce(payloads)

    def _totals(self, index: int) -> tuple[Floats, int]:
        """The scores of one step, infinite where a filter removed the node; how many are left."""
        work, start = self._work, self._starts[index]
        scores = work.look(index, start).scores
        path, payload = self._ways(index)
        data = np.zeros(work.table.nodes) if scores.data is None else scores.data
        leg = path + payload
        weight = work.settings.planner.spread_weight
        totals = np.maximum(leg, data) + weight * (leg + data) + scores.own
        passed = np.logical_and.reduce(
            [np.isfinite(totals), *(one.passed for one in work.filters(index, start, self._chosen))]
        )
        return np.where(passed, totals, np.inf), int(passed.sum())

    def choices(self) -> tuple[Choice, ...]:
        work = self._work
        ahead = bounds_ahead(work.steps, work.settings.planner.spread_weight) if len(work.asks) > 1 else None
        return tuple(
            self._choice(index, None if ahead is None else ahead.below[index + 1][: work.table.nodes])
            for index in range(len(work.asks))
        )

    def _choice(self, index: int, below: Floats | None) -> Choice:
        work, node, start = self._work, self._nodes[index], self._starts[index]
        ask, name = work.asks[index], work.table.ids[node]
        start_s = work.now_s + self._begins[index] / 1000.0 * work.outlook.speed
        if ask.fixed:
            placed = Choice(
                step=ask.name, node=name, why="", predicted_ms=0.0, start_s=start_s, ranked=(name,)
            )
            return _with_why(placed, why(ask, placed, 1, work.table.nodes, None))
        totals, left = self._totals(index)
        worth = totals + work.jitter_ms(index, work.steps[index + 1])
        if below is not None:
            worth = worth + below
        order = [row for row in _best(worth, work.settings.ranked_max + 1) if row != node]
        ranked = (node, *order[: work.settings.ranked_max - 1])
        scores = work.look(index, start).scores
        choice = Choice(
            step=ask.name,
            node=name,
            why="",
            predicted_ms=work.predicted_ms(index, self._nodes, start),
            legs_ms=tuple(work.legs_ms(index, self._nodes, start)),
            data_ms=0.0 if scores.data is None else float(scores.data[node]),
            exec_ms=float(scores.execution[node]),
            queue_ms=float(scores.queue[node]),
            transfer_ms=float(scores.code[node]),
            start_s=start_s,
            ranked=tuple(work.table.ids[row] for row in ranked),
        )
        other = (work.table.ids[order[0]], float(totals[order[0]] - totals[node])) if order else None
        return _with_why(choice, why(ask, choice, left, work.table.nodes, other))

    def explanations(self) -> tuple[StepExplanation, ...]:
        work = self._work
        made = []
        for index, ask in enumerate(work.asks):
            start = self._starts[index]
            if ask.fixed:
                made.append(lying(ask, work.table))
                continue
            made.append(
                explained(
                    ask,
                    work.table,
                    work.filters(index, start, self._chosen),
                    work.look(index, start).scores,
                    self._ways(index),
                    self._totals(index)[0],
                    work.table.ids[self._nodes[index]],
                )
            )
        return tuple(made)


def _best(worth: Floats, count: int) -> list[int]:
    """The rows of the least finite values, the least first."""
    finite = np.flatnonzero(np.isfinite(worth))
    order = np.argsort(worth[finite], kind="stable")[:count]
    return [int(row) for row in finite[order]]


def _with_why(choice: Choice, reason: str) -> Choice:
    return msgspec.structs.replace(choice, why=reason)
