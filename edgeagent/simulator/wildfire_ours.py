"""Our planner in a placement case: at every decision all steps to come are planned, for the times at which they run.

Where the data source is not known yet, it is known what it may be (``wildfire_guess.py``). For each of these the
planner's bounds tell what the steps to come cost at least behind each node that the next step may take; the mean is the
price of the node (two-stage planning with recourse). A node behind which the steps to come have no place within their
limits, should that be the source, costs far more than any way: what can hedge does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

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


def _step(turn: Turn, index: int, source: int | None, *, warm: bool) -> PlanStep:
    """Task ``index`` behind the step before it; ``warm`` lets satellites pass the recommended temperature."""
    name, task = turn.case.tasks[index]
    t = turn.instance.decision_times[name]
    after, recommended, highest = turn.case.heat_c(task)
    allowed = np.isin(turn.case.architectures, task.archs) & (after <= (highest if warm else recommended))
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
    """What the steps behind the next one cost at least, for each node that it may take: the mean over the sources."""
    count = len(turn.case.tasks)
    waiting = [index for index in range(turn.index + 1, count) if turn.case.tasks[index][1].data_source]
    total = np.zeros(turn.case.nodes)
    if turn.index + 1 == count:
        return total
    weight = _SETTINGS.spread_weight
    if not waiting:
        steps = [_step(turn, index, None, warm=warm) for index in range(turn.index, count)]
        return bounds_ahead([_before(turn), *steps], weight).below[1]
    some = np.zeros(turn.case.nodes, dtype=np.bool_)
    for source, share in possible_sources(turn):
        steps = [_step(turn, index, source, warm=warm) for index in range(turn.index, count)]
        behind = bounds_ahead([_before(turn), *steps], weight).below[1]
        goes_on = np.isfinite(behind)
        total += share * np.where(goes_on, behind, _STUCK_MS)
        some |= goes_on
    return np.where(some, total, np.inf)


def _planned(turn: Turn, refused: Sequence[int], *, warm: bool) -> int:
    """The node of the next step in the best plan without those that refused it. Raises NoFeasibleNode."""
    count = len(turn.case.tasks)
    source = turn.instance.eo_satellite if turn.source_known else None
    last = count if turn.source_known else turn.index + 1
    steps = [_step(turn, index, source, warm=warm) for index in range(turn.index, last)]
    steps[0].allowed[list(refused)] = False
    costs = None if turn.source_known else _expected_ms(turn, warm=warm)
    if costs is not None:
        fields = {name: getattr(steps[0], name) for name in steps[0].__dataclass_fields__}
        fields["cost_ms"] = costs
        steps[0] = PlanStep(**fields)
    jitter = None
    if turn.view_age_s > 0.0:
        jitter = np.random.default_rng(turn.number).uniform(
            0.0, _JITTER_MS, (len(steps) + 1, turn.case.nodes)
        )
        jitter[0] = 0.0
        jitter[2:] = 0.0
    return plan_workflow([_before(turn), *steps], turn.free, _SETTINGS, jitter_ms=jitter).nodes[1]


def ours(turn: Turn) -> Iterator[int]:
    """The node of the next step in the best plan for all steps to come; after a refusal, of the best plan without it."""
    refused: list[int] = []
    for warm in (False, True):
        while len(refused) < _TRIES_MAX:
            try:
                node = _planned(turn, refused, warm=warm)
            except NoFeasibleNode:
                break
            yield node
            refused.append(node)
