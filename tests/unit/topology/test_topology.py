"""The topology as placement and gossip ask it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from edgeagent.orbit.geodetic import EQUATOR_KM, ecef_of, up_of
from edgeagent.orbit.nodes import GroundNode, Node, Satellite
from edgeagent.orbit.sight import clearance_km
from edgeagent.orbit.walker import walker
from edgeagent.topology.errors import NodeAbsent, TopologyRefused
from edgeagent.topology.ground import GroundSettings
from edgeagent.topology.links import LIGHT_KM_MS, LinkKind
from edgeagent.topology.nodes import OrbitPositions, TopologyNode, Wire, nodes_of
from edgeagent.topology.plus_grid import walker_pairs
from edgeagent.topology.protocols import IslSettings
from edgeagent.topology.snapshot import TREES_MAX, link_table
from edgeagent.topology.topology import Topology, TopologySettings
from tests.unit.topology.shells import EPOCH_S, Floats

VIENNA = GroundNode(id="vienna", latitude_deg=48.2, longitude_deg=16.4, height_m=180.0, mask_deg=25.0)
PERTH = GroundNode(id="perth", latitude_deg=-31.9, longitude_deg=115.9, mask_deg=25.0)
SHELL = walker(
    total=1584, planes=72, phasing=39, inclination_deg=53, altitude_km=550, epoch_us=int(EPOCH_S * 1e6)
)
ORBITS: list[Node] = [VIENNA, PERTH, *(Satellite(one.name, one) for one in SHELL)]
GRID = [(SHELL[a].name, SHELL[b].name) for a, b in walker_pairs(total=1584, planes=72, phasing=39).tolist()]


def _network(protocol: str, ground: GroundSettings | None = None, **more: object) -> Topology:
    settings = TopologySettings(isl=IslSettings(protocol=protocol), ground=ground or GroundSettings())
    return Topology(nodes_of(ORBITS), OrbitPositions(ORBITS), settings, grid=GRID, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", ["+grid", "nearest", "mst_loop"])
def test_what_holds_for_every_snapshot(protocol: str) -> None:
    network = _network(protocol, GroundSettings(per_station=2))
    for utc_s in (EPOCH_S, EPOCH_S + 600.0):
        snapshot = network.at(utc_s)
        links, places = snapshot.links, snapshot.positions_km
        assert (links.a < links.b).all()
        lengths = np.linalg.norm(places[links.a] - places[links.b], axis=1)
        assert np.allclose(lengths, links.length_km, rtol=1e-12)
        assert (links.latency_ms >= lengths / LIGHT_KM_MS).all()
        isl, ground = links.of_kind(LinkKind.ISL), links.of_kind(LinkKind.GROUND)
        assert len(isl) + len(ground) == len(links)
        assert (clearance_km(places[links.a[isl]], places[links.b[isl]]) > EQUATOR_KM + 80.0).all()
        for row in ground:
            ends = sorted((links.a[row], links.b[row]), key=lambda end: network.nodes[end].kind)
            station = network.nodes[ends[0]]
            here = VIENNA if station.id == "vienna" else PERTH
            assert station.kind == "ground"
            assert here.look(places[ends[1]]).elevation_deg >= 25.0
        rows = np.concatenate([links.a[ground], links.b[ground]])
        assert (
            np.bincount(rows, minlength=len(places))[[network.row("vienna"), network.row("perth")]] == 2
        ).all()
        graph = snapshot.graph
        arcs = set(
            zip(
                np.repeat(np.arange(graph.nodes), np.diff(graph.indptr)).tolist(),
                graph.indices.tolist(),
                strict=True,
            )
        )
        assert {(b, a) for a, b in arcs} == arcs


def test_a_route_leads_up_along_and_down() -> None:
    network = _network("+grid")
    route = network.path("vienna", "perth", EPOCH_S)
    assert route is not None
    kinds = [hop.kind for hop in route.hops]
    assert kinds[0] == kinds[-1] == LinkKind.GROUND
    assert set(kinds[1:-1]) == {LinkKind.ISL}
    assert route.nodes == ("vienna", *(hop.b for hop in route.hops))
    assert route.latency_ms == pytest.approx(sum(hop.latency_ms for hop in route.hops), abs=1e-9)
    assert route.latency_ms == network.latency_ms("perth", "vienna", EPOCH_S) or math.isclose(
        route.latency_ms, network.latency_ms("perth", "vienna", EPOCH_S), abs_tol=1e-9
    )
    great_circle_km = 6371.0 * math.acos(float(up_of(48.2, 16.4) @ up_of(-31.9, 115.9)))
    assert great_circle_km / LIGHT_KM_MS < route.latency_ms < 3 * great_circle_km / LIGHT_KM_MS
    assert route.bandwidth_mbit_s == min(hop.bandwidth_mbit_s for hop in route.hops)
    assert network.reachable("vienna", "perth", EPOCH_S)
    own = network.path("vienna", "vienna", EPOCH_S)
    assert own is not None
    assert (own.nodes, own.hops, own.latency_ms, own.bandwidth_mbit_s) == (("vienna",), (), 0.0, math.inf)


def test_bent_pipes_carry_as_far_as_one_satellite_sees() -> None:
    near = GroundNode(id="linz", latitude_deg=48.3, longitude_deg=14.3, mask_deg=25.0)
    orbits: list[Node] = [*ORBITS, near]
    settings = TopologySettings(isl=IslSettings(protocol="bent_pipe"), ground=GroundSettings(per_station=0))
    network = Topology(nodes_of(orbits), OrbitPositions(orbits), settings)
    route = network.path("vienna", "linz", EPOCH_S)
    assert route is not None
    assert len(route.nodes) == 3
    assert not network.reachable("vienna", "perth", EPOCH_S)
    assert network.latency_ms("vienna", "perth", EPOCH_S) == math.inf
    assert network.path("vienna", "perth", EPOCH_S) is None


class Script:
    """Positions by hand: what is at each whole step of 10 s; counts how often it was asked."""

    def __init__(self, *steps: Sequence[Sequence[float]]) -> None:
        self.steps = [np.array(step, dtype=np.float64) for step in steps]
        self.asked: list[float] = []

    def __call__(self, utc_s: float, /) -> Floats:
        self.asked.append(utc_s)
        return self.steps[min(int(utc_s // 10), len(self.steps) - 1)]


NOWHERE = [math.nan] * 3
A, B, BEHIND = [7000.0, 0.0, 0.0], [7000.0, 1000.0, 0.0], [-7000.0, 0.0, 0.0]


def _satellites(*names: str) -> list[TopologyNode]:
    return [TopologyNode(id=name, kind="satellite") for name in names]


def test_a_peer_is_occluded_until_a_route_exists() -> None:
    network = Topology(_satellites("a", "b"), Script([A, BEHIND], [A, NOWHERE], [A, B]))
    assert not network.reachable("a", "b", 0.0)
    assert network.first_route("a", "b", range(0, 100, 10)) == 20
    assert network.first_route("a", "b", range(0, 20, 10)) is None
    assert network.first_route("a", "a", iter([5.0])) == 5.0


def test_within_a_step_nothing_changes_and_a_few_steps_are_kept() -> None:
    script = Script([A, B])
    network = Topology(_satellites("a", "b"), script, TopologySettings(moments=2))
    first = network.at(0.0)
    assert network.at(9.999) is first
    assert network.at(-0.001) is not first
    assert script.asked == [0.0, -10.0]
    assert network.at(0.0) is first
    network.at(20.0)  # the second of those kept; -10 is forgotten
    assert network.at(0.0) is first
    network.at(-10.0)
    assert script.asked == [0.0, -10.0, 20.0, -10.0]


def test_the_order_of_the_table_does_not_matter() -> None:
    place = {"c": A, "a": B, "b": [7000.0, 1000.0, 1000.0], "d": [7000.0, 0.0, 1000.0]}
    answers = []
    for names in itertools.permutations(place):
        network = Topology(_satellites(*names), Script([place[name] for name in names]))
        assert network.ids == ("a", "b", "c", "d")
        links = network.at(0.0).links
        answers.append((links.a.tolist(), links.b.tolist(), network.path("b", "c", 0.0)))
    assert all(answer == answers[0] for answer in answers)


def test_the_nearest_nodes_within_a_latency() -> None:
    script = Script([A, B, [7000.0, 3000.0, 0.0], BEHIND])
    network = Topology(_satellites("a", "b", "c", "x"), script)
    hop = 1000.0 / LIGHT_KM_MS + 0.01
    assert network.within("a", 100.0, 0.0)[0] == ("b", hop)
    assert [name for name, _ in network.within("a", 100.0, 0.0)] == ["b", "c"]
    assert network.within("a", hop, 0.0, count_max=5) == [("b", hop)]
    assert network.within("a", 100.0, 0.0, count_max=0) == []


def test_routes_do_not_lead_through_user_terminals() -> None:
    ground = [ecef_of(0.0, longitude, 0.0).tolist() for longitude in (0.0, 12.0)]
    high = [(1.09 * ecef_of(0.0, longitude, 0.0)).tolist() for longitude in (-6.0, 6.0, 18.0)]
    for relays in (True, False):
        nodes = [
            TopologyNode(id="one", kind="ground", mask_deg=25.0),
            TopologyNode(id="two", kind="ground", mask_deg=25.0, relays=relays),
            *_satellites("x", "y", "z"),
        ]
        settings = TopologySettings(
            isl=IslSettings(protocol="bent_pipe"), ground=GroundSettings(per_station=0)
        )
        network = Topology(nodes, Script([*ground, *high]), settings)
        assert network.reachable("one", "z", 0.0) is relays
        assert network.reachable("z", "two", 0.0)
        assert network.reachable("x", "x", 0.0)


def test_wires_join_stations_and_the_faster_of_two_counts() -> None:
    places = [ecef_of(48.2, 16.4).tolist(), ecef_of(48.3, 14.3).tolist(), NOWHERE, A]
    nodes = [TopologyNode(id=name, kind="ground") for name in ("vienna", "linz", "gone")]
    nodes += _satellites("s")
    wires = [
        Wire(a="vienna", b="linz"),
        Wire(a="linz", b="vienna", kind=LinkKind.LAN, distance_km=400.0),
        Wire(a="vienna", b="gone", distance_km=1.0),
    ]
    network = Topology(nodes, Script(places), wires=wires)
    route = network.path("linz", "vienna", 0.0)
    assert route is not None
    (hop,) = route.hops
    assert hop.kind == LinkKind.FIBRE
    assert hop.length_km == pytest.approx(156.1, rel=0.006)
    assert hop.latency_ms == pytest.approx(1.5 * hop.length_km / 200.0 + 0.01)
    assert not network.reachable("vienna", "gone", 0.0)
    assert network.at(0.0).links.find(0, network.row("s")) == -1


def test_the_satellite_that_stays_longest_is_taken() -> None:
    """One satellite is near and leaving, the other farther and coming: nearest and longest differ."""

    def positions(utc_s: float, /) -> Floats:
        angle = math.radians(0.07 * utc_s)
        leaving, coming = 0.02 + angle, -0.06 + angle
        orbit = [[6928.0 * math.cos(one), 6928.0 * math.sin(one), 0.0] for one in (leaving, coming)]
        return np.array([ecef_of(0.0, 0.0).tolist(), *orbit])

    nodes = [TopologyNode(id="station", kind="ground", mask_deg=25.0), *_satellites("coming", "leaving")]
    nodes[1:] = _satellites("leaving", "coming")
    chosen = {}
    for policy in ("nearest", "longest"):
        ground = GroundSettings(policy=policy, look_ahead_s=300.0)
        settings = TopologySettings(isl=IslSettings(protocol="bent_pipe"), ground=ground)
        network = Topology(nodes, positions, settings)
        chosen[policy] = [name for name, _ in network.within("station", 100.0, 0.0)]
    assert chosen == {"nearest": ["leaving"], "longest": ["coming"]}


def test_horizons_reach_the_links() -> None:
    overhead = (1.1 * ecef_of(10.0, 13.0)).tolist()
    for horizon, seen in (((), True), (((0.0, 80.0), (180.0, 80.0)), False)):
        nodes = [TopologyNode(id="g", kind="ground", horizon=horizon), *_satellites("s")]
        network = Topology(nodes, Script([ecef_of(10.0, 10.0).tolist(), overhead]))
        assert network.reachable("g", "s", 0.0) is seen


def test_a_moment_keeps_a_bounded_number_of_trees() -> None:
    count = TREES_MAX + 3
    places = np.array([[7000.0, 10.0 * i, 0.0] for i in range(count)])
    network = Topology(_satellites(*(f"{i:04}" for i in range(count))), lambda _utc_s: places)
    snapshot = network.at(0.0)
    trees = [snapshot.tree(i) for i in range(count)]
    assert len(snapshot._trees) == TREES_MAX
    assert snapshot.tree(count - 1) is trees[-1]
    assert snapshot.tree(0) is not trees[0]


def test_an_empty_topology_is_empty() -> None:
    network = Topology([], lambda _utc_s: np.empty((0, 3)))
    assert len(network.at(0.0).links) == 0
    assert len(link_table([], {})) == 0
    with pytest.raises(NodeAbsent, match="no node 'a'"):
        network.reachable("a", "a", 0.0)


def test_what_cannot_be_is_refused() -> None:
    two = [TopologyNode(id="a", kind="satellite"), TopologyNode(id="g", kind="ground")]
    good = Script([A, B])
    plus = TopologySettings(isl=IslSettings(protocol="+grid"))
    for call in (
        lambda: Topology(_satellites("a", "a"), good),
        lambda: Topology(two, good, plus),
        lambda: Topology(two, good, plus, grid=[("a", "g")]),
        lambda: Topology(two, good, plus, grid=[("a", "a")]),
        lambda: Topology(two, good, wires=[Wire(a="a", b="g")]),
        lambda: Topology(two, good, wires=[Wire(a="g", b="g")]),
        lambda: Topology(two, Script([A])).at(0.0),
        lambda: Topology(two, good).at(math.nan),
        lambda: Topology(two, good).at(math.inf),
        lambda: TopologySettings(step_s=0.0),
        lambda: TopologySettings(moments=0),
        lambda: Wire(a="a", b="b", kind=LinkKind.ISL),
        lambda: Wire(a="a", b="b", distance_km=-1.0),
        lambda: TopologyNode(id="a", kind="plane"),  # type: ignore[arg-type]
        lambda: TopologyNode(id="a", kind="ground", range_km_max=0.0),
    ):
        with pytest.raises(TopologyRefused):
            call()
    with pytest.raises(NodeAbsent):
        Topology(two, good, wires=[Wire(a="a", b="nobody")])
