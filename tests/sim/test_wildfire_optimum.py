"""The least critical path of a wildfire workflow: against every combination of nodes, and against the planner."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from edgeagent.simulator.wildfire_case import Case, Instance
from edgeagent.simulator.wildfire_make import WildfireRecipe, make_case
from edgeagent.simulator.wildfire_optimum import optimum_ms, starting_free
from edgeagent.simulator.wildfire_ours import ours
from edgeagent.simulator.wildfire_play import Networks, play


@pytest.fixture(scope="module")
def small() -> Case:
    return make_case(WildfireRecipe(planes=5, sats_per_plane=6, edge_nodes=8, ground_stations=3, seed=4))


def _by_hand(case: Case, networks: Networks, instance: Instance) -> float:
    """Every combination of three nodes, one after the other, by the rules alone."""
    free, best = starting_free(case), math.inf
    ways = [networks.at(instance.decision_times[name]).many(np.arange(case.nodes)) for name, _ in case.tasks]
    able = []
    for index, (_, task) in enumerate(case.tasks):
        after, recommended, _ = case.heat_c(task)
        fits = case.architecture_fits(task) & (after <= recommended)
        fits &= (free >= (task.milli_cpu, task.memory_mib)).all(axis=1)
        able.append([node for node in np.flatnonzero(fits) if not (index and node == instance.eo_satellite)])
    for nodes in itertools.product(*able):
        total, before = 0.0, instance.ingest_node
        for index, (node, (_, task)) in enumerate(zip(nodes, case.tasks, strict=True)):
            leg = ways[index][before, node]
            data = ways[index][instance.eo_satellite, node] if task.data_source else 0.0
            shared = index > 0 and node == before
            demand = np.array([task.milli_cpu, task.memory_mib])
            if shared:
                earlier = case.tasks[index - 1][1]
                demand += np.array((earlier.milli_cpu, earlier.memory_mib))
            within = leg <= (task.max_pred_latency_ms or math.inf)
            within &= data <= (task.max_data_latency_ms or math.inf)
            if not within or (free[node] < demand).any():
                total = math.inf
            total, before = total + max(leg, data), int(node)
        best = min(best, total)
    return best


def test_it_is_the_least_of_every_combination(small: Case) -> None:
    networks, free = Networks(small), starting_free(small)
    found = [optimum_ms(small, networks, one, free) for one in small.instances]
    assert found == pytest.approx([_by_hand(small, networks, one) for one in small.instances])
    for one, least in zip(small.instances, found, strict=True):
        if math.isfinite(least):  # a placement that is known only makes the search shorter
            assert optimum_ms(small, networks, one, free, least) == least
            assert optimum_ms(small, networks, one, free, least - 1.0) == math.inf


def test_the_planner_leaves_next_to_nothing() -> None:
    case = make_case(WildfireRecipe(seed=2003, start_minute=411, centre=(38.1, 23.6)))
    networks, free = Networks(case), starting_free(case)
    found = play(case, ours, networks=networks).finished()
    assert len(found) == 5
    for one in case.instances:
        least = optimum_ms(case, networks, one, free, found[one.wf][0])
        assert least <= found[one.wf][0] <= 1.1 * least
