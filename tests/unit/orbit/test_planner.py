"""The plan's questions, and the planner: pieces equal the whole, changes are taken up, bounds hold."""

from __future__ import annotations

import itertools
import time
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgeagent.orbit.errors import GeometryRefused, NodeUnknown, OutsidePlan, TimeRefused
from edgeagent.orbit.importer import read_elements
from edgeagent.orbit.nodes import GroundNode, Node, Satellite
from edgeagent.orbit.plan import ContactPlan, Window
from edgeagent.orbit.planner import Planner, contact_windows
from edgeagent.orbit.propagation import Ensemble
from edgeagent.orbit.walker import walker
from tests.unit.orbit.samples import shared_data, utc

START = utc(2024, 10, 21, 8)


def shell(count: int = 12, **more: Any) -> list[Satellite]:
    sets = walker(
        total=count, planes=3, phasing=1, inclination_deg=53, altitude_km=700, epoch_us=int(START * 1e6)
    )
    return [Satellite(f"s{n}", one, **more) for n, one in enumerate(sets)]


VIENNA = GroundNode(id="vienna", latitude_deg=48.2, longitude_deg=16.4, mask_deg=10)
LIMA = GroundNode(id="lima", latitude_deg=-12.0, longitude_deg=-77.0, mask_deg=10)


def _plan(windows: list[tuple[float, float]]) -> ContactPlan:
    return ContactPlan(
        start_s=0.0,
        end_s=100.0,
        nodes=frozenset({"a", "b", "c", "g", "h"}),
        ground=frozenset({"g", "h"}),
        contacts={("a", "b"): tuple(Window(x, y, "a", "b") for x, y in windows)},
    )


def test_questions_about_a_pair() -> None:
    plan = _plan([(10, 20), (30, 40.5)])
    first, second = plan.windows
    assert [plan.in_contact("a", "b", t) for t in (0, 9.9, 10, 19.9, 20, 29, 30, 40.4, 40.5, 100)] == [
        False, False, True, True, False, False, True, True, False, False
    ]  # fmt: skip
    assert [plan.ends("b", "a", t) for t in (9.9, 10, 20, 35)] == [None, 20, None, 40.5]
    assert [plan.next_contact("b", "a", t) for t in (0, 10, 19, 20, 40, 40.5)] == [
        first, first, first, second, second, None
    ]  # fmt: skip
    assert second.duration_s == 10.5
    assert plan.in_contact_with("b", 15) == ("a",)
    assert plan.in_contact_with("b", 25) == plan.in_contact_with("c", 15) == ()
    assert plan.pairs == (("a", "b"),)


def test_ground_nodes_have_no_contacts_among_themselves() -> None:
    plan = _plan([])
    assert not plan.in_contact("h", "g", 1)
    assert plan.next_contact("g", "h", 1) is None
    assert plan.windows == plan.windows_of("a", "b") == ()


@pytest.mark.parametrize(("a", "b"), [("a", "x"), ("x", "a"), ("a", "c"), ("a", "a"), ("g", "g"), ("a", "g")])
def test_pairs_that_are_not_watched(a: str, b: str) -> None:
    for ask in (_plan([]).in_contact, _plan([]).next_contact, _plan([]).ends, _plan([]).contact):
        with pytest.raises(NodeUnknown):
            ask(a, b, 1.0)
    with pytest.raises(NodeUnknown):
        _plan([]).in_contact_with("x", 1.0)


@pytest.mark.parametrize("moment", [-0.1, 100.1, float("nan"), float("inf")])
def test_times_the_plan_does_not_reach(moment: float) -> None:
    for ask in (_plan([]).in_contact, _plan([]).next_contact, _plan([]).ends):
        with pytest.raises(OutsidePlan):
            ask("a", "b", moment)


def test_the_plan_agrees_with_positions() -> None:
    planner = Planner([VIENNA, *shell()])
    plan = planner.advance(START)
    times = START + np.arange(0, 3 * 3600, 97.0)
    for satellite in shell():
        look = VIENNA.look(satellite.positions_km(times))
        for moment, elevation in zip(times.tolist(), look.elevation_deg.tolist(), strict=True):
            if abs(elevation - 10) > 0.01:
                assert plan.in_contact("vienna", satellite.id, moment) == (elevation > 10)


@pytest.mark.parametrize("pace", [60.0, 61.7, 333.0, 3600.0])
def test_what_is_made_in_pieces_is_what_is_made_at_once(pace: float) -> None:
    nodes: list[Node] = [VIENNA, LIMA, *shell(range_km_max=4500)]
    planner = Planner(nodes, horizon_s=3600)
    moment = START
    while moment < START + 4 * 3600:
        plan = planner.advance(moment)
        moment += pace
    whole = Planner(nodes, horizon_s=6 * 3600).advance(START)
    wanted = [
        msgspec.structs.replace(window, end_s=min(window.end_s, plan.end_s))
        for window in whole.windows
        if window.end_s > plan.start_s and window.start_s < plan.end_s
    ]
    assert [(w.a, w.b, w.start_s, w.end_s) for w in plan.windows] == [
        (w.a, w.b, w.start_s, w.end_s) for w in wanted
    ]
    assert len(wanted) > 20


