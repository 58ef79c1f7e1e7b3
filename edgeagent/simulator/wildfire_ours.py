"""Our planner in a placement case: at every decision all steps to come are planned, for the times at which they run.

Where the data source is not known yet, it is known what it may be (``wildfire_guess.py``). For each of these the
planner's bounds tell what the steps to come cost at least behind each node that the next step may take; the mean is the
price of the node (two-stage planning with recourse). A node behind which the steps to come have no place within their
limits, should that be the source, costs far more than any way: what can hedge does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeagent.placement.bounds import bounds_ahead
from edgeagent.placement.errors import NoFeasibleNode
from edgeagent.placement.planner import PlannerSettings, plan_workflow
from edgeagent.placement.steps import PlanStep
from edgeagent.simulator.wildfire_guess import possible_sources
from edgeagent.simulator.wildfire_play import Turn

__all__ = ["ours"]

_SETTINGS = PlannerSettings()
_TRIES_MAX = 8  # nodes asked, one round trip each
_JITTER_MS = 1.0  # where others may decide on the same old view: of nodes about as good, not all choose one
_STUCK_MS = 1e4  # what a workflow that cannot go on is taken to cost

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def _step(turn: Turn, index: int, source: int | None, *, warm: bool) -> PlanStep:
    """Task ``index`` behind the step before it; ``warm`` lets satellites pass the recommended temperature."""
    name, task = turn.case.tasks[index]
    t = turn.instance.decision_times[name]
    after, recommended, highest = turn.case.heat_c(task)
    allowed = turn.case.architecture_fits(task) & (after <= (highest if warm else recommended))
    allowed &= (turn.free >= (task.milli_cpu, task.memory_mib)).all(axis=1)
    data = None
    if source is not None and index > 0:
        allowed[source] = False  # it gathers data then, and takes no task
    if source is not None and task.data_source is not None:
        data = turn.networks.from_ms(source, t).copy()
        limit = task.max_data_latency_ms
        data[data > (math.inf if limit is None else limit)] = np.inf
    limit = task.max_pred_latency_ms
    return PlanStep(
        name=name,
        graph=turn.networks.at(t),
        allowed=allowed,
        after=(index - turn.index,),
        latency_ms_max=math.inf if limit is None else limit,
        data_ms=data,
        demand=(task.milli_cpu, task.memory_mib),
    )


def _before(turn: Turn) -> PlanStep:
    pinned = np.zeros(turn.case.nodes, dtype=np.bool_)
    pinned[turn.predecessor] = True
    return PlanStep(name="before", graph=turn.graph, allowed=pinned, demand=(0.0, 0.0))


def _expected_ms(turn: Turn, *, warm: bool) -> Floats:
    """What the steps behind the next one cost at least, for each node that it may take: the mean over the sources.

    Infinite where they have no place whatever the source.
    """
    count = len(turn.case.tasks)
    if turn.index + 1 == count:
        return np.zeros(turn.case.nodes)
    waiting = any(task.data_source for _, task in turn.case.tasks[turn.index + 1 :])
    total = np.zeros(turn.case.nodes)
    some = np.zeros(turn.case.nodes, dtype=np.bool_)
    for source, share in possible_sources(turn) if waiting else [(None, 1.0)]:
        steps = [_step(turn, index, source, warm=warm) for index in range(turn.index, count)]
        chain = [_changed(one, after=(place - 1,) if place else ()) for place, one in enumerate(steps)]
        behind = bounds_ahead(chain, _SETTINGS.spread_weight).below[0]
        goes_on = np.isfinite(behind) & _goes_on(steps)
        total += share * np.where(goes_on, behind, _STUCK_MS)
        some |= goes_on
    return np.where(some, total, np.inf)


def _goes_on(steps: Sequence[PlanStep]) -> Flags:
    """Behind which nodes of the first step the next ones, up to that with the data leg, have nodes within their limits.

    The bounds know no limits; those that bind are between what comes in here and data that lies far away.
    """
    last = max((place for place, step in enumerate(steps) if step.data_ms is not None), default=0)
    good = np.ones(steps[0].graph.nodes, dtype=np.bool_)
    for step in steps[last:0:-1]:
        good = good & step.allowed & (True if step.data_ms is None else np.isfinite(step.data_ms))
        if not good.any():
            return good
        way_ms, _ = step.graph.spread(np.where(good, 0.0, np.inf))
        good = way_ms <= step.latency_ms_max
    return good


def _changed(step: PlanStep, **changed: Any) -> PlanStep:
    return PlanStep(**{**{name: getattr(step, name) for name in step.__dataclass_fields__}, **changed})


def _planned(turn: Turn, refused: Sequence[int], *, warm: bool) -> int:
    """The node of the next step in the best plan without those that refused it. Raises NoFeasibleNode."""
    count = len(turn.case.tasks)
    source = turn.instance.eo_satellite if turn.source_known else None
    last = count if turn.source_known else turn.index + 1
    steps = [_step(turn, index, source, warm=warm) for index in range(turn.index, last)]
    steps[0].allowed[list(refused)] = False
    if not turn.source_known:
        steps[0] = _changed(steps[0], cost_ms=_expected_ms(turn, warm=warm))
    jitter = None
    if turn.view_age_s > 0.0:
        jitter = np.random.default_rng(turn.number).uniform(
            0.0, _JITTER_MS, (len(steps) + 1, turn.case.nodes)
        )
        jitter[0] = 0.0
        jitter[2:] = 0.0
    return plan_workflow([_before(turn), *steps], turn.free, _SETTINGS, jitter_ms=jitter).nodes[1]


def ours(turn: Turn) -> Iterator[int]:
    """The node of the next step in the best plan for all steps to come; after a refusal, in the best one without it."""
    refused: list[int] = []
    for warm in (False, True):
        while len(refused) < _TRIES_MAX:
            try:
                node = _planned(turn, refused, warm=warm)
            except NoFeasibleNode:
                break
            yield node
            refused.append(node)
