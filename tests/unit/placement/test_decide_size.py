"""A thousand nodes, four steps: weighed all, in time; and rows of a graph that only pass on."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from edgeagent import native
from edgeagent.placement.body import Body
from edgeagent.placement.decide import decide
from edgeagent.placement.network import FlatNetwork
from edgeagent.placement.views import NodeLoad, NodeView, StepAsk
from edgeagent.topology.graph import Graph
from tests.unit.placement.world import views

NODES = 1000
CPU_S_MAX = 0.05


@pytest.mark.skipif(not native.accelerated, reason="searches without the extension take longer")
def test_a_thousand_nodes_are_weighed_in_time() -> None:
    chance = random.Random(1)
    ids = tuple(f"n{row}" for row in range(NODES))
    satellite = Body(temperature_c_max=75.0, battery_wh=40.0, solar_w=20.0)
    nodes = [
        NodeView(
            id=name,
            kind="satellite" if row % 2 else "edge",
            cores=4,
            memory_bytes=2**32,
            load=NodeLoad(
                cpu=chance.random(), queue=chance.randrange(3), temperature_c=40.0, battery=0.6, age_s=1.0
            ),
            body=satellite if row % 2 else Body(),
        )
        for row, name in enumerate(ids)
    ]
    asks = [
        StepAsk(
            name=f"s{index}",
            after=(index - 1,) if index else (),
            bytes_in=10_000,
            memory_bytes=2**28,
            data_source="n7" if index == 2 else "",
            returns_to="n0" if index == 3 else "",
        )
        for index in range(4)
    ]
    network = FlatNetwork(ids, 5.0)
    taken = []
    for seed in range(5):
        begin = time.process_time()
        decision = decide(asks, nodes, network, here="n0", now_s=0.0, chance=random.Random(seed))
        taken.append(time.process_time() - begin)
    assert [len(one.candidates) for one in decision.explanations] == [NODES] * 4
    assert min(taken) < CPU_S_MAX


class _Relayed(FlatNetwork):
    """A and b have no link but over two rows that are no nodes."""

    def graph(self, at_s: float) -> Graph:
        return Graph(4, np.array([0, 2, 3]), np.array([2, 3, 1]), np.array([1.0, 2.0, 4.0]))


def test_ways_lead_over_rows_that_are_no_nodes() -> None:
    decision = decide(
        [StepAsk(name="s", pinned="b")],
        views(("a", "b")),
        _Relayed(("a", "b")),
        here="a",
        now_s=0.0,
        chance=random.Random(1),
    )
    assert decision.choices[0].node == "b"
    assert decision.explanations[0].candidates[1].terms.path_ms == 9.0  # 1 + 2 + 4, and the hand-over
    assert len(decision.explanations[0].candidates) == 2
