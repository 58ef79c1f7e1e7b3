"""What runs cost, by list prices."""

from __future__ import annotations

import pytest

from edgeagent.cost.prices import PRICES
from edgeagent.node.runs.spending import planned_usd, price_usd, spent_usd
from tests.unit.node.runs.samples import record


def test_a_core_second_and_what_leaves_over_a_priced_link() -> None:
    second = PRICES["cloud"].usd_per_cpu_s
    assert price_usd("cloud", 1000.0, 0) == pytest.approx(second)
    assert price_usd("cloud", 1000.0, 1 << 30) == pytest.approx(second + 0.12)
    assert price_usd("edge", 0.0, 1 << 30) == 0.0


def test_a_plan_is_the_sum_of_its_steps_by_the_kinds_of_their_nodes() -> None:
    kinds = {"a": "cloud", "b": "edge"}
    steps = [("a", 500.0, 0), ("b", 500.0, 0)]
    wanted = 0.5 * (PRICES["cloud"].usd_per_cpu_s + PRICES["edge"].usd_per_cpu_s)
    assert planned_usd(steps, kinds) == pytest.approx(wanted)


def test_what_was_spent_is_of_all_steps() -> None:
    run = record({"name": "a", "function": "f"}, {"name": "b", "function": "f", "after": ["a"]})
    for step in run.steps:
        step.cost_usd = 0.25
    assert spent_usd(run) == pytest.approx(0.25 * len(run.steps))
