"""Elections over a graph against brute force over all nodes, and what the original makes of the same."""

from __future__ import annotations

import itertools
import json
import math
import random

import numpy as np
import pytest
import rustworkx
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.state import ways as ways_module
from edgeagent.state.databelt import cloud, databelt, random_node
from edgeagent.state.election import Demand, elect
from edgeagent.state.errors import ElectionRefused
from edgeagent.state.units import Bytes, Ms, mbit_s
from edgeagent.state.ways import Ways, read_graph
from edgeagent.topology.errors import NodeAbsent
from edgeagent.topology.graph import Graph

Links = dict[str, list[tuple[str, float]]]
LINE: Links = {
    "a": [("b", 5.0)],
    "b": [("a", 5.0), ("c", 10.0)],
    "c": [("b", 10.0), ("d", 20.0)],
    "d": [("c", 20.0)],
    "alone": [],
}


@st.composite
def graphs(draw: st.DrawFn) -> Links:
    """1 to 12 nodes, links one way, loops and parallel ones among them; whole latencies, so that there are ties."""
    nodes = [f"n{i}" for i in range(draw(st.integers(1, 12)))]
    end = st.sampled_from(nodes)
    links = draw(st.lists(st.tuples(end, end, st.integers(0, 9)), max_size=40))
    return {node: [(b, float(ms)) for a, b, ms in links if a == node] for node in nodes}


def distances(links: Links) -> dict[str, dict[str, float]]:
    """Floyd and Warshall."""
    far = {a: dict.fromkeys(links, math.inf) | {a: 0.0} for a in links}
    for a, found in links.items():
        for b, ms in found:
            far[a][b] = min(far[a][b], ms)
    for k, i, j in itertools.product(links, repeat=3):
        far[i][j] = min(far[i][j], far[i][k] + far[k][j])
    return far


def ways_of(links: Links) -> Ways:
    return read_graph(json.dumps(links).encode())


def demand(size_bytes: int = 0, slo_ms: float = 10.0, rate_mbit_s: float = 8.0) -> Demand:
    return Demand(size_bytes=Bytes(size_bytes), slo_ms=Ms(slo_ms), rate=mbit_s(rate_mbit_s))


@given(graphs(), st.data())
def test_the_node_with_the_least_time_is_elected(links: Links, data: st.DataObject) -> None:
    far, names = distances(links), sorted(links)
    a, b = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(names))
    size = data.draw(st.sampled_from([0, 1, 4000]))  # 4 ms at 8 Mbit/s
    limit = data.draw(st.sampled_from([0.0, 4.0, 9.0, 17.0, 40.0]))
    flags = data.draw(st.none() | st.lists(st.booleans(), min_size=len(links), max_size=len(links)))
    ways = ways_of(links)
    hosts = None if flags is None else np.array(flags)
    found = elect(ways, a, b, demand(size, limit), hosts)
    sending = size * 8 / 8e6 * 1000.0

    def ready(node: str) -> float:
        transfer = 0.0 if node == a else far[a][node] + sending
        return transfer + (0.0 if node == b else far[b][node] + far[node][b] + sending)

    able = {a} | {name for at, name in enumerate(ways.ids) if hosts is None or hosts[at]}
    best = min(ready(node) for node in able)
    assert found.ready_ms == pytest.approx(best) or best == found.ready_ms
    assert found.feasible == (best <= limit)
    assert found.node in able
    assert (found.path[0], found.path[-1]) == (a, found.node)
    lightest = [min(ms for to, ms in links[i] if to == j) for i, j in itertools.pairwise(found.path)]
    assert found.latency_ms == sum(lightest) == far[a][found.node]
    assert found.transfer_ms == pytest.approx(0.0 if found.node == a else found.latency_ms + sending)
    if hosts is None:
        assert found.node == (b if math.isfinite(far[a][b]) else a)


