"""Shortest paths against scipy and rustworkx, and both paths of ours against each other."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
import rustworkx
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components, dijkstra

from edgeagent.topology.errors import TopologyRefused
from edgeagent.topology.graph import Graph
from edgeagent.topology.kernels import kernels

PATHS = [True] if kernels is None else [True, False]
Arrays = tuple[int, NDArray[np.int32], NDArray[np.int32], NDArray[np.float64], NDArray[np.bool_]]


@st.composite
def networks(draw: st.DrawFn) -> Arrays:
    """1 to 30 nodes; few or many links, loops and parallel ones; weights with many ties, zeros, or none."""
    nodes = draw(st.integers(1, 30))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    links = draw(st.integers(0, 3 * nodes))
    a, b = random.integers(0, nodes, (2, links)).astype(np.int32)
    whole = random.integers(draw(st.integers(0, 1)), 4, links).astype(np.float64)
    weights = whole if draw(st.booleans()) else random.exponential(5.0, links)
    relays = random.random(nodes) < draw(st.sampled_from([0.5, 1.0, 2.0]))
    return nodes, a, b, weights, np.asarray(relays)


def _lightest(network: Arrays) -> dict[tuple[int, int], float]:
    """Both directions of each link, parallel ones merged."""
    _, a, b, weights, _ = network
    best: dict[tuple[int, int], float] = {}
    for i, j, weight in zip(a.tolist(), b.tolist(), weights.tolist(), strict=True):
        for pair in ((i, j), (j, i)):
            if i != j:
                best[pair] = min(weight, best.get(pair, np.inf))
    return best


def _oracle(network: Arrays, source: int) -> NDArray[np.float64]:
    """rustworkx over the arcs that a route from ``source`` may take: none leaves another node that does not relay."""
    nodes, *_, relays = network
    graph = rustworkx.PyDiGraph()
    graph.add_nodes_from(range(nodes))
    arcs = [(i, j, w) for (i, j), w in _lightest(network).items() if relays[i] or i == source]
    graph.add_edges_from(arcs)
    found = rustworkx.dijkstra_shortest_path_lengths(graph, source, edge_cost_fn=float)
    distance = np.full(nodes, np.inf)
    distance[list(found)] = list(found.values())
    distance[source] = 0.0
    return distance


@given(networks(), st.data())
def test_distances_are_those_of_the_oracles(network: Arrays, data: st.DataObject) -> None:
    nodes, a, b, weights, relays = network
    source = data.draw(st.integers(0, nodes - 1))
    expected = _oracle(network, source)
    for pure_only in PATHS:
        graph = Graph(nodes, a, b, weights, relays=relays, pure_only=pure_only)
        assert np.allclose(graph.tree(source).distance, expected, rtol=0, atol=1e-9)
    if relays.all() and weights.min(initial=1.0) > 0.0:
        matrix = csr_matrix((graph.weights, graph.indices, graph.indptr), shape=(nodes, nodes))
        assert np.allclose(graph.many(np.arange(nodes)), dijkstra(matrix), rtol=0, atol=1e-9)
        labels = connected_components(matrix, directed=False)[1]
        assert (graph.components[:, None] == graph.components).tolist() == (
            labels[:, None] == labels
        ).tolist()


@given(networks(), st.data())
def test_every_hop_exists_and_the_hops_add_up(network: Arrays, data: st.DataObject) -> None:
    nodes, a, b, weights, relays = network
    source = data.draw(st.integers(0, nodes - 1))
    best = _lightest(network)
    for pure_only in PATHS:
        graph = Graph(nodes, a, b, weights, relays=relays, pure_only=pure_only)
        tree = graph.tree(source)
        for target in range(nodes):
            distance, path = graph.path(source, target)
            assert distance == tree.distance[target]
            assert path == tree.path_to(target)
            if np.isinf(distance):
                assert path == []
                continue
            assert (path[0], path[-1], len(set(path))) == (source, target, len(path))
            assert sum(best[hop] for hop in itertools.pairwise(path)) == pytest.approx(distance, abs=1e-9)
            assert all(relays[node] for node in path[1:-1])
            assert all(graph.weight(*hop) == best[hop] for hop in itertools.pairwise(path))


@pytest.mark.native
@pytest.mark.skipif(kernels is None, reason="the extension is not built")
@given(networks(), st.data())
def test_both_paths_answer_alike(network: Arrays, data: st.DataObject) -> None:
    nodes, a, b, weights, relays = network
    native, pure = (Graph(nodes, a, b, weights, relays=relays, pure_only=one) for one in (False, True))
    some = st.lists(st.integers(0, nodes - 1), max_size=4)
    bound = data.draw(st.sampled_from([-1.0, 0.0, 3.0, 7.5, np.inf]))
    sources, targets = data.draw(some), data.draw(some)
    left, right = native.tree(sources, bound=bound), pure.tree(sources, bound=bound)
    assert np.array_equal(left.distance, right.distance)
    assert np.array_equal(left.predecessor, right.predecessor)
    assert np.array_equal(native.many(sources, bound=bound), pure.many(sources, bound=bound))
    assert np.array_equal(native.components, pure.components)
    source = data.draw(st.integers(0, nodes - 1))
    assert np.array_equal(
        native.distances(source, targets, bound=bound), pure.distances(source, targets, bound=bound)
    )
    count = data.draw(st.none() | st.integers(0, nodes))
    among = data.draw(st.none() | st.just(relays))
    one = native.within(source, bound, count_max=count, among=among)
    other = pure.within(source, bound, count_max=count, among=among)
    assert [found.dtype for found in one] == [found.dtype for found in other]
    assert [found.tolist() for found in one] == [found.tolist() for found in other]


@given(networks(), st.data())
def test_within_gives_the_nearest_in_order(network: Arrays, data: st.DataObject) -> None:
    nodes, a, b, weights, _ = network
    source, count = data.draw(st.integers(0, nodes - 1)), data.draw(st.integers(0, nodes))
    for pure_only in PATHS:
        graph = Graph(nodes, a, b, weights, pure_only=pure_only)
        distance = graph.tree(source).distance
        found, ms = graph.within(source, 6.0, count_max=count)
        near = sorted(distance[i] for i in range(nodes) if i != source and distance[i] <= 6.0)
        assert ms.tolist() == near[:count]
        assert distance[found].tolist() == ms.tolist()
        assert source not in found.tolist()
        everyone, _ = graph.within(source, np.inf)
        assert len(everyone) == np.isfinite(distance).sum() - 1


@pytest.mark.parametrize("pure_only", PATHS)
def test_several_sources_give_the_distance_to_the_nearest(*, pure_only: bool) -> None:
    graph = Graph(5, [0, 1, 2, 3], [1, 2, 3, 4], [1.0, 1.0, 5.0, 1.0], pure_only=pure_only)
    tree = graph.tree([0, 4])
    assert tree.distance.tolist() == [0.0, 1.0, 2.0, 1.0, 0.0]
    assert tree.path_to(3) == [4, 3]
    assert graph.distances(0, [4, 4, 0]).tolist() == [8.0, 8.0, 0.0]
    assert graph.distances(0, []).tolist() == []


@pytest.mark.parametrize("pure_only", PATHS)
def test_equal_ways_lead_over_the_lowest_numbers(*, pure_only: bool) -> None:
    graph = Graph(6, [0, 0, 0, 5, 3, 4], [5, 3, 4, 1, 1, 1], [1.0] * 6, pure_only=pure_only)
    assert graph.path(0, 1) == (2.0, [0, 3, 1])


@pytest.mark.parametrize("pure_only", PATHS)
def test_ways_begin_and_end_at_nodes_that_do_not_relay(*, pure_only: bool) -> None:
    graph = Graph(3, [0, 1], [1, 2], [1.0, 1.0], relays=[True, False, True], pure_only=pure_only)
    assert graph.path(0, 2) == (np.inf, [])
    assert graph.path(0, 1) == (1.0, [0, 1])
    assert graph.path(1, 2) == (1.0, [1, 2])
    assert graph.components.tolist() == [0, 0, 0]


@pytest.mark.parametrize("pure_only", PATHS)
def test_the_lightest_of_parallel_links_counts_and_loops_do_not(*, pure_only: bool) -> None:
    graph = Graph(2, [0, 1, 0, 1], [1, 0, 1, 1], [3.0, 2.0, 4.0, 0.5], pure_only=pure_only)
    assert graph.weights.tolist() == [2.0, 2.0]
    assert (graph.weight(0, 1), graph.weight(1, 1)) == (2.0, np.inf)


@pytest.mark.parametrize("pure_only", PATHS)
def test_empty_graphs_have_answers(*, pure_only: bool) -> None:
    none = Graph(0, [], [], [], pure_only=pure_only)
    assert none.components.tolist() == []
    assert none.tree([]).distance.tolist() == []
    one = Graph(1, [], [], [], pure_only=pure_only)
    assert one.path(0, 0) == (0.0, [0])
    assert one.many([]).shape == (0, 1)
    assert one.within(0, np.inf)[0].tolist() == []


@pytest.mark.parametrize("pure_only", PATHS)
def test_threads_may_search_one_graph(*, pure_only: bool) -> None:
    random = np.random.default_rng(3)
    a, b = random.integers(0, 300, (2, 900))
    graph = Graph(300, a, b, random.exponential(1.0, 900), pure_only=pure_only)
    expected = [graph.tree(source).distance for source in range(40)]
    wrong: list[int] = []

    def search() -> None:
        mine = range(40)
        wrong.extend(one for one in mine if not np.array_equal(graph.tree(one).distance, expected[one]))

    threads = [threading.Thread(target=search) for _ in range(12)]  # more than workspaces are kept
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_arrays_that_are_no_graph_are_refused() -> None:
    graph = Graph(3, [0], [1], [1.0])
    for call in (
        lambda: Graph(2, [0], [2], [1.0]),
        lambda: Graph(2, [-1], [1], [1.0]),
        lambda: Graph(2, [0.5], [1], [1.0]),
        lambda: Graph(2, [[0]], [[1]], [[1.0]]),
        lambda: Graph(2, [0], [1], [1.0, 2.0]),
        lambda: Graph(2, [0], [1], [-1.0]),
        lambda: Graph(2, [0], [1], [np.inf]),
        lambda: Graph(2, [0], [1], [np.nan]),
        lambda: Graph(2, [0], [1], [1.0], relays=[True]),
        lambda: Graph(-1, [], [], []),
        lambda: graph.path(0, 3),
        lambda: graph.path(-1, 0),
        lambda: graph.tree(3),
        lambda: graph.distances(0, [3]),
        lambda: graph.within(0, 1.0, count_max=-1),
        lambda: graph.within(0, 1.0, among=[True]),
    ):
        with pytest.raises(TopologyRefused):
            call()


@pytest.mark.native
@pytest.mark.skipif(kernels is None, reason="the extension is not built")
def test_the_kernels_refuse_what_would_read_beside_their_arrays() -> None:
    ints, floats = np.array([0, 1, 2], np.int32), np.ones(2)
    none = np.empty(0, np.uint8)
    bad = [
        (ints[1:], ints[:1], floats[:1]),
        (np.array([0, 2, 1], np.int32), ints[:1], floats[:1]),
        (np.array([0, 1], np.int32), np.array([7], np.int32), floats[:1]),
        (np.array([0, 1], np.int32), np.array([-1], np.int32), floats[:1]),
        (np.array([0, 1], np.int32), np.array([0], np.int32), floats),
        (np.array([0, 1], np.int32), np.array([0], np.int32), np.array([np.nan])),
        (np.array([0, 3], np.int32), np.array([0], np.int32), floats[:1]),
        (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0)),
    ]
    for indptr, indices, weights in bad:
        with pytest.raises(ValueError, match=r"ind|weight|node"):
            kernels.Csr(indptr, indices, weights, none)
    with pytest.raises(ValueError, match="relays"):
        kernels.Csr(np.array([0, 0], np.int32), np.empty(0, np.int32), np.empty(0), np.ones(2, np.uint8))
    csr = kernels.Csr(np.array([0, 0], np.int32), np.empty(0, np.int32), np.empty(0), none)
    one, no = np.array([1], np.int32), np.empty(0, np.int32)
    for method, arguments in (
        ("path", (0, 1, 1.0)),
        ("path", (-1, 0, 1.0)),
        ("tree", (one, 1.0)),
        ("many", (one, 1.0)),
        ("distances", (0, one, 1.0)),
        ("distances", (1, no, 1.0)),
        ("within", (1, 1.0, 0, none)),
    ):
        with pytest.raises(IndexError):
            getattr(csr, method)(*arguments)
    with pytest.raises(ValueError, match="flags"):
        csr.within(0, 1.0, 1, np.ones(2, np.uint8))
    with pytest.raises(ValueError, match="no node"):
        kernels.components(1, np.array([0], np.int32), np.array([1], np.int32))
    with pytest.raises(ValueError, match="one length"):
        kernels.components(1, np.array([0], np.int32), np.empty(0, np.int32))


@pytest.mark.native
@pytest.mark.skipif(kernels is None, reason="the extension is not built")
def test_the_kernels_refuse_points_that_are_none() -> None:
    places, reach = np.zeros((2, 3)), np.ones(2)
    with pytest.raises(ValueError, match="shape"):
        kernels.links("mst", np.zeros((2, 2)), reach, 0.0, 4)
    with pytest.raises(ValueError, match="per position"):
        kernels.links("mst", places, np.ones(1), 0.0, 4)
    with pytest.raises(ValueError, match="neighbours"):
        kernels.links("mst", places, reach, 0.0, 0)
    for name in ("", "ms", "mst_", "mst_loops", "xst", "nearest_loop"):
        with pytest.raises(ValueError, match="no such protocol"):
            kernels.links(name, places, reach, 0.0, 4)
    with pytest.raises(TypeError):
        kernels.links("mst", places.astype(np.float32), reach, 0.0, 4)
    with pytest.raises(ValueError, match="vertical"):
        kernels.sightings(places, places[:1], reach, reach, places)
    with pytest.raises(ValueError, match="per position"):
        kernels.sightings(places, places, reach, reach[:1], places)


@given(networks(), st.data())
def test_spread_is_the_least_over_all_starts(network: Arrays, data: st.DataObject) -> None:
    nodes, a, b, weights, relays = network
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    starts = np.where(random.random(nodes) < 0.5, random.integers(0, 9, nodes).astype(np.float64), np.inf)
    factor = data.draw(st.sampled_from([0.0, 0.5, 1.0, 1.25]))
    bound = data.draw(st.sampled_from([np.inf, 6.0]))
    outcomes = []
    for pure_only in PATHS:
        graph = Graph(nodes, a, b, weights, relays=relays, pure_only=pure_only)
        values, origins = graph.spread(starts, factor=factor, bound=bound)
        apart = np.array([_oracle(network, node) for node in range(nodes)])
        with np.errstate(invalid="ignore"):
            cost = starts[:, None] + np.where(np.isfinite(apart), factor * apart, np.inf)
        best = np.where(cost.min(axis=0) <= bound + 1e-9, cost.min(axis=0), np.inf)
        assert np.allclose(values, best, rtol=0, atol=1e-9)
        for node, origin in enumerate(origins.tolist()):
            assert (origin >= 0) == bool(np.isfinite(values[node]))
            assert origin < 0 or cost[origin, node] == pytest.approx(values[node], abs=1e-9)
        outcomes.append((values.tolist(), origins.tolist()))
    assert all(outcome == outcomes[0] for outcome in outcomes)


@pytest.mark.parametrize("pure_only", PATHS)
def test_spread_refuses_what_it_cannot_count_from(pure_only: bool) -> None:
    graph = Graph(2, [0], [1], [1.0], pure_only=pure_only)
    for starts, factor in (([0.0], 1.0), ([-1.0, 0.0], 1.0), ([np.nan, 0.0], 1.0), ([0.0, 0.0], -1.0)):
        with pytest.raises(TopologyRefused):
            graph.spread(starts, factor=factor)
    values, origins = graph.spread([-0.0, np.inf])
    assert values.tolist() == [0.0, 1.0]
    assert origins.tolist() == [0, 0]


@given(networks(), st.data())
def test_links_that_lead_one_way(network: Arrays, data: st.DataObject) -> None:
    nodes, a, b, weights, _ = network
    source = data.draw(st.integers(0, nodes - 1))
    oracle = rustworkx.PyDiGraph()
    oracle.add_nodes_from(range(nodes))
    oracle.add_edges_from(list(zip(a.tolist(), b.tolist(), weights.tolist(), strict=True)))
    found = dict(rustworkx.dijkstra_shortest_path_lengths(oracle, source, edge_cost_fn=float))
    expected = [0.0 if i == source else found.get(i, np.inf) for i in range(nodes)]
    for pure_only in PATHS:
        graph = Graph(nodes, a, b, weights, one_way=True, pure_only=pure_only)
        assert np.allclose(graph.tree(source).distance, expected, rtol=0, atol=1e-9)
