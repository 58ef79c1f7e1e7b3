"""Where steps go, when, and what is said about it."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import msgspec
import pytest

from edgeagent.placement.body import Body
from edgeagent.placement.decide import Decision, decide
from edgeagent.placement.errors import NoFeasibleNode, PlanRefused
from edgeagent.placement.network import FlatNetwork, Network
from edgeagent.placement.settings import DecideSettings
from edgeagent.placement.views import NodeLoad, NodeView, StepAsk
from edgeagent.placement.weights import WEIGHTS, weights_of
from tests.unit.placement.world import Scripted, explanation, views

IDS = ("a", "b", "c", "d")
CALM = DecideSettings(jitter_ms=0.0, jitter_share=0.0)


def _decide(
    asks: list[StepAsk],
    nodes: list[NodeView] | None = None,
    network: Network | None = None,
    *,
    seed: int = 1,
    settings: DecideSettings = CALM,
    **more: Any,
) -> Decision:
    return decide(
        asks,
        views(IDS) if nodes is None else nodes,
        FlatNetwork(IDS, 5.0) if network is None else network,
        here=more.pop("here", "a"),
        now_s=more.pop("now_s", 0.0),
        chance=random.Random(seed),
        settings=settings,
        **more,
    )


def test_a_node_that_is_as_good_as_any_runs_it_itself() -> None:
    for seed in range(20):
        decision = _decide([StepAsk(name="s")], seed=seed, settings=DecideSettings())
        assert decision.choices[0].node == "a"
        assert decision.choices[0].legs_ms == (0.0,)


def test_a_full_node_hands_on_and_an_old_view_counts_less() -> None:
    def places(age_s: float) -> str:
        full = NodeLoad(cpu=0.9, queue=10, age_s=age_s)
        idle = NodeLoad(cpu=0.1, queue=0, age_s=0.0)
        nodes = views(IDS, a={"load": full}, b={"load": idle}, c={"load": full}, d={"load": full})
        return _decide([StepAsk(name="s", exec_ms=20.0)], nodes).choices[0].node

    assert places(0.0) == "b"
    assert places(120.0) == "a"  # what was heard two minutes ago says nothing


def test_a_faster_node_is_worth_a_way() -> None:
    nodes = views(IDS, c={"speed": 4.0})
    decision = _decide([StepAsk(name="s", exec_ms=100.0)], nodes)
    choice = decision.choices[0]
    assert choice.node == "c"
    assert choice.exec_ms == 25.0
    assert choice.legs_ms == (7.0,)  # 5 ms and the hand-over
    assert choice.predicted_ms == pytest.approx(7.0 + choice.queue_ms + 25.0)
    assert _decide([StepAsk(name="s", exec_ms=1.0)], nodes).choices[0].node == "a"


def test_code_that_is_there_need_not_be_sent() -> None:
    sha = "0123456789abcdef" * 4
    nodes = views(IDS, a={"excluded": "busy"}, d={"functions": frozenset({sha[:16]})})
    decision = _decide([StepAsk(name="s", sha256=sha, code_bytes=10_000_000)], nodes)
    assert decision.choices[0].node == "d"
    assert decision.choices[0].transfer_ms == 0.0
    assert explanation(decision)["b"].terms.transfer_ms == pytest.approx(80.0)  # at 1,000 Mbit/s


def test_payload_takes_time_on_a_slow_link() -> None:
    network = Scripted(
        IDS,
        lambda at_s: {("a", "b"): 1.0, ("a", "c"): 1.0, ("a", "d"): 1.0},
        rates={("a", "b"): 8.0, ("a", "c"): 800.0, ("a", "d"): 8.0},
    )
    decision = _decide([StepAsk(name="s", bytes_in=100_000)], views(IDS, a={"excluded": "x"}), network)
    choice = decision.choices[0]
    assert choice.node == "c"
    assert list(choice.legs_ms) == pytest.approx([1.0 + 2.0 + 1.0])
    assert explanation(decision)["b"].terms.transfer_ms == pytest.approx(100.0)


def test_bandwidth_between_steps_is_that_of_their_nodes() -> None:
    """The first step is held on b; from a all is fast, from b only d is."""
    network = Scripted(
        IDS,
        lambda at_s: {("a", "b"): 1.0, ("b", "c"): 1.0, ("b", "d"): 2.0},
        rates={("a", "b"): 500.0, ("a", "c"): 500.0, ("b", "c"): 1.0, ("b", "d"): 500.0, ("a", "d"): 500.0},
    )
    nodes = views(IDS, a={"labels": ("x",)}, b={"labels": ("x",)}, c={"labels": ("y",)}, d={"labels": ("y",)})
    asks = [
        StepAsk(name="one", needs=("x",)),
        StepAsk(name="two", after=(0,), needs=("y",), mbit_s_min=100.0, bytes_in=1000),
    ]
    for first in ("b", "a"):
        pinned = [msgspec.structs.replace(asks[0], needs=(f"node:{first}",)), asks[1]]
        decision = _decide(pinned, nodes, network)
        assert decision.choices[1].node == ("d" if first == "b" else "c")
        assert [one.removed_by for one in decision.explanations[1].candidates][2] == (
            "bandwidth" if first == "b" else ""
        )
        assert not decision.exact


def test_a_step_back_where_a_plan_ends_without_a_node() -> None:
    """B is nearer and is tried first, but no link from it is fast enough for the second step."""
    network = Scripted(
        IDS,
        lambda at_s: {("a", "b"): 1.0, ("a", "c"): 5.0, ("b", "d"): 1.0, ("c", "d"): 5.0},
        rates={("b", "d"): 1.0, ("c", "d"): 500.0, ("a", "d"): 500.0, ("b", "c"): 1.0},
    )
    nodes = views(IDS, b={"labels": ("x",)}, c={"labels": ("x",)}, d={"labels": ("y",)})
    asks = [
        StepAsk(name="one", needs=("x",)),
        StepAsk(name="two", after=(0,), needs=("y",), mbit_s_min=100.0),
    ]
    assert [one.node for one in _decide(asks, nodes, network).choices] == ["c", "d"]


def test_a_chain_keeps_near_the_data_that_comes_later() -> None:
    """C is nearer to the first step; d, where the data of the third step is, is better for both."""
    ways = {("a", "b"): 1.0, ("a", "c"): 10.0, ("a", "d"): 20.0}
    nodes = views(IDS, a={"labels": ("x",)}, c={"labels": ("y",)}, d={"labels": ("y",)})
    asks = [
        StepAsk(name="one", needs=("x",)),
        StepAsk(name="two", after=(0,), needs=("y",)),
        StepAsk(name="three", after=(1,), needs=("y",), data_source="d"),
    ]
    network = Scripted(IDS, lambda at_s: ways)
    decision = _decide(asks, nodes, network)
    assert decision.exact
    assert [one.node for one in decision.choices] == ["a", "d", "d"]
    assert decision.choices[2].data_ms == 0.0
    assert "c is 11.0 ms better for this step alone" in decision.choices[1].why
    assert _decide(asks[:2], nodes, network).choices[1].node == "c"


def test_steps_start_when_those_before_have_run() -> None:
    asks = [
        StepAsk(name="one", exec_ms=100.0, exec_known=True),
        StepAsk(name="two", after=(0,), exec_ms=200.0, exec_known=True),
        StepAsk(name="three", after=(0, 1), exec_ms=50.0, exec_known=True),
    ]
    idle = {"load": NodeLoad(cpu=0.0, queue=0)}
    decision = _decide(asks, views(IDS, a=idle), now_s=1000.0, orbital_speed=60.0)
    assert [one.node for one in decision.choices] == ["a", "a", "a"]
    assert [one.start_s for one in decision.choices] == pytest.approx([1000.0, 1006.0, 1018.0])
    assert decision.total_ms == pytest.approx(350.0)


def test_a_late_step_sees_the_network_of_then() -> None:
    def links(at_s: float) -> dict[tuple[str, str], float]:
        return {("a", "b"): 1.0, ("b", "c"): 1.0} if at_s < 60.0 else {("a", "b"): 1.0, ("b", "d"): 1.0}

    labelled = {"labels": ("y",)}
    asks = [
        StepAsk(name="one", exec_ms=120_000.0, exec_known=True, wall_ms=1e6),
        StepAsk(name="two", after=(0,), needs=("y",)),
    ]
    nodes = views(IDS, c=labelled, d=labelled)
    assert _decide(asks, nodes, Scripted(IDS, links)).choices[1].node == "d"


def test_a_plan_is_made_again_where_its_times_were_wrong() -> None:
    """By the estimate the second step starts at 10 s; the queue of the only node moves it past 60 s."""

    def links(at_s: float) -> dict[tuple[str, str], float]:
        return {("a", "c"): 1.0, ("a", "b"): 1.0} if at_s < 60.0 else {("a", "d"): 1.0, ("a", "b"): 1.0}

    busy = {"load": NodeLoad(cpu=0.5, queue=28)}
    nodes = views(IDS, a=busy, c={"labels": ("y",)}, d={"labels": ("y",)})
    asks = [
        StepAsk(name="one", pinned="a", exec_ms=10_000.0, exec_known=True),
        StepAsk(name="two", after=(0,), needs=("y",)),
    ]
    decision = _decide(asks, nodes, Scripted(IDS, links))
    assert decision.choices[1].node == "d"
    assert decision.choices[1].start_s == pytest.approx(80.0)


def test_a_fixed_step_is_where_it_is() -> None:
    asks = [
        StepAsk(name="done", fixed=True, pinned="c", needs=("gpu",), exec_ms=1000.0),
        StepAsk(name="next", after=(0,)),
    ]
    decision = _decide(asks, views(IDS, c={"excluded": "x"}), Scripted(IDS, _star), here="a")
    assert decision.choices[0].node == "c"
    assert decision.choices[0].why == "its output is there already"
    assert decision.choices[1].start_s == 0.0
    assert [one.removed_by for one in decision.explanations[0].candidates] == [
        "pinned",
        "pinned",
        "",
        "pinned",
    ]
    with pytest.raises(NoFeasibleNode):
        _decide([msgspec.structs.replace(asks[0], pinned="z")])


def _star(at_s: float) -> dict[tuple[str, str], float]:
    return {("a", "b"): 3.0, ("a", "c"): 4.0, ("a", "d"): 5.0}


def test_the_way_back_counts() -> None:
    nodes = views(IDS, a={"excluded": "x"}, b={"excluded": "x"})
    ways = {("a", "c"): 4.0, ("a", "d"): 5.0, ("b", "d"): 1.0, ("b", "c"): 30.0}
    network = Scripted(IDS, lambda at_s: ways)
    assert _decide([StepAsk(name="s")], nodes, network).choices[0].node == "c"
    decision = _decide([StepAsk(name="s", returns_to="b")], nodes, network)
    assert decision.choices[0].node == "d"
    assert decision.total_ms == pytest.approx(decision.choices[0].predicted_ms + 1.0)


def test_near_draws_a_step() -> None:
    nodes = views(IDS, a={"excluded": "x"}, b={"excluded": "x"})
    assert _decide([StepAsk(name="s", near="d")], nodes, FlatNetwork(IDS, 20.0)).choices[0].node == "d"


def test_fall_backs_are_ranked_with_the_chosen_first() -> None:
    decision = _decide([StepAsk(name="s")], network=Scripted(IDS, _star))
    assert decision.choices[0].ranked == ("a", "b", "c", "d")
    assert "b would cost" in decision.choices[0].why


def test_classes_weigh_differently() -> None:
    dear = {"usd_per_cpu_s": 1e-3}
    nodes = views(IDS, a=dear, c={"usd_per_cpu_s": 0.0}, b=dear, d=dear)
    chosen = {
        name: _decide([StepAsk(name="s", exec_ms=100.0, slo_class=name)], nodes).choices[0].node
        for name in ("latency", "cost")
    }
    assert chosen == {"latency": "a", "cost": "c"}
    hungry = {"body": Body(busy_w=200.0)}
    nodes = views(IDS, a=hungry, b=hungry, c=hungry)
    assert _decide([StepAsk(name="s", slo_class="energy")], nodes).choices[0].node == "d"
    assert weights_of("no such class") == WEIGHTS["default"]


def test_a_recommended_temperature_is_no_limit_but_costs() -> None:
    warm = {
        "body": Body(temperature_c_recommended=30.0),
        "load": NodeLoad(temperature_c=45.0, cpu=0.5, queue=1),
    }
    assert _decide([StepAsk(name="s")], views(IDS, a=warm)).choices[0].node != "a"
    found = explanation(_decide([StepAsk(name="s")], views(IDS, a=warm)))["a"]
    assert found.removed_by == ""
    assert found.terms.energy_ms > 10.0


def test_near_ties_are_shared_by_chance_and_clear_cases_are_not() -> None:
    nodes = views(IDS, a={"excluded": "x"})
    near = Counter(
        _decide([StepAsk(name="s")], nodes, seed=seed, settings=DecideSettings()).choices[0].node
        for seed in range(60)
    )
    assert all(near[name] >= 8 for name in "bcd")
    ways = {("a", "b"): 5.0, ("a", "c"): 60.0, ("a", "d"): 60.0}
    clear = {
        _decide([StepAsk(name="s")], nodes, Scripted(IDS, lambda at_s: ways), seed=seed).choices[0].node
        for seed in range(20)
    }
    assert clear == {"b"}


def test_the_same_chance_gives_the_same_decision() -> None:
    nodes = views(IDS, a={"excluded": "x"})
    one, other = (_decide([StepAsk(name="s")], nodes, seed=3, settings=DecideSettings()) for _ in range(2))
    assert one.choices == other.choices


def test_every_node_is_explained() -> None:
    asks = [StepAsk(name="one"), StepAsk(name="two", after=(0,), needs=("kind:satellite",), data_source="d")]
    decision = _decide(asks, views(IDS, b={"kind": "satellite"}, d={"kind": "satellite"}))
    for step, explained in zip(asks, decision.explanations, strict=True):
        assert explained.step == step.name
        assert [one.node for one in explained.candidates] == list(IDS)
        for one in explained.candidates:
            assert bool(one.removed_by) == bool(one.detail) == (one.score_ms is None)
    assert (
        msgspec.json.decode(msgspec.json.encode(decision.explanations))[1]["candidates"][0]["removed_by"]
        == "kind"
    )


def test_scores_are_the_sum_of_their_terms_but_for_the_weight_of_ways() -> None:
    decision = _decide([StepAsk(name="s", exec_ms=30.0, data_source="b")], settings=CALM)
    for one in decision.explanations[0].candidates:
        assert one.score_ms is not None
        terms = one.terms
        waits = max(terms.path_ms + terms.transfer_ms, terms.data_ms)
        ways = 0.1 * (terms.path_ms + terms.transfer_ms + terms.data_ms)
        rest = terms.queue_ms + terms.exec_ms + terms.energy_ms + terms.cost_ms
        assert one.score_ms == pytest.approx(waits + ways + rest)
    best = min(decision.explanations[0].candidates, key=lambda one: one.score_ms or math.inf)
    assert best.node == decision.choices[0].node


def test_parallel_steps_share_memory_and_a_chain_does_not() -> None:
    big = 700 * 2**20
    fork = [
        StepAsk(name="one", memory_bytes=big),
        StepAsk(name="two", memory_bytes=big),
    ]
    assert len({one.node for one in _decide(fork).choices}) == 2
    chain = [fork[0], msgspec.structs.replace(fork[1], after=(0,))]
    assert len({one.node for one in _decide(chain).choices}) == 1


def test_an_edge_that_no_pair_of_nodes_meets_is_a_latency() -> None:
    nodes = views(IDS, b={"labels": ("x",)}, d={"labels": ("y",)})
    asks = [
        StepAsk(name="one", needs=("x",)),
        StepAsk(name="two", after=(0,), needs=("y",), latency_ms_max=3.0),
    ]
    with pytest.raises(NoFeasibleNode) as refused:
        _decide(asks, nodes)
    assert refused.value.details == {"step": "two", "constraint": "latency"}
    assert "'one'" in refused.value.message
    assert "5.0 ms" in refused.value.message


def test_steps_that_fit_one_by_one_and_not_together_lack_capacity() -> None:
    big = 700 * 2**20
    asks = [StepAsk(name=name, memory_bytes=big, needs=("node:b",)) for name in ("one", "two")]
    with pytest.raises(NoFeasibleNode) as refused:
        _decide(asks)
    assert refused.value.details["constraint"] == "capacity"


@pytest.mark.parametrize(
    "asks",
    [
        [StepAsk(name="s", after=(0,))],
        [StepAsk(name="s"), StepAsk(name="t", after=(2,)), StepAsk(name="u", after=(1,))],
        [StepAsk(name="s"), StepAsk(name="t", after=(0, 0))],
        [StepAsk(name="s", exec_ms=math.nan)],
        [StepAsk(name="s", wall_ms=0.0)],
    ],
)
def test_steps_that_cannot_be_are_refused(asks: list[StepAsk]) -> None:
    with pytest.raises(PlanRefused):
        _decide(asks)


def test_views_must_fit_the_network() -> None:
    with pytest.raises(PlanRefused):
        _decide([StepAsk(name="s")], views(IDS[:3]))
    with pytest.raises(PlanRefused):
        _decide([StepAsk(name="s")], here="z")
    with pytest.raises(PlanRefused):
        _decide([StepAsk(name="s")], orbital_speed=0.0)
    with pytest.raises(PlanRefused):
        DecideSettings(half_life_s=0.0)
    with pytest.raises(PlanRefused):
        DecideSettings(hop_ms=-1.0)


def test_nothing_to_place_is_placed() -> None:
    decision = _decide([])
    assert decision.choices == ()
    assert decision.total_ms == 0.0
    assert decision.explanations == ()


def test_three_edges_that_hold_in_pairs_and_not_together_are_a_latency() -> None:
    """Both b and c are near one of the two nodes that the first step may take, and none is near both."""
    nodes = views(IDS, a={"labels": ("x",)}, d={"labels": ("x",)})
    ways = {("a", "b"): 1.0, ("d", "c"): 1.0, ("a", "d"): 50.0}
    asks = [
        StepAsk(name="one", needs=("x",)),
        StepAsk(name="two", after=(0,), needs=("node:b",), latency_ms_max=3.0),
        StepAsk(name="three", after=(0,), needs=("node:c",), latency_ms_max=3.0),
    ]
    with pytest.raises(NoFeasibleNode) as refused:
        _decide(asks, nodes, Scripted(IDS, lambda at_s: ways))
    assert refused.value.details["constraint"] == "latency"


def test_no_step_back_helps_where_no_link_is_fast_enough() -> None:
    network = Scripted(
        IDS,
        lambda at_s: {("a", "b"): 1.0, ("a", "c"): 5.0, ("b", "d"): 1.0, ("c", "d"): 5.0},
        rates={("b", "d"): 1.0, ("c", "d"): 2.0, ("a", "d"): 500.0},
    )
    nodes = views(IDS, b={"labels": ("x",)}, c={"labels": ("x",)}, d={"labels": ("y",)})
    asks = [
        StepAsk(name="one", needs=("x",)),
        StepAsk(name="two", after=(0,), needs=("y",), mbit_s_min=100.0),
    ]
    for retries in (1, 8):
        with pytest.raises(NoFeasibleNode) as refused:
            _decide(asks, nodes, network, settings=DecideSettings(retries_max=retries))
        assert refused.value.details["constraint"] == "bandwidth"
        assert "d: 1.0 Mbit/s, at least 100" in refused.value.message