def test_the_span_of_a_plan() -> None:
    plan = Planner([VIENNA, *shell(3)], horizon_s=600).advance(START + 59.5)
    assert (plan.start_s, plan.end_s) == (START, START + 660)
    assert Planner(horizon_s=60).advance(START).windows == ()


def test_windows_that_are_cut() -> None:
    always = [Satellite("a", shell(3)[0].elements), Satellite("b", shell(3)[0].elements)]
    planner = Planner(always, horizon_s=3600)
    (window,) = planner.advance(START).windows
    assert (window.cut_start, window.cut_end) == (True, True)
    (later,) = planner.advance(START + 7200).windows
    assert later.start_s == START + 7200  # computed anew: it was beyond what was known
    (again,) = planner.advance(START + 7260).windows
    assert (again.start_s, again.cut_start, again.end_s) == (START + 7200, True, START + 7260 + 3600)


def test_the_clock_may_jump() -> None:
    nodes: list[Node] = [VIENNA, *shell()]
    planner = Planner(nodes, horizon_s=3600)
    for moment in (START, START + 50_000, START - 50_000, START - 49_990, START):
        plan = planner.advance(moment)
        fresh = Planner(nodes, horizon_s=3600).advance(moment)
        assert plan.start_s == fresh.start_s
        assert [w for w in plan.windows if w.start_s < fresh.end_s and not w.cut_end] == [
            w for w in fresh.windows if not w.cut_end
        ]


def test_a_clock_that_is_none() -> None:
    planner = Planner(shell(3))
    for moment in (float("nan"), -1e12, 5e9):
        with pytest.raises(TimeRefused):
            planner.advance(moment)
    assert planner.advance(START).start_s == START


def test_nodes_come_change_and_go() -> None:
    satellites = shell()
    planner = Planner([VIENNA, *satellites[:6]], horizon_s=7200)
    planner.advance(START)
    planner.put(satellites[6])
    planner.put(LIMA)
    planner.put(msgspec.structs.replace(VIENNA, mask_deg=40.0))
    planner.remove("s0")
    plan = planner.advance(START + 600)
    wanted: list[Node] = [msgspec.structs.replace(VIENNA, mask_deg=40.0), LIMA, *satellites[1:7]]
    fresh = Planner(wanted, horizon_s=7200).advance(START + 600)
    assert {(w.a, w.b, w.end_s) for w in plan.windows} == {(w.a, w.b, w.end_s) for w in fresh.windows}
    assert plan.nodes == fresh.nodes
    with pytest.raises(NodeUnknown):
        plan.in_contact("vienna", "s0", START + 700)
    with pytest.raises(NodeUnknown):
        planner.remove("s0")


def test_chosen_pairs_only() -> None:
    nodes: list[Node] = [VIENNA, LIMA, *shell()]
    planner = Planner(nodes, pairs=[("s1", "vienna"), ("vienna", "s1"), ("s2", "s1"), ("lima", "vienna")])
    plan = planner.advance(START)
    assert plan.pairs == (("s1", "vienna"), ("s1", "s2"))
    assert not plan.in_contact("vienna", "lima", START)
    with pytest.raises(NodeUnknown, match="does not watch"):
        plan.in_contact("s3", "vienna", START)
    planner.watch("s3", "vienna")
    assert planner.advance(START).windows_of("s3", "vienna") is not None
    whole = Planner(nodes).advance(START)
    assert plan.windows_of("s1", "s2") == whole.windows_of("s1", "s2")
    planner.remove("s1")
    assert planner.advance(START).pairs == (("s3", "vienna"),)


@pytest.mark.parametrize("pair", [("s0", "x"), ("x", "s0"), ("s0", "s0")])
def test_pairs_that_cannot_be_watched(pair: tuple[str, str]) -> None:
    with pytest.raises(NodeUnknown):
        Planner(shell(3), pairs=[pair])


