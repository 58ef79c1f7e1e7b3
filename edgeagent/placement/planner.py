"""Plans a whole workflow at once: which node runs each step, so that data waits and costs the least.

What is minimized is the sum over the steps of max(legs, data leg) + w (sum of legs) + cost: the critical path, a
little of every way that is taken (w keeps links free that make nothing faster), and what running on the node costs.
Three stages:

1. Bounds (``bounds.py``): for every step and every node what the whole plan costs at least. All nodes are weighed.
2. A first plan: step by step the node that is best by the bounds. No plan is worth more than what this one costs, so
   only nodes survive whose bound is not above it.
3. The search over the survivors (``search.py``), which respects what steps take from one node together.

The result is exact for any acyclic workflow as long as neither ``survivors_max`` nor ``branches_max`` cuts the search
short; ``Plan.exact`` says so. Cut short it is the best of what was seen, never worse than the first plan.

Time: two searches over the network for each edge and direction, O(links log nodes) each, and the survivors, few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeagent.placement.bounds import Ahead, bounds_ahead, bounds_own, bounds_whole
from edgeagent.placement.errors import NoFeasibleNode, PlanRefused
from edgeagent.placement.search import legs_ms, search, survivors_of
from edgeagent.placement.steps import Chosen, Plan, PlanStep, check_steps

__all__ = ["PlannerSettings", "plan_workflow"]

_SLACK_MS = 1e-9  # sums of the same numbers in another order
_REACH_MS = 64.0

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class PlannerSettings:
    """``spread_weight`` is w above; ``survivors_max`` bounds the nodes a step to search, ``branches_max`` it all."""

    spread_weight: float = 0.1
    survivors_max: int = 96
    branches_max: int = 20_000

    def __post_init__(self) -> None:
        if not 0.0 < self.spread_weight < math.inf or self.survivors_max < 1 or self.branches_max < 1:
            raise PlanRefused("a weight or a bound of the planner is not positive", hint="give more than 0")


def plan_workflow(
    steps: Sequence[PlanStep],
    free: Floats,
    settings: PlannerSettings = PlannerSettings(),
    *,
    jitter_ms: Floats | None = None,
) -> Plan:
    """The best plan. ``free`` ``(nodes, resources)`` is what the nodes have; steps on one node share it.

    ``jitter_ms`` ``(steps, nodes)`` is added to the costs, so that not all who decide at once choose one of several
    nodes that are about as good. Raises PlanRefused for steps that cannot be, NoFeasibleNode where a step has no node,
    or the steps none together.
    """
    check_steps(steps, len(free))
    if not steps:
        return Plan((), 0.0, True)
    free = np.maximum(free, 0.0)  # what is overcommitted still takes steps that need nothing
    fitting = [_fitting(step, free) for step in steps]
    if jitter_ms is not None:
        fitting = [_jittered(step, noise) for step, noise in zip(fitting, jitter_ms, strict=True)]
    weight = settings.spread_weight
    ahead, first = _looked_ahead(fitting, free, weight)
    rows, cut = _survivors(bounds_whole(fitting, ahead, weight, first[0] + _SLACK_MS), first, settings)
    tables = survivors_of(fitting, rows, ahead.own, weight, free, most=first[0] + _SLACK_MS)
    found = search(fitting, tables, weight, free, settings.branches_max)
    nodes = first[1]
    if found.places is not None and (nodes is None or found.cost_ms <= first[0] + _SLACK_MS):
        nodes = [int(row[place]) for row, place in zip(rows, found.places, strict=True)]
    if nodes is None:
        raise NoFeasibleNode(
            "no nodes take all the steps together"
            if found.exact and not cut
            else "no plan was found in time",
            hint="free resources, loosen the latencies, or let the planner search longer",
            step=fitting[-1].name,
            constraint="capacity or latency",
        )
    return _plan(fitting, nodes, weight, exact=found.exact and not cut, rows=rows)


def _looked_ahead(
    steps: Sequence[PlanStep], free: Floats, weight: float
) -> tuple[Ahead, tuple[float, list[int] | None]]:
    """The bounds and the first plan; at first only as far as plans go that wait for ``_REACH_MS`` on their ways.

    Most do, and most of the network lies further away. A plan within the reach makes the bounds as good as those of
    the whole network: what is left out costs more than it. Raises NoFeasibleNode.
    """
    least = math.fsum(float(bound.min()) for bound in bounds_own(steps, weight))
    for most in (least + _REACH_MS, math.inf):
        ahead = bounds_ahead(steps, weight, most)
        if all(
            np.isfinite(ahead.own[index] + ahead.below[index]).any()
            for index, step in enumerate(steps)
            if not step.after
        ):
            first = _first_plan(steps, ahead, free, weight, most)
            if first[0] <= most:
                return ahead, first
    raise _infeasible(steps, weight)


def _fitting(step: PlanStep, free: Floats) -> PlanStep:
    """The step without the nodes that lack what it takes."""
    demand = np.array(step.demand, dtype=np.float64)
    if not demand.size:
        return step
    return _with(step, allowed=step.allowed & (free >= demand).all(axis=1))


def _jittered(step: PlanStep, noise: Floats) -> PlanStep:
    return _with(step, cost_ms=noise if step.cost_ms is None else step.cost_ms + noise)


def _with(step: PlanStep, **changed: NDArray[np.generic]) -> PlanStep:
    fields = {name: getattr(step, name) for name in step.__dataclass_fields__}
    return PlanStep(**{**fields, **changed})


def _infeasible(steps: Sequence[PlanStep], weight: float) -> NoFeasibleNode:
    """Names the first step that has no node behind those before it, and why."""
    step = next(
        step
        for end, step in enumerate(steps)
        if not np.isfinite(
            bounds_whole(steps[: end + 1], bounds_ahead(steps[: end + 1], weight), weight)[end]
        ).any()
    )
    if not step.allowed.any():
        what, hint = "filters", "see what removed the nodes in the explanation"
    elif step.data_ms is not None and not np.isfinite(step.data_ms[step.allowed]).any():
        what, hint = "data source", "no node that is allowed reaches it: wait for a contact, or name another"
    else:
        what, hint = "latency", "no node that is allowed can be reached: wait for a contact"
    return NoFeasibleNode(
        f"no node can run step {step.name!r:.60}: {what}", hint=hint, step=step.name, constraint=what
    )


def _first_plan(
    steps: Sequence[PlanStep], ahead: Ahead, free: Floats, weight: float, most: float
) -> tuple[float, list[int] | None]:
    """(cost, nodes) of the plan that takes the best node by the bounds, step by step; infinity and None: stuck.

    No leg is longer than ``most``, for no plan that has one costs less.
    """
    left, total = free.copy(), 0.0
    nodes: list[int] = []
    for index, step in enumerate(steps):
        cost = ahead.own[index]
        if step.after:
            ways = [_ways(step, nodes[before], most) for before in step.after]
            data = 0.0 if step.data_ms is None else np.where(np.isfinite(step.data_ms), step.data_ms, 0.0)
            cost = cost + np.maximum(np.maximum.reduce(ways) - data, 0.0) + weight * np.sum(ways, axis=0)
        demand = np.array(step.demand, dtype=np.float64)
        if demand.size:
            cost = np.where((left >= demand).all(axis=1), cost, np.inf)
        outlook = cost + ahead.below[index]
        node = int(outlook.argmin())
        if not math.isfinite(outlook[node]):
            return math.inf, None
        if demand.size:
            left[node] -= demand
        nodes.append(node)
        total += float(cost[node])
    return total, nodes


def _ways(step: PlanStep, sender: int, most: float) -> Floats:
    """The legs from one node to all, infinite over the limit, and those over ``most``."""
    ways = step.graph.tree(sender, bound=min(step.latency_ms_max, most)).distance.copy()
    if step.send_ms is not None:
        ways = ways + step.send_ms[sender]
    if step.receive_ms is not None:
        ways = ways + step.receive_ms
    ways[sender] = 0.0
    return np.asarray(ways)


def _survivors(
    wholes: Sequence[Floats], first: tuple[float, list[int] | None], settings: PlannerSettings
) -> tuple[list[Rows], bool]:
    """The nodes of each step that may be in a plan better than the first, best first; whether some were cut."""
    rows, cut = [], False
    for index, whole in enumerate(wholes):
        left = np.flatnonzero(np.isfinite(whole) & (whole <= first[0] + _SLACK_MS))
        left = left[np.argsort(whole[left], kind="stable")]
        if len(left) > settings.survivors_max:
            cut = True
            left = left[: settings.survivors_max]
            known = first[1]
            if known is not None and known[index] not in left:
                left = np.append(left, known[index])
        rows.append(left)
    return rows, cut


def _plan(
    steps: Sequence[PlanStep], nodes: Sequence[int], weight: float, *, exact: bool, rows: Sequence[Rows]
) -> Plan:
    chosen, total = [], 0.0
    for step, node in zip(steps, nodes, strict=True):
        legs = tuple(float(legs_ms(step, nodes[before], [node])[0]) for before in step.after)
        data = None if step.data_ms is None else float(step.data_ms[node])
        cost = 0.0 if step.cost_ms is None else float(step.cost_ms[node])
        one = Chosen(step.name, node, legs, data, cost)
        total += one.wait_ms + weight * (math.fsum(legs) + (data or 0.0)) + cost
        chosen.append(one)
    return Plan(tuple(chosen), total, exact, tuple(len(left) for left in rows))
