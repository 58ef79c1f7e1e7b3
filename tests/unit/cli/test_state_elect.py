"""``edgeagent state elect``: what it prints, and what it makes of bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeagent.cli.main import main

LINE = {"a": [["b", 5]], "b": [["a", 5], ["c", 10]], "c": [["b", 10]], "alone": []}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(LINE), encoding="utf-8")
    return path


def words(graph: Path, **changed: str) -> list[str]:
    given = {"from": "a", "to": "c", "size-bytes": "1000000", "slo-ms": "115", "mbit-s": "80", **changed}
    return [
        "state",
        "elect",
        "--graph",
        str(graph),
        *(f"--{name}={value}" for name, value in given.items()),
    ]


def answer(capsys: pytest.CaptureFixture[str], argv: list[str], code: int = 0) -> dict[str, Any]:
    assert main([*argv, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_contract(graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, words(graph))
    assert (
        found.items()
        >= {
            "node": "c",
            "path": ["a", "b", "c"],
            "latency_ms": 15.0,
            "transfer_ms": 115.0,
            "sending_ms": 100.0,
            "ready_ms": 115.0,
            "feasible": True,
        }.items()
    )
    assert not answer(capsys, words(graph, **{"slo-ms": "114.9"}))["feasible"]


def test_policies(graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = answer(capsys, words(graph, policy="databelt", **{"slo-ms": "30"}))
    # 2 * 5 + 12, where b's bytes take 100 ms in truth.
    assert (theirs["node"], theirs["model_ms"], theirs["model_fits"]) == ("b", 22, True)
    assert (theirs["transfer_ms"], theirs["feasible"]) == (105.0, False)
    assert answer(capsys, words(graph, policy="cloud", cloud="b"))["node"] == "b"
    assert answer(capsys, words(graph, policy="cloud"))["node"] == "c"
    assert answer(capsys, words(graph, policy="random-node", seed="3"))["node"] in LINE


def test_no_way_leads_there(graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, words(graph, to="alone"))
    assert (found["node"], found["feasible"], found["why"], found["ready_ms"]) == (
        "a",
        False,
        "no-route",
        None,
    )


def test_for_a_person(graph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(graph)) == 0
    assert "c: feasible (in-time)\n  path      a - b - c\n  latency   15.000 ms" in capsys.readouterr().out
    assert main(words(graph, to="alone")) == 0
    assert "ready     never" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changed",
    [
        {"size-bytes": "-1"},
        {"size-bytes": "1.5"},
        {"size-bytes": "9" * 5000},
        {"slo-ms": "nan"},
        {"slo-ms": "inf"},
        {"slo-ms": "-1"},
        {"slo-ms": "soon"},
        {"mbit-s": "0"},
        {"mbit-s": "1e305"},
        {"mbit-s": "5e-324"},
        {"policy": "best"},
    ],
)
def test_usage(graph: Path, changed: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words(graph, **changed))
    assert ended.value.code == 2
    assert "argument --" in capsys.readouterr().err


def test_bad_graphs_and_names(graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, words(graph, to="nobody"), 1)["problem"]["status"] == 404
    assert "cannot read" in answer(capsys, words(tmp_path / "no.json"), 1)["problem"]["detail"]
    assert "cannot read" in answer(capsys, words(tmp_path), 1)["problem"]["detail"]
    graph.write_text('{"a": [["b", -1]]}', encoding="utf-8")
    assert answer(capsys, words(graph, to="b"), 1)["problem"]["type"].endswith("election-refused")
