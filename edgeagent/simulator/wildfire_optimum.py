"""The least critical path that any placement of a case's workflows can have: exhaustive, over the network itself.

For each workflow alone, as if it were the first: all nodes have what they have at the start of the case, and its data
source is known. So no scheduler can be below, whatever it knows; one that is as low has nothing left to gain. What is
asked of a placement is what the planner is asked: resources, architecture, the limits of latency, the recommended
temperature, and two tasks that follow each other on one node only where it takes both.

It owes nothing to the planner: a placement that is known bounds all legs of a better one, so the nodes within that
reach are all that can matter, and over these the latencies of all pairs are computed and every combination is weighed,
task by task.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgeagent.simulator.wildfire_case import Case, Instance, Task
from edgeagent.simulator.wildfire_play import Networks

__all__ = ["optimum_ms", "starting_free"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

_SLACK_MS = 1e-6  # what is as good as the known placement is to be found again


def starting_free(case: Case) -> Floats:
    """MCPU and MiB of every node ``(nodes, 2)`` before the first decision: the first tasks run where data comes in."""
    free = case.capacity.copy()
    first = case.document.workflow.tasks[case.document.workflow.chain[0]]
    for one in case.instances:
        free[one.ingest_node] -= (first.milli_cpu, first.memory_mib)
    return free


def _limit(limit: float | None, reach_ms: float) -> float:
    return reach_ms if limit is None else min(limit, reach_ms)


def _able(case: Case, instance: Instance, index: int, task: Task, free: Floats) -> NDArray[np.bool_]:
    """Which nodes may take a task, wherever the others run."""
    after, recommended, _ = case.heat_c(task)
    able = case.architecture_fits(task) & (after <= recommended)
    able &= (free >= (task.milli_cpu, task.memory_mib)).all(axis=1)
    if index > 0:
        able[instance.eo_satellite] = False  # it gathers data then
    return able


def optimum_ms(
    case: Case, networks: Networks, instance: Instance, free: Floats, known_ms: float = math.inf
) -> float:
    """The least critical path of a workflow, infinite where there is none of at most ``known_ms``.

    ``free`` is as of :func:`starting_free`. Without a known placement all nodes are weighed against all.
    """
    reach = known_ms + _SLACK_MS
    nodes: Rows = np.array([instance.ingest_node], dtype=np.intp)
    best = np.zeros(1)
    before: Task | None = None
    for index, (name, task) in enumerate(case.tasks):
        t = instance.decision_times[name]
        able = _able(case, instance, index, task, free)
        waits = np.zeros(case.nodes)
        if task.data_source is not None:
            waits = networks.from_ms(instance.eo_satellite, t)
            able &= waits <= _limit(task.max_data_latency_ms, reach)
        following = np.flatnonzero(able)
        limit = _limit(task.max_pred_latency_ms, reach)
        legs = networks.at(t).many(nodes, bound=limit)[:, following]
        costs = best[:, np.newaxis] + np.where(legs <= limit, np.maximum(legs, waits[following]), np.inf)
        if before is not None:
            both = (before.milli_cpu + task.milli_cpu, before.memory_mib + task.memory_mib)
            crowded = (free[following] < both).any(axis=1)
            costs[(nodes[:, np.newaxis] == following) & crowded] = np.inf
        least = costs.min(axis=0, initial=np.inf)
        within = least <= reach
        within &= np.isfinite(least)
        nodes, best, before = following[within], least[within], task
        if not len(nodes):
            return math.inf
    return float(best.min())