def test_of_equal_nodes_the_one_with_fewer_hops() -> None:
    # Both e and f are as far from a and from b; f by one hop less.
    pairs = [("a", "x", 1.0), ("x", "e", 1.0), ("a", "f", 2.0), ("e", "b", 1.0), ("f", "b", 1.0)]
    links: Links = {}
    for i, j, ms in pairs:
        links.setdefault(i, []).append((j, ms))
        links.setdefault(j, []).append((i, ms))
    ways = ways_of(links)
    hosts = np.array([name in "ef" for name in ways.ids])
    # From a itself b would fetch at once: 2 * 3 ms; beside, 2 ms there and 2 ms back and forth.
    assert elect(ways, "a", "b", demand(slo_ms=4.0), hosts).node == "f"


def test_units_are_true_and_the_originals_are_not() -> None:
    ways = ways_of(LINE)
    fifty_mb = demand(51_200_000, 710.0, 80.0)
    ours, theirs = elect(ways, "a", "d", fifty_mb), databelt(ways, "a", "d", fifty_mb)
    assert (ours.node, ours.transfer_ms, ours.feasible, ours.why) == ("d", 35.0 + 5120.0, False, "late")
    assert (theirs.election.node, theirs.cost_ms, theirs.fits) == ("d", 2 * 35 + 640, True)
    assert theirs.election.transfer_ms == ours.transfer_ms
    assert not theirs.election.feasible
    assert elect(ways, "a", "d", demand(51_200_000, 5155.0, 80.0)).feasible


def test_no_way_is_no_success() -> None:
    found = elect(ways_of(LINE), "a", "alone", demand())
    assert (found.node, found.path, found.feasible, found.why) == ("a", ("a",), False, "no-route")
    assert math.isinf(found.ready_ms)
    theirs = databelt(ways_of(LINE), "a", "alone", demand())
    assert (theirs.election.node, theirs.fits, theirs.election.feasible) == ("a", False, False)
    hosts = np.zeros(5, dtype=np.bool_)
    assert elect(ways_of(LINE), "a", "alone", demand(), hosts).why == "no-route"


def test_nothing_has_to_move_to_where_it_is() -> None:
    found = elect(ways_of(LINE), "a", "a", demand(10**9, 0.0))
    assert (found.node, found.path, found.transfer_ms, found.feasible) == ("a", ("a",), 0.0, True)
    assert elect(ways_of(LINE), "a", "b", demand(0, 5.0)).feasible


@given(graphs(), st.data())
def test_the_original_walks_back_from_the_sink(links: Links, data: st.DataObject) -> None:
    names = sorted(links)
    a, b = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(names))
    size, limit = data.draw(st.integers(0, 40_000)), data.draw(st.integers(0, 40))
    rate = data.draw(st.sampled_from([1.0, 2.5, 8.0, 1e-4]))
    ways = ways_of(links)
    believed = databelt(ways, a, b, demand(size, limit, rate))
    path = ways.tree(ways.row(a)).path_to(ways.row(b))
    far = distances(links)
    fitting = [
        ways.ids[row]
        for row in path[::-1]
        if 2 * int(far[a][ways.ids[row]]) + math.floor(size / (1000 * rate)) <= limit
    ]
    assert believed.election.node == (fitting[0] if fitting else a)
    assert believed.fits == bool(fitting)


def test_the_other_baselines_do_not_look() -> None:
    ways = ways_of(LINE)
    assert cloud(ways, "a", "b", demand(slo_ms=1000.0), "d").node == "d"
    chance = random.Random(1)
    found = [random_node(ways, "a", "b", demand(), chance) for _ in range(100)]
    assert {one.node for one in found} == set(LINE)
    lost = next(one for one in found if one.node == "alone")
    assert (lost.feasible, lost.why, lost.path) == (False, "no-route", ())


