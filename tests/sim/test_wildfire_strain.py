"""Placing under strain: old views, several who decide at once, nodes that fail; and sources that are guessed."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest

from edgeagent.simulator.wildfire_case import Case
from edgeagent.simulator.wildfire_guess import possible_sources
from edgeagent.simulator.wildfire_make import WildfireRecipe, make_case
from edgeagent.simulator.wildfire_ours import ours
from edgeagent.simulator.wildfire_play import Networks, Turn, play
from edgeagent.simulator.wildfire_strain import Ledger, Strain


@pytest.fixture(scope="module")
def case() -> Case:
    return make_case(WildfireRecipe(seed=501, start_minute=154, centre=(-38.0, 145.0)))


def test_a_view_is_as_old_as_it_is_said_to_be() -> None:
    ledger = Ledger(np.full((3, 2), 10.0), 5.0)
    ledger.owe(0, np.array([12.0, 1.0]))
    assert ledger.seen_at(0.0)[0].tolist() == [-2.0, 9.0]  # all know it, and it may be more than there is
    assert not ledger.takes(0, np.array([1.0, 1.0]))
    ledger.take(1.0, 1, np.array([4.0, 4.0]))
    ledger.take(2.0, 1, np.array([4.0, 4.0]))
    ledger.close(3.0, 2)
    assert not ledger.takes(1, np.array([4.0, 4.0]))
    assert ledger.seen_at(5.9)[1].tolist() == [10.0, 10.0]
    assert ledger.seen_at(6.0)[1].tolist() == [6.0, 6.0]
    assert ledger.seen_at(7.5)[1:].tolist() == [[2.0, 2.0], [10.0, 10.0]]
    assert ledger.seen_at(8.0)[2].tolist() == [0.0, 0.0]


def test_strains_are_drawn_from_their_seed(case: Case) -> None:
    strain = Strain(crowd=6, within_s=20.0, failing=0.1, seed=3)
    assert (
        strain.offsets_s(1)
        == sorted(strain.offsets_s(1))
        == Strain(crowd=6, within_s=20.0, seed=3).offsets_s(1)
    )
    assert strain.offsets_s(1) != strain.offsets_s(2)
    assert all(0.0 <= offset <= 20.0 for offset in strain.offsets_s(1))
    assert Strain(seed=9).offsets_s(4) == [0.0]
    failed = strain.failed_nodes(case)
    assert len(failed) == pytest.approx(0.1 * case.nodes, rel=0.02)
    assert failed == strain.failed_nodes(case)
    assert not failed & {node for one in case.instances for node in (one.ingest_node, one.eo_satellite)}


def test_many_who_decide_on_old_views_are_refused_and_place_all_the_same(case: Case) -> None:
    networks = Networks(case)
    refusals = []
    for stale_s in (0.0, 10.0, 60.0):
        played = play(case, ours, networks=networks, strain=Strain(crowd=4, stale_s=stale_s))
        assert [one.wf for one in played.placements] == [wf for wf in range(20) for _ in range(3)]
        demands = dict(case.tasks)
        free = case.capacity.copy()
        for one in played.placements:
            free[one.node] -= (demands[one.task].milli_cpu, demands[one.task].memory_mib)
        assert (free >= 0.0).all()  # nobody took what was not there
        summary = played.summary
        assert (summary.slo_violations, summary.heat_violations, summary.workflows_unfinished) == (0, 0, 0)
        refusals.append(summary.refusals)
    assert refusals[0] == 0 < refusals[1] <= refusals[2]


def test_failed_nodes_are_passed_over(case: Case) -> None:
    strain = Strain(failing=0.3, seed=2)
    failed = strain.failed_nodes(case)
    played = play(case, ours, strain=strain)
    assert played.summary.refusals > 0
    assert played.summary.slo_violations == 0
    assert not failed & {one.node for one in played.placements}


def test_who_names_only_failed_nodes_leaves_the_task(case: Case) -> None:
    strain = Strain(failing=0.3, seed=2)
    named = sorted(strain.failed_nodes(case))[:3]
    summary = play(case, lambda _turn: named, strain=strain).summary
    assert (summary.unplaced, summary.refusals, summary.workflows_unfinished) == (15, 45, 5)


def _guesses(case: Case) -> list[list[tuple[int, float]]]:
    seen = []

    def watching(turn: Turn) -> Iterable[int]:
        if turn.index == 0:
            seen.append(possible_sources(turn))
        return ours(turn)

    play(case, watching, known=False)
    return seen


def test_the_leg_of_earlier_sources_is_the_likelier_one() -> None:
    """Every source of this sky flies north, and both legs are overhead at every first decision."""
    guesses = _guesses(make_case(WildfireRecipe(seed=3, start_minute=74, centre=(38.1, 23.6))))
    assert [len(one) for one in guesses] == [2] * 5
    assert [math.fsum(share for _, share in one) for one in guesses] == pytest.approx([1.0] * 5)
    seen = [0.0, 1.0, 1.5, 1.75, 1.875]  # a source counts half for each one after it
    assert [max(share for _, share in one) for one in guesses] == pytest.approx(
        [(much + 0.5) / (much + 1.0) for much in seen]
    )


def test_a_source_without_an_alternative_teaches_nothing() -> None:
    """Workflows 2 and 4 have one leg overhead alone: what flew there is no choice, for what comes after them."""
    guesses = _guesses(make_case(WildfireRecipe(seed=6, start_minute=185, centre=(-25.7, 28.2))))
    assert [len(one) for one in guesses] == [2, 1, 2, 2, 2]
    assert [max(share for _, share in one) for one in guesses] == pytest.approx(
        [0.5, 1.0, 1.5 / 2.0, 2.0 / 2.5, 2.25 / 2.75]
    )


def test_without_a_satellite_overhead_the_nearest_is_meant() -> None:
    sparse = make_case(WildfireRecipe(planes=6, sats_per_plane=8, edge_nodes=60))
    alone = [one for one in _guesses(sparse) if len(one) == 1]
    assert alone
    assert all(share == 1.0 for ((_, share),) in alone)


def test_a_guess_that_may_be_wrong_leaves_a_way_out() -> None:
    # Here the two legs are so far apart that nodes near one cannot reach data on the other within the limits.
    case = make_case(WildfireRecipe(seed=6, start_minute=185, centre=(-25.7, 28.2)))
    summary = play(case, ours, known=False).summary
    assert (summary.slo_violations, summary.workflows_unfinished) == (0, 0)


def test_other_shells_are_planned_in_as_well() -> None:
    for planes, slots, inclination_deg in ((36, 28, 87.9), (36, 28, 53.0)):
        recipe = WildfireRecipe(
            planes=planes, sats_per_plane=slots, inclination_deg=inclination_deg, edge_nodes=100, ground_stations=10
        )  # fmt: skip
        case = make_case(recipe)
        assert case.nodes == 1118
        assert play(case, ours).summary.slo_violations == 0
