"""HyperDrive's wildfire scenario: the form of its cases, its own rules against what it published, our placements."""

from __future__ import annotations

import copy
import gzip
import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgeagent.model.errors import BadRequest
from edgeagent.simulator.wildfire_case import Case, case_of, read_case
from edgeagent.simulator.wildfire_make import WildfireRecipe, make_case
from edgeagent.simulator.wildfire_ours import ours
from edgeagent.simulator.wildfire_play import Networks, Played, play
from edgeagent.simulator.wildfire_rivals import RIVALS, geodesic_km
from tests.integration.daemon import cli
from tests.unit.orbit.samples import shared_data


@pytest.fixture(scope="module")
def case() -> Case:
    return make_case(WildfireRecipe())


def _played(case: Case, who: str, networks: Networks) -> Played:
    if who == "ours":
        return play(case, ours, networks=networks)
    chance = random.Random(1)
    return play(case, lambda turn: RIVALS[who](turn, chance), networks=networks)


@pytest.mark.parametrize(
    ("who", "name"), [("hyperdrive", "hyperdrive"), ("first-fit", "firstfit"), ("round-robin", "roundrobin")]
)
def test_the_rivals_place_as_they_published(who: str, name: str) -> None:
    path = shared_data("wildfire-1118.json.gz")
    published = json.loads(gzip.decompress(path.read_bytes()))["expected"][name]
    case = read_case(path)
    played = _played(case, who, Networks(case))
    assert [one.node for one in played.placements] == [one["node"] for one in published["placements"]]
    for one, said in zip(played.placements, published["placements"], strict=True):
        assert one.pred_ms == pytest.approx(said["pred_ms"], abs=1e-3)
        assert one.data_ms == (said["data_ms"] and pytest.approx(said["data_ms"], abs=1e-3))
    summary = msgspec.to_builtins(played.summary)
    for figure in ("mean_pred_sum_per_wf", "mean_critical_path", "mean_data"):
        assert summary[figure] == pytest.approx(published["summary"][figure], abs=1e-3)


def test_a_case_is_made_like_the_original(case: Case) -> None:
    original = read_case(shared_data("wildfire-1118.json.gz")).document
    for t, shot in original.snapshots.items():
        made = case.document.snapshots[t]
        assert np.abs(np.array(made.sat_lat_e4) - shot.sat_lat_e4).max() <= 1
        assert np.abs(np.array(made.sat_alt_m) - shot.sat_alt_m).max() <= 1
    assert [one.eo_satellite for one in case.instances] == [one.eo_satellite for one in original.instances]


def test_whole_chains_beat_the_rivals_without_violations(case: Case) -> None:
    networks = Networks(case)
    mine = _played(case, "ours", networks).summary
    assert (mine.slo_violations, mine.heat_violations, mine.unplaced) == (0, 0, 0)
    for who in ("hyperdrive", "nearest", "greedy"):
        theirs = _played(case, who, networks).summary
        assert mine.mean_critical_path < 0.5 * theirs.mean_critical_path
        assert mine.mean_pred_sum_per_wf < theirs.mean_pred_sum_per_wf


def test_a_source_that_is_revealed_late_is_planned_for(case: Case) -> None:
    played = play(case, ours, known=False)
    assert played.summary.unplaced == 0
    assert played.summary.slo_violations == 0
    assert all(one.data_ms is not None for one in played.placements if one.task == "object-det")


def test_geodesics_are_those_of_the_ellipsoid() -> None:
    # Vincenty's own examples: Survey Review 176, table II (b), on the ellipsoid of WGS-84 as published by NGS.
    away = geodesic_km(0.0, 0.0, np.array([0.0, 90.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0, 90.0]))
    assert away.tolist() == pytest.approx([111.319491, 10001.965729, 0.0, 10018.754171], abs=1e-5)


