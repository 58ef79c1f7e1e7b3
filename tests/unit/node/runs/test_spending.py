"""What runs cost, by list prices."""

from __future__ import annotations

import pytest

from edgeagent.cost.energy import DRAWS, ENERGY_PRICES, energy_usd, joules
from edgeagent.cost.prices import PRICES, gpu_usd_s
from edgeagent.node.result import Result
from edgeagent.node.runs.spending import call_usd, planned_usd, ran, spent_usd
from tests.unit.node.runs.samples import record


def test_a_core_second_and_what_leaves_over_a_priced_link() -> None:
    second = PRICES["cloud"].usd_per_cpu_s
    assert call_usd("cloud", 1000.0, 0) == pytest.approx(second)
    assert call_usd("cloud", 1000.0, 1 << 30) == pytest.approx(second + 0.12)
    assert call_usd("edge", 0.0, 1 << 30) == 0.0


def test_a_plan_is_the_sum_of_its_steps_by_the_kinds_of_their_nodes() -> None:
    kinds = {"a": "cloud", "b": "edge"}
    steps = [("a", 500.0, 0), ("b", 500.0, 0)]
    wanted = 0.5 * (PRICES["cloud"].usd_per_cpu_s + PRICES["edge"].usd_per_cpu_s)
    wanted += energy_usd(joules(DRAWS["edge"].core_w, 500.0), ENERGY_PRICES["edge"].usd_per_kwh)
    assert planned_usd(steps, kinds) == pytest.approx(wanted)


def test_what_a_node_tells_of_its_joules_goes_before_the_table() -> None:
    step = record({"name": "a", "function": "f"}).steps[0]
    took = Result(output=b"", duration_us=1_000_000, energy_uj=36_000_000, gpu_us=500_000)
    for _ in range(2):
        ran(step, "satellite", took, 0)
    second = PRICES["satellite"].usd_per_cpu_s
    # A second of a core, half a second of the GPU, a hundred thousandth of a kilowatt-hour.
    one = second + 0.5 * gpu_usd_s("satellite") + 1e-5 * ENERGY_PRICES["satellite"].usd_per_kwh
    assert step.energy_j == pytest.approx(72.0)
    assert step.cost_usd == pytest.approx(2.0 * one)
    earlier = record({"name": "a", "function": "f"}).steps[0]
    ran(earlier, "satellite", Result(output=b"", duration_us=1_000_000), 0)  # a node of an earlier version
    assert earlier.energy_j == 0.0
    assert earlier.cost_usd == call_usd("satellite", 1000.0, 0) > second


def test_what_was_spent_is_of_all_steps() -> None:
    run = record({"name": "a", "function": "f"}, {"name": "b", "function": "f", "after": ["a"]})
    for step in run.steps:
        step.cost_usd = 0.25
    assert spent_usd(run) == pytest.approx(0.25 * len(run.steps))
