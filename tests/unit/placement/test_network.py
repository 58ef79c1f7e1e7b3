"""A network without predictions is what it was told, always."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeagent.placement.errors import PlanRefused
from edgeagent.placement.network import FlatNetwork


def test_one_latency_between_all() -> None:
    network = FlatNetwork(("a", "b", "c"), 4.0)
    graph = network.graph(0.0)
    assert graph.many([0, 1, 2])[:, :3].tolist() == [[0, 4, 4], [4, 0, 4], [4, 4, 0]]
    assert network.graph(1e9) is graph
    assert network.ids == ("a", "b", "c")


def test_a_matrix_is_the_whole_truth() -> None:
    ways = np.array([[0, 1, 9], [1, 0, 1], [9, 1, 0]], dtype=float)
    assert FlatNetwork(("a", "b", "c"), ways).graph(0.0).many([0, 1, 2]).tolist() == ways.tolist()


def test_infinite_is_no_route() -> None:
    ways = np.array([[0, np.inf], [np.inf, 0]])
    assert math.isinf(FlatNetwork(("a", "b"), ways).graph(0.0).tree(0).distance[1])


def test_nothing_else_is_known() -> None:
    network = FlatNetwork(("a", "b"))
    assert np.isinf(network.mbit_s(0, 0.0)).all()
    assert network.sunlit_share(0, 0.0, 1.0) is None
    assert network.contact_until_s(0, 1, 0.0) == math.inf


@pytest.mark.parametrize("latency", [-1.0, math.nan, math.inf, [[1.0, 2.0]]])
def test_latencies_that_cannot_be_are_refused(latency: float) -> None:
    with pytest.raises(PlanRefused):
        FlatNetwork(("a", "b"), latency)