@pytest.mark.parametrize("horizon", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_horizons_that_cannot_be(horizon: float) -> None:
    with pytest.raises(GeometryRefused, match="horizon"):
        Planner(horizon_s=horizon)


def test_too_many_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.orbit.planner.PAIRS_MAX", 3)
    planner = Planner(shell(3))
    with pytest.raises(GeometryRefused, match="all pairs of 4 nodes"):
        planner.put(VIENNA)
    chosen = Planner(shell(6), pairs=[("s0", "s1"), ("s0", "s2"), ("s0", "s3")])
    with pytest.raises(GeometryRefused, match="more than 3"):
        chosen.watch("s0", "s4")


def test_stale_satellites_are_in_contact_with_nobody() -> None:
    old = msgspec.structs.replace(shell(3)[0].elements, epoch_us=int((START - 20 * 86_400) * 1e6))
    assert Planner([VIENNA, Satellite("old", old)], horizon_s=86_400).advance(START).windows == ()
    assert Planner([VIENNA, Satellite("old", old)], horizon_s=86_400, policy=None).advance(START).windows


class Advances(RuleBasedStateMachine):
    """Whatever is put, removed and advanced: the plan is that of a new planner, from the present minute on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.nodes: dict[str, Node] = {}
        self.planner = Planner(horizon_s=1800)
        self.plan: ContactPlan | None = None
        pool: list[Node] = [VIENNA, LIMA, *shell(6, range_km_max=5000)]
        self.pool = {node.id: node for node in pool}

    @rule(name=st.sampled_from(["vienna", "lima", *(f"s{n}" for n in range(6))]))
    def put(self, name: str) -> None:
        self.nodes[name] = self.pool[name]
        self.planner.put(self.pool[name])

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.nodes)))
        del self.nodes[name]
        self.planner.remove(name)

    @rule(by=st.sampled_from([0.0, 1.0, 60.0, 61.0, 600.0, 1900.0, 5000.0, -30.0, -4000.0]))
    def advance(self, by: float) -> None:
        self.now += by
        self.plan = self.planner.advance(self.now)
        fresh = Planner(self.nodes.values(), horizon_s=1800).advance(self.now)
        assert (self.plan.start_s, self.plan.nodes) == (fresh.start_s, fresh.nodes)
        assert self.plan.end_s >= fresh.end_s
        ours = [
            (w.a, w.b, max(w.start_s, fresh.start_s), min(w.end_s, fresh.end_s)) for w in self.plan.windows
        ]
        theirs = [(w.a, w.b, w.start_s, w.end_s) for w in fresh.windows]
        assert sorted(one for one in ours if one[2] < one[3]) == sorted(theirs)

    @invariant()
    def windows_are_apart_and_within(self) -> None:
        if self.plan is None:
            return
        for pair in self.plan.pairs:
            found = self.plan.windows_of(*pair)
            assert all(one.end_s < two.start_s for one, two in itertools.pairwise(found))
            assert all(self.plan.start_s < one.end_s <= self.plan.end_s for one in found)


TestAdvances = Advances.TestCase
TestAdvances.settings = settings(max_examples=25, stateful_step_count=15)


def test_a_hundred_neighbours_for_three_hours_take_less_than_a_second() -> None:
    """The promise, with much room: about 30 ms of CPU time on a small machine (edgeagent bench orbit)."""
    sets = read_elements(shared_data("starlink-2024-10-21.tle").read_bytes())
    states = Ensemble(sets).propagate(START)
    apart = np.linalg.norm(states.position_km[:, 0] - states.position_km[0, 0], axis=1)
    near = [sets[n] for n in np.argsort(apart)[:96]]
    nodes: list[Node] = [*(Satellite(one.key, one) for one in near), VIENNA, LIMA]
    nodes += [msgspec.structs.replace(VIENNA, id=f"g{n}", longitude_deg=20.0 * n) for n in range(3)]
    begun = time.process_time()
    planner = Planner(nodes, pairs=[(near[0].key, node.id) for node in nodes if node.id != near[0].key])
    plan = planner.advance(START)
    spent = time.process_time() - begun
    assert len(plan.pairs) == 100
    assert len(plan.windows) > 100
    assert spent < 1.0


def test_contacts_of_two_nodes_in_a_span() -> None:
    satellite = shell()[0]
    whole = Planner([VIENNA, satellite], horizon_s=86_400).advance(START).windows
    first = next(window for window in whole if not window.cut_start)
    begin, until = first.start_s + 10.5, first.end_s - 10.5
    (inner,) = contact_windows(satellite, VIENNA, begin, until)
    assert (inner.start_s, inner.end_s, inner.cut_start, inner.cut_end) == (begin, until, True, True)
    (same,) = contact_windows(VIENNA, satellite, first.start_s - 70, first.end_s + 70)
    assert same == first
    assert contact_windows(VIENNA, satellite, first.start_s - 70, first.start_s - 1) == ()
    assert contact_windows(VIENNA, LIMA, START, START + 60) == ()
    for one, two, end in ((VIENNA, satellite, START), (VIENNA, satellite, START + 1e7)):
        with pytest.raises(GeometryRefused):
            contact_windows(one, two, START, end)
    with pytest.raises(NodeUnknown):
        contact_windows(VIENNA, VIENNA, START, START + 60)
    with pytest.raises(TimeRefused):
        contact_windows(VIENNA, satellite, 5e9, 5e9 + 60)
