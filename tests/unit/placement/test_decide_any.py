"""Any network, any nodes, any steps: what is chosen passes every filter, or nobody is left by the numbers."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.placement.battery import lowest_charge
from edgeagent.placement.body import Body
from edgeagent.placement.decide import DecideSettings, Decision, decide
from edgeagent.placement.errors import NoFeasibleNode
from edgeagent.placement.views import NodeLoad, NodeView, StepAsk
from tests.unit.placement.world import Scripted, views

IDS = tuple("abcdef")
SHAPES: list[list[tuple[int, ...]]] = [[()], [(), (0,), (1,)], [(), (0,), (0,), (1, 2)], [(), (), (0, 1)]]


def _node(name: str, chance: random.Random) -> NodeView:
    body = Body(battery_wh=40.0, solar_w=15.0, temperature_c_max=60.0) if chance.random() < 0.4 else Body()
    load = NodeLoad(
        cpu=chance.random(),
        queue=chance.randrange(5),
        memory_free_bytes=chance.choice([None, 100, 1000]),
        temperature_c=chance.choice([None, 40.0, 59.0]),
        battery=chance.choice([None, 0.31, 0.6]),
        age_s=chance.choice([0.0, 30.0]),
    )
    return NodeView(
        id=name,
        kind=chance.choice(["edge", "satellite"]),
        cores=chance.choice([None, 1, 4]),
        memory_bytes=chance.choice([None, 500, 5000]),
        labels=tuple(chance.sample(["x", "y"], chance.randrange(3))),
        load=load if chance.random() < 0.8 else None,
        body=body,
        excluded="dead" if chance.random() < 0.1 else "",
        speed=chance.choice([0.5, 1.0, 2.0]),
    )


def _ask(index: int, after: tuple[int, ...], chance: random.Random) -> StepAsk:
    return StepAsk(
        name=f"s{index}",
        after=after,
        memory_bytes=chance.choice([0, 300]),
        needs=chance.choice([(), (), ("x",), ("kind:edge",)]),
        data_source=chance.choice(["", "", "c"]),
        latency_ms_max=chance.choice([np.inf, 12.0]),
        data_latency_ms_max=chance.choice([np.inf, 12.0]),
        mbit_s_min=chance.choice([0.0, 0.0, 5.0]),
        bytes_in=chance.choice([0, 10_000]),
        bytes_out=chance.choice([0, 10_000]),
        exec_ms=chance.choice([1.0, 5000.0]),
        exec_known=chance.random() < 0.5,
        returns_to=chance.choice(["", "", "a"]),
    )


def _network(chance: random.Random) -> Scripted:
    pairs = [(a, b) for row, a in enumerate(IDS) for b in IDS[row + 1 :]]
    halves = [
        {pair: float(chance.randrange(1, 15)) for pair in pairs if chance.random() < 0.5} for _ in range(2)
    ]
    return Scripted(
        IDS,
        lambda at_s: halves[int(at_s // 30.0) % 2],
        rates={pair: chance.choice([1.0, 50.0]) for pair in pairs if chance.random() < 0.4},
        light=lambda row, begin, end: chance.choice([0.0, 1.0]),
    )


@given(st.integers(0, 2**32), st.sampled_from(SHAPES))
@settings(max_examples=150, deadline=None)
def test_what_is_chosen_passes(seed: int, shape: list[tuple[int, ...]]) -> None:
    chance = random.Random(seed)
    nodes = [_node(name, chance) for name in IDS]
    asks = [_ask(index, after, chance) for index, after in enumerate(shape)]
    outcome: Decision | NoFeasibleNode
    try:
        outcome = decide(
            asks,
            nodes,
            _network(chance),
            here="a",
            now_s=0.0,
            orbital_speed=chance.choice([1.0, 20.0]),
            chance=chance,
        )
    except NoFeasibleNode as refused:
        outcome = refused
    if isinstance(outcome, NoFeasibleNode):
        assert outcome.details["constraint"]
        assert outcome.details["step"] in {ask.name for ask in asks}
        return
    assert np.isfinite(outcome.total_ms)
    for choice, explained in zip(outcome.choices, outcome.explanations, strict=True):
        found = {one.node: one for one in explained.candidates}
        assert set(found) == set(IDS)
        assert explained.node == choice.node == choice.ranked[0]
        assert len({*choice.ranked}) == len(choice.ranked) <= 4
        for name in choice.ranked:
            assert found[name].removed_by == ""
            assert found[name].score_ms is not None
        assert choice.predicted_ms >= choice.exec_ms
        assert choice.why


@pytest.mark.parametrize("seed", range(10))
def test_the_filter_of_batteries_is_the_model(seed: int) -> None:
    """Light that changes by cells of 600 s, a node that only rests: the arrays and the model agree."""
    chance = random.Random(seed)
    body = Body(battery_wh=40.0, solar_w=12.0, idle_w=6.0, busy_w=6.0)
    light = [chance.random() for _ in range(10)]
    now_s = chance.uniform(0.0, 600.0)
    end_s = now_s + 0.001 + 5400.0
    cells = []
    for cell, share in enumerate(light):
        begin, end = max(now_s, 600.0 * cell), min(end_s, 600.0 * (cell + 1))
        if begin < end:
            cells.append((end - begin, share))
    lowest = lowest_charge(body, 0.45, 0.0, cells)
    for reserve, passes in ((lowest - 1e-4, True), (lowest + 1e-4, False)):
        kept = Body(battery_wh=40.0, solar_w=12.0, idle_w=6.0, busy_w=6.0, battery_reserve=reserve)
        nodes = views(("a", "b"), b={"body": kept, "load": NodeLoad(battery=0.45)})
        network = Scripted(
            ("a", "b"),
            lambda at_s: {("a", "b"): 1.0},
            light=lambda row, begin, end: light[int(begin // 600.0)],
        )
        decision = decide(
            [StepAsk(name="s", exec_ms=1.0, exec_known=True)],
            nodes,
            network,
            here="a",
            now_s=now_s,
            chance=chance,
            settings=DecideSettings(),
        )
        assert (decision.explanations[0].candidates[1].removed_by == "") is passes
