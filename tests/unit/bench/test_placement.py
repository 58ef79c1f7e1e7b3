"""The benchmark ``placement``: its cases, and how two contestants are compared."""

from __future__ import annotations

from typing import cast

import pytest

from edgeagent.bench.placement import cases
from edgeagent.bench.placement_plays import OPTIMUM, RIVAL_NAMES, Plays, Variant, paired
from edgeagent.simulator.wildfire_rivals import RIVALS


def test_every_strain_has_its_case_at_every_size() -> None:
    named = {case.name: case for case in cases()}
    assert len(named) == len(cases())
    for size in (1118, 2236, 3354, 4472):
        for what in ("stale-1s", "stale-10s", "stale-60s", "failing-10pct", "late-source"):
            assert f"wildfire-{size}-critical-path-{what}" in named
    crowd = named["wildfire-1118-critical-path-stale-10s"].params
    assert (crowd["view_age_s"], crowd["crowd"], crowd["workflows"]) == (10.0, 4, 20)
    assert named["wildfire-1118-critical-path-failing-10pct"].params["failing"] == 0.1
    assert named["wildfire-1118-critical-path-polar-late-source"].params["inclination_deg"] == 87.9
    assert set(RIVAL_NAMES) == set(RIVALS)


def test_recipes_keep_to_the_size() -> None:
    for variant in (Variant(), Variant(sky=(36, 28, 87.9))):
        recipe = variant.recipe(1118, 3)
        assert recipe.planes * recipe.sats_per_plane == 1008
        assert (recipe.edge_nodes, recipe.ground_stations, recipe.seed) == (100, 10, 4)


class _Finished:
    """Stands for what was played: the critical path of each workflow, by round and contestant."""

    def __init__(self, found: dict[tuple[int, str], dict[int, float]]) -> None:
        self._found = found

    def finished(self, number: int, who: str) -> dict[int, tuple[float, float]]:
        return {wf: (ms, ms / 2.0) for wf, ms in self._found[number, who].items()}


def test_only_workflows_that_both_placed_are_compared() -> None:
    known = cast(
        Plays,
        _Finished(
            {
                (0, "ours"): {0: 10.0, 1: 20.0, 2: 900.0},
                (0, "other"): {0: 30.0, 1: 30.0},
                (1, "ours"): {0: 10.0},
                (1, "other"): {0: 60.0, 4: 900.0},
            }
        ),
    )
    found = paired(known, range(2), "ours", "other", 0, 1)
    assert found["workflows"] == 3
    assert found["baseline"] == 40.0
    for name, value in (("ours", 40.0 / 3.0), ("ratio", 3.0), ("lower_by", 2.0 / 3.0)):
        assert found[name] == pytest.approx(value)
    assert found["ratio_ci95"] == [2.0, 6.0]  # all drawn from one round
    assert found["medians"] == [12.5, 45.0]


def test_contestants_who_share_no_workflow_are_not_compared() -> None:
    nothing = cast(Plays, _Finished({(0, "ours"): {0: 10.0}, (0, "other"): {}}))
    assert paired(nothing, range(1), "ours", "other", 0, 1) == {"workflows": 0}


def test_nobody_is_below_the_optimum_and_late_sources_are_told_apart() -> None:
    known = Plays(1118, Variant(sky=(24, 14, 53.0)))
    least = known.finished(2, OPTIMUM)
    for who in ("ours", "ours-late", *RIVAL_NAMES):
        for wf, (critical_path_ms, _) in known.finished(2, who).items():
            allowed = who.startswith("ours") or who in (
                "nearest",
                "greedy",
            )  # the others take nodes that get too warm
            assert not allowed or critical_path_ms >= least[wf][0] - 1e-6
    assert set(known.foreseen[2]) == set(least)
    assert {*known.foreseen[2].values()} <= {"expected", "open", "unexpected"}