def _document(case: Case) -> dict[str, Any]:
    return dict(json.loads(msgspec.json.encode(case.document)))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda d: d.update(format="another/1"), "format"),
        (lambda d: d.update(nodes_total=7), "nodes_total"),
        (lambda d: d.pop("workflow"), "workflow"),
        (lambda d: d["orbits"].update(planes=3), "planes"),
        (lambda d: d["nodes"]["satellites"].update(heat_class="9" * 1008), "heat_class"),
        (lambda d: d["workflow"].update(chain=["ingest"]), "chain"),
        (lambda d: d["workflow"].update(chain=["ingest", "nothing"]), "chain"),
        (lambda d: d["workflow"]["tasks"]["object-det"]["expected_exec_ms"].pop("arm64"), "run time"),
        (lambda d: d["instances"][0].update(eo_satellite=5000), "instance 0"),
        (lambda d: d["instances"][0]["decision_times"].pop("object-det"), "decision time"),
        (lambda d: d["snapshots"].pop("4"), "snapshot"),
        (lambda d: d["snapshots"]["4"]["sat_lat_e4"].pop(), "position"),
        (lambda d: d["snapshots"]["4"]["ground_links"].append([3, 3, 1.0]), "links"),
        (lambda d: d["link_model"].update(signal_speed_km_per_ms=0.0), "speed"),
    ],
)
def test_documents_that_contradict_themselves_are_refused(case: Case, change: Any, what: str) -> None:
    document = copy.deepcopy(_document(case))
    change(document)
    with pytest.raises(BadRequest, match=what):
        case_of(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("nodes.satellites.milli_cpu", -1),
        ("nodes.satellites.heat_classes[1].max_C", math.nan),
        ("nodes.satellites.heat_classes[1].recommended_C", 80.0),
        ("nodes.terrestrial[3].milli_cpu", -4000.0),
        ("nodes.terrestrial[3].memory_mib", math.inf),
        ("nodes.terrestrial[0].lat", 91.0),
        ("workflow.tasks.object-det.milli_cpu", -5),
        ("workflow.tasks.object-det.max_pred_latency_ms", -1.0),
        ("workflow.tasks.object-det.max_data_latency_ms", math.nan),
        ("workflow.tasks.object-det.expected_exec_ms.arm64", -math.inf),
        ("workflow.tasks.object-det.archs", []),
        ("workflow.tasks.object-det.data_source", "nobody"),
        ("snapshots.4.sat_alt_m[7]", math.nan),
        ("snapshots.4.sat_lat_e4[7]", 10**7),
        ("snapshots.4.ground_links[2][2]", -1.0),
        ("link_model.earth_radius_km", 0.0),
    ],
)
def test_a_number_or_a_name_that_cannot_be_is_refused_by_its_field(case: Case, path: str, value: Any) -> None:
    document = _document(case)
    at: Any = document
    *way, last = [
        int(one) if one.isdigit() and one != "4" else one for one in re.split(r"\.|\[|\]\.?", path) if one
    ]
    for one in way:
        at = at[one]
    at[last] = value
    with pytest.raises(BadRequest) as refused:
        case_of(document)
    assert path in str(refused.value)
    assert refused.value.details["field"].startswith(path)


def test_ids_are_there_once_and_fields_are_not_left_out(case: Case) -> None:
    changes: tuple[tuple[Callable[[Any], Any], str], ...] = (
        (lambda d: d["nodes"]["terrestrial"][4].update(id=1010), "the id 1010"),
        (lambda d: d["instances"][1].update(wf=0), "wf 0"),
        (lambda d: d["instances"][0].update(ingest_node=-1), "ingest_node is -1"),
        (lambda d: d["workflow"].update(chain=["ingest", "object-det", "object-det"]), "follow itself"),
        (lambda d: d["snapshots"]["4"]["ground_links"].append([1008.5, 3, 1.0]), "whole"),
        (lambda d: d["snapshots"]["4"]["ground_links"].append([1200, 3, 1.0]), "ground_links"),
        (lambda d: d["nodes"]["terrestrial"][4].pop("milli_cpu"), r"milli_cpu.*terrestrial"),
        (lambda d: d["workflow"]["tasks"]["object-det"].pop("archs"), "archs"),
        (lambda d: d["instances"][0].pop("eo_satellite"), "eo_satellite"),
        (lambda d: d["orbits"].update(planes=0, sats_per_plane=0), "orbits"),
    )
    for change, what in changes:
        document = copy.deepcopy(_document(case))
        change(document)
        with pytest.raises(BadRequest, match=what):
            case_of(document)


def test_files_that_are_no_case_are_refused(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "case"
    packed = gzip.compress(b"{}")
    for content in (b"", b"{", b"{}", b"\xff\xfe", packed, packed[:-9], b"\x1f\x8bnothing"):
        file.write_bytes(content)
        with pytest.raises(BadRequest, match="no placement case"):
            read_case(file)
    for number in (math.nan, math.inf):
        document = _document(case)
        document["nodes"]["terrestrial"][5]["memory_mib"] = number
        file.write_text(json.dumps(document))
        with pytest.raises(BadRequest, match=r"memory_mib is (nan|inf)") as refused:
            read_case(file)
        assert refused.value.details["field"] == "nodes.terrestrial[5].memory_mib"
    file.write_text('{"format": "hyperdrive-wildfire-case/1", "nodes_total": NaN, "else": [}')
    with pytest.raises(BadRequest, match="malformed"):
        read_case(file)
    with pytest.raises(BadRequest, match="absent"):
        read_case(tmp_path / "absent")
    for recipe in ({"planes": 2}, {"sats_per_plane": 9999}, {"centre": (80.0, 0.0)}):
        with pytest.raises(BadRequest):
            WildfireRecipe(**recipe)
    with pytest.raises(BadRequest, match="decay"):
        make_case(WildfireRecipe(planes=3, sats_per_plane=3, start_minute=10**8))


def test_the_command_places_a_case(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "case.json.gz"
    file.write_bytes(gzip.compress(msgspec.json.encode(case.document)))
    for source in ("known", "late"):
        done = cli("place", "--scenario", str(file), "--source", source, "--json")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert len(said["placements"]) == 15
        assert set(said["placements"][0]) >= {"wf", "task", "node", "pred_ms", "data_ms"}
        assert said["summary"]["slo_violations"] == 0
        assert math.isfinite(said["summary"]["decision_cpu_ms_mean"])
    text = cli("place", "--scenario", str(file), "--policy", "hyperdrive").stdout.decode()
    assert "object-det" in text
    assert "mean_critical_path" in text
    wrong = cli("place", "--scenario", str(tmp_path / "absent"))
    assert wrong.returncode == 1
    assert b"no placement case" in wrong.stderr
