"""Runs over the fleet, against a fake node in the origin's place: success, failure, and a node that is killed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeagent.demo import continuum
from edgeagent.demo import fleet as fleet_module
from edgeagent.demo.chain import STEPS
from edgeagent.demo.continuum import FleetRun, deploy_workflow, run_killing, run_once
from edgeagent.demo.fleet import Fleet, Member, configs_directory
from edgeagent.demo.fleet_report import fleet_document, say_run, say_sky
from edgeagent.demo.map import draw_map
from edgeagent.demo.orbits import REGION, train
from edgeagent.demo.plant import Score
from edgeagent.demo.report import Voice
from edgeagent.model.errors import PeerFailed, Unavailable
from tests.unit.demo.fake_node import FakeNode, fake_node

NAMES = ("calibrate", "index", "detect", "vet", "cluster", "alert")
SINCE_S = 1_790_000_000.0
OUTPUT = b'{"type": "FeatureCollection", "features": []}'


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with fake_node() as started:
        yield started


@pytest.fixture
def fleet(node: FakeNode) -> Fleet:
    names = ("edge-1", "edge-2", "ground", "cloud", "sat-1", "sat-2", "sat-3", "sat-4")
    kinds = {"edge": "edge", "grou": "ground", "clou": "cloud", "sat-": "satellite"}
    members = [
        Member(
            name=name, kind=kinds[name[:4]], id=f"id-{name}", url=node.url, process=SimpleNamespace(pid=pid)
        )
        for pid, name in enumerate(names, 1000)
    ]
    return Fleet(members, SINCE_S)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    pids: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: pids.append(pid))
    return pids


def _view(state: str, vet: str, vet_at: str, **more: Any) -> tuple[int, dict[str, str], bytes]:
    steps = [
        {
            "name": name, "function": name, "state": vet if name == "vet" else "succeeded",
            "node": vet_at if name == "vet" else "id-edge-1", "why": "best of 8; id-edge-2 is worse", "backend": "cpu",
            "hose": "wire", "cold": False, "attempts": 1, "duration_ms": 1.0, "predicted_ms": 2.0,
            "measured_ms": None, "bytes_in": 3, "bytes_out": 4, "cost_usd": 0.0, "problem": None,
        }
        for name in NAMES
    ]  # fmt: skip
    view = {"id": "r1", "state": state, "steps": steps, "decisions": [], "problem": None, **more}
    return 200, {}, json.dumps(view).encode()


def _script(node: FakeNode, *views: tuple[int, dict[str, str], bytes]) -> None:
    node.scripted["POST", "/workflows/wildfire"] = [(202, {"Location": "/v1/runs/r1"}, b"{}")]
    node.scripted["GET", "/v1/runs/r1"] = list(views)
    node.scripted["GET", "/v1/runs/r1/output"] = [(200, {}, OUTPUT)]


def test_everything_is_deployed_at_the_origin_alone(node: FakeNode, fleet: Fleet) -> None:
    node.scripted["PUT", "/v1/workflows/wildfire"] = [(201, {}, b"{}")]
    deploy_workflow(fleet)
    put = [path.rpartition("/")[2] for method, path, _ in node.requests if method == "PUT"]
    assert put == [*STEPS, "vet", "wildfire"]


def test_a_run(node: FakeNode, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    _script(node, _view("running", "running", "id-sat-1"), _view("succeeded", "succeeded", "id-sat-1"))
    run = run_once(fleet, b"scene")
    assert (run.id, run.output, run.problem, run.killed) == ("r1", OUTPUT, "", None)
    assert [step["name"] for step in run.document(ok=True)["steps"]] == list(NAMES)
    say_run(Voice(quiet=False), fleet, 1, run)
    said = capsys.readouterr().out
    assert "vet        sat-1       2.0 ms         -" in said
    assert "edge-2 is worse" in said, "people read names, not ids"


def test_a_run_that_fails_says_why(node: FakeNode, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    problem = {"step": "vet", "detail": "no node of kind satellite: id-sat-1", "hint": "wait"}
    _script(node, _view("failed", "failed", "", problem=problem))
    run = run_once(fleet, b"scene")
    assert run.problem == "failed: vet: no node of kind satellite: id-sat-1: wait"
    assert json.loads(run.output)["features"] == []
    say_run(Voice(quiet=False), fleet, 2, run)
    assert "NOT OK: failed: vet: no node of kind satellite: sat-1: wait" in capsys.readouterr().out
    assert run.document(ok=False)["problem"] == run.problem


def test_a_run_without_an_end(node: FakeNode, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuum, "_RUN_S", 0.0)
    _script(node, _view("running", "running", "id-sat-1"))
    with pytest.raises(PeerFailed, match="run r1 did not end in 0 s"):
        run_once(fleet, b"scene")


def test_the_node_that_executes_the_step_is_killed_once(
    node: FakeNode, fleet: Fleet, killed: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    running = _view("running", "running", "id-sat-1")
    _script(
        node,
        _view("running", "placed", "id-sat-1"),
        running,
        running,
        _view("succeeded", "succeeded", "id-sat-3"),
    )
    run = run_killing(fleet, b"scene")
    assert killed == [1004]
    assert run.killed is not None
    assert (run.killed.name, run.rerun_on) == ("sat-1", "id-sat-3")
    assert run.document(ok=True)["killed_step"] == "vet"
    say_run(Voice(quiet=False), fleet, 4, run)
    assert "killed sat-1 (SIGKILL) while it executed vet" in capsys.readouterr().out


def test_the_origin_is_never_killed(node: FakeNode, fleet: Fleet, killed: list[int]) -> None:
    _script(node, _view("running", "running", "id-edge-1"), _view("succeeded", "succeeded", "id-edge-1"))
    assert run_killing(fleet, b"scene").killed is None
    assert killed == []


def test_a_node_that_was_killed_too_late_does_not_count(
    node: FakeNode, fleet: Fleet, killed: list[int]
) -> None:
    _script(node, _view("running", "running", "id-sat-1"), _view("succeeded", "succeeded", "id-sat-1"))
    run = run_killing(fleet, b"scene")
    assert killed == [1004]
    assert (run.killed, run.rerun_on) == (None, None)


def _run(killed: Member | None = None) -> FleetRun:
    steps = json.loads(_view("succeeded", "succeeded", "id-sat-2")[2])["steps"]
    return FleetRun(
        id="r1", steps=steps, output=OUTPUT, total_ms=5.0, orbital_s=300.0, killed=killed, rerun_on="id-sat-2"
    )


def test_the_document(fleet: Fleet) -> None:
    good, bad = Score(5, 5, 0, 0), Score(5, 0, 5, 0)
    runs, pictures = [_run(), _run(fleet.members[4])], ("scene.png", None)
    document = json.loads(
        fleet_document("generated", [], [bad, good], pictures, fleet, runs, ok=False, url="http://x")
    )
    assert document["ok"] is False
    assert [run["ok"] for run in document["runs"]] == [False, True]
    assert document["killed_node"] == "id-sat-1"
    assert document["steps"] == document["runs"][-1]["steps"]
    assert (document["picture"], document["map"], document["url"]) == ("scene.png", None, "http://x")
    assert document["detections"] == good.document()


def test_the_map_and_the_sky(fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contacts = [{"peer": "id-sat-1", "start_s": SINCE_S + 100.0, "end_s": SINCE_S + 500.0}]
    assert draw_map(tmp_path / "map.png", fleet, contacts, [_run(), _run(fleet.members[4])])
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    say_sky(Voice(quiet=False), fleet, contacts)
    assert "sat-1       100 to    500" in capsys.readouterr().out
    assert fleet.kind_of("id-cloud") == "cloud"
    assert fleet.name_of("0123456789") == "01234567"


def test_no_map_without_matplotlib(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not draw_map(tmp_path / "map.png", fleet, [], [_run()])


def test_each_satellite_rises_over_the_region_in_its_turn() -> None:
    from edgeagent.orbit.nodes import GroundNode, Satellite
    from edgeagent.orbit.planner import contact_windows

    station = GroundNode(id="edge", latitude_deg=REGION[0], longitude_deg=REGION[1], mask_deg=10.0)
    rises = []
    for elements in train(SINCE_S):
        (window, *_) = contact_windows(station, Satellite(elements.name, elements), SINCE_S, SINCE_S + 1500.0)
        assert window.duration_s > 240.0
        rises.append(window.start_s - SINCE_S)
    assert rises == sorted(rises)
    assert rises[0] < 300.0 < rises[3]


def _peers(*ids: str, until: str | None = "2026-11-29T00:00:00Z") -> tuple[int, dict[str, str], bytes]:
    peers = [
        {"id": one, "capabilities": {}, "place": {"x": 1}, "in_contact": True, "load": {"x": 1}}
        for one in ids
    ]
    told = [{**one, "capabilities": {"cpus": 1}} for one in peers]
    return 200, {}, json.dumps({"peers": told, "predicted_until": until}).encode()


def test_waits_until_all_are_known(node: FakeNode, fleet: Fleet) -> None:
    others = [one.id for one in fleet.members[1:]]
    node.scripted["GET", "/v1/peers"] = [_peers(*others[:3]), _peers(*others, until=None), _peers(*others)]
    said: list[str] = []
    fleet.wait_until_met(said.append)
    assert said == ["4 of 8 nodes know each other", "8 of 8 nodes know each other"]


def test_who_is_not_found_in_time(node: FakeNode, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "_MEET_S", 0.3)
    node.scripted["GET", "/v1/peers"] = [_peers()]
    with pytest.raises(Unavailable, match="did not find each other"):
        fleet.wait_until_met(lambda text: None)


def test_where_configurations_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (configs_directory() / "edge.toml").exists()
    monkeypatch.setattr(fleet_module, "__file__", str(tmp_path / "lib/edgeagent/demo/fleet.py"))
    monkeypatch.setattr("sys.prefix", str(tmp_path / "prefix"))
    with pytest.raises(Unavailable, match="not here"):
        configs_directory()
    installed = tmp_path / "prefix/share/edgeagent/configs"
    installed.mkdir(parents=True)
    (installed / "satellite.toml").touch()
    assert configs_directory() == installed
