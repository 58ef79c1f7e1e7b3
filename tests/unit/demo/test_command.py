"""``edgeagent demo`` with a fake node in the daemon's place: what it says, and its exit code."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeagent.demo import command
from edgeagent.demo.chain import STEPS, Run
from edgeagent.demo.command import add_arguments, run
from edgeagent.model.errors import EdgeError, Unavailable
from tests.unit.demo.fake_node import FakeNode, fake_node

EMPTY = b'{"type": "FeatureCollection", "features": []}'
STEP_KEYS = {
    "name",
    "node",
    "backend",
    "why",
    "hose",
    "cold",
    "duration_ms",
    "predicted_ms",
    "bytes_in",
    "bytes_out",
}


@pytest.fixture(autouse=True)
def _handler_restored() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    with fake_node() as started:

        @contextmanager
        def daemon(state: Path, listen: str) -> Iterator[dict[str, Any]]:
            assert state.is_dir()
            yield {"url": started.url, "node": "fake"}

        monkeypatch.setattr(command, "daemon", daemon)
        yield started


def _args(tmp_path: Path, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    add_arguments(parser)
    return parser.parse_args(["--nodes", "1", "--out", str(tmp_path / "out"), *words])


def test_json_is_the_contract(node: FakeNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(_args(tmp_path, "--json", "--generated", "--seed", "9")) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["ok"] is True
    assert document["source"] == "generated"
    assert document["detections"] == {"planted": 5, "found": 5, "missed": 0, "false": 0}
    assert document["picture"] == str(tmp_path / "out/scene.png")
    assert document["url"] is None
    for key, cold in (("first_steps", True), ("steps", False)):
        assert [step["name"] for step in document[key]] == list(STEPS)
        assert all(step.keys() >= STEP_KEYS for step in document[key])
        assert all(step["cold"] is cold for step in document[key])
    assert len(document["planted"]) == 5
    assert "runs" not in document, "one node has no runs to tell apart"
    assert "GENERATED" in said.err
    written = json.loads((tmp_path / "out/fires.geojson").read_text())
    assert written["type"] == "FeatureCollection"
    assert written["source"] == "generated"
    assert written["planted"] == document["planted"]
    assert len(written["features"]) == 5


def test_table(node: FakeNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(_args(tmp_path, "--generated")) == 0
    lines = capsys.readouterr().out.splitlines()
    for word in ("cold", "warm"):
        assert [line.split()[0] for line in lines if f" {word} " in line] == list(STEPS)
    assert sum(line.startswith("planted  ") for line in lines) == 5
    assert sum(line.startswith("alert ") and "column" in line for line in lines) == 5
    assert "ok: 5 planted, 5 found, 0 missed, 0 false" in lines


def test_missed_fires_fail(node: FakeNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node.broken["/functions/alert"] = (200, EMPTY)
    assert run(_args(tmp_path, "--generated", "--json")) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["ok"] is False
    assert "NOT OK: 5 planted, 0 found, 5 missed, 0 false" in said.err


def test_answers_that_differ_fail(node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = iter([EMPTY, EMPTY + b" "])
    monkeypatch.setattr(
        command, "run_chain", lambda url, body: Run(steps=[], output=next(outputs), total_ms=1)
    )
    with pytest.raises(EdgeError, match="different answers"):
        run(_args(tmp_path, "--generated"))


def test_falls_back_and_says_why(
    node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> list[Path]:
        raise Unavailable("no network", hint="find one")

    monkeypatch.setattr(command, "scene_files", missing)
    assert run(_args(tmp_path, "--json")) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["source"] == "generated"
    assert "the real scene is not available: no network\n  find one\nscene: GENERATED" in said.err


def test_without_matplotlib(
    node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run(_args(tmp_path, "--json", "--generated")) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["picture"] is None
    assert "pip install 'edgeagent[demo]'" in said.err
    assert (tmp_path / "out/fires.geojson").exists()


def test_nowhere_to_write(node: FakeNode, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(EdgeError, match="cannot write to") as raised:
        run(_args(tmp_path, "--generated"))
    assert raised.value.hint == "choose another --out DIR"


def test_keep_serves_until_interrupted(
    node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    assert run(_args(tmp_path, "--keep", "--json", "--generated")) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["url"] == node.url
    assert f"serving on {node.url} until Ctrl-C" in said.err
    assert said.err.endswith("stopping\n")


def test_ctrl_c_without_keep_is_not_swallowed(
    node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "print_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(_args(tmp_path, "--json", "--generated"))


def test_a_supervisors_signal_unwinds(
    node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminated(_: float) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(time, "sleep", terminated)
    with pytest.raises(SystemExit) as ended:
        run(_args(tmp_path, "--keep", "--generated"))
    assert ended.value.code == 143