@given(graphs())
def test_trees_are_those_of_the_oracle(links: Links) -> None:
    ways = ways_of(links)
    graph = rustworkx.PyDiGraph()
    rows = dict(zip(ways.ids, graph.add_nodes_from(list(ways.ids)), strict=True))
    graph.add_edges_from([(rows[a], rows[b], ms) for a, found in links.items() for b, ms in found])
    for name, row in rows.items():
        lengths = dict(rustworkx.dijkstra_shortest_path_lengths(graph, row, edge_cost_fn=float))
        expected = [0.0 if i == row else lengths.get(i, math.inf) for i in range(len(rows))]
        assert ways.tree(row).distance.tolist() == expected
        back = [float(ways.tree(i).distance[row]) for i in range(len(rows))]
        assert ways.tree_back(ways.row(name)).distance.tolist() == back


def test_trees_are_searched_once_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways_module, "TREES_MAX", 2)
    ways = Ways(("a", "b", "c"), Graph(3, [0, 1], [1, 2], [1.0, 1.0]))
    first = ways.tree(0)
    assert ways.tree(0) is first
    assert ways.tree_back(0) is first
    ways.tree(1)
    ways.tree(2)
    assert ways.tree(0) is not first
    with pytest.raises(ElectionRefused, match="rows for 2 nodes"):
        Ways(("a", "b"), Graph(3, [0, 1], [1, 2], [1.0, 1.0]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"a": [["b", -1]]}', "latency of -1"),
        ('{"a": [["b", NaN]]}', "cannot be read"),
        ('{"a": [["b", 1e999]]}', "cannot be read"),
        ('{"a": [["b"]]}', "cannot be read"),
        ('{"a": [["b", "1"]]}', "cannot be read"),
        ('{"a": [["b", null]]}', "cannot be read"),
        ('{"a": {"b": 1}}', "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("{}", "no nodes"),
        (b'{"\xff": []}', "cannot be read"),
    ],
)
def test_what_is_no_graph_is_refused(text: str | bytes, says: str) -> None:
    with pytest.raises(ElectionRefused, match=says):
        read_graph(text if isinstance(text, bytes) else text.encode())


def test_a_graph_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways_module, "GRAPH_BYTES_MAX", 10)
    with pytest.raises(ElectionRefused, match="has 13 bytes"):
        read_graph(b'{"a": [], "b"')


def test_numbers_name_neighbours_and_neighbours_are_nodes() -> None:
    ways = read_graph(b'{"0": [[1, 2.5], [0, 1], [1, 3]]}')
    assert ways.ids == ("0", "1")
    assert elect(ways, "0", "1", demand()).latency_ms == 2.5


def test_unknown_nodes_are_named() -> None:
    with pytest.raises(NodeAbsent, match="no node 'alon'") as caught:
        elect(ways_of(LINE), "alon", "b", demand())
    assert "alone" in caught.value.hint
    with pytest.raises(NodeAbsent) as caught:
        databelt(ways_of(LINE), "a", "zzzzzz", demand())
    assert "5 nodes" in caught.value.hint


@pytest.mark.parametrize(
    ("size_bytes", "slo_ms", "rate"),
    [
        (-1, 1.0, 1.0),
        (1 << 60, 1.0, 1.0),
        (1, -1.0, 1.0),
        (1, math.nan, 1.0),
        (1, math.inf, 1.0),
        (1, 1.0, 0.0),
        (1, 1.0, math.nan),
    ],
)
def test_demands_that_cannot_be_are_refused(size_bytes: int, slo_ms: float, rate: float) -> None:
    with pytest.raises(ElectionRefused):
        demand(size_bytes, slo_ms, rate)


def test_an_unbounded_rate_costs_no_time() -> None:
    found = elect(ways_of(LINE), "a", "d", demand(10**12, 35.0, math.inf))
    assert (found.transfer_ms, found.feasible) == (35.0, True)
    assert databelt(ways_of(LINE), "a", "d", demand(10**12, 70.0, math.inf)).cost_ms == 70
