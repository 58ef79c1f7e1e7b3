"""The hose benchmark's parts at sizes that are quick, and the arithmetic of the calibration."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from edgeagent import native
from edgeagent.bench import hose_calibrate
from edgeagent.bench.command import add_arguments, run
from edgeagent.bench.harness import Bench, Options, Progress, run_cases
from edgeagent.bench.hose import cases
from edgeagent.bench.hose_calibrate import Crossing, crossover
from edgeagent.bench.report import Report
from edgeagent.hose.settings import load_crossovers

needs_native = pytest.mark.skipif(not native.accelerated, reason="the extension is not built")
NEVER = 1 << 62


def _points(*pairs: tuple[int, float, float]) -> list[Crossing]:
    return [Crossing(*pair) for pair in pairs]


@pytest.mark.parametrize(
    ("points", "first"),
    [
        (_points((1, 1, 2), (2, 1, 2)), 1),
        (_points((1, 3, 2), (2, 2, 2), (4, 1, 2)), 2),
        (_points((1, 1, 2), (2, 3, 2), (4, 1, 2)), 4),
        (_points((1, 1, 2), (2, 3, 2)), NEVER),
        (_points((1, 2.05, 2)), 1),
        ([], NEVER),
    ],
)
def test_where_a_tier_begins(points: list[Crossing], first: int) -> None:
    assert crossover(points) == first


def test_case_names_are_the_contract() -> None:
    names = {case.name for case in cases()}
    assert len(names) == len(cases())
    for size in ("1KiB", "64KiB", "1MiB", "16MiB", "64MiB", "256MiB", "512MiB"):
        assert {f"cycle-warm-{size}", f"cycle-oneshot-{size}", f"same-process-{size}"} <= names
    assert {"fanout16-64MiB", "fanout16-64MiB-pss", "publish-64MiB"} <= names
    assert {"cross-process-64MiB", "cross-host-64MiB"} <= names


@needs_native
@pytest.mark.parametrize(
    "pattern",
    [
        "cycle-*-64KiB",
        "cycle-oneshot-1MiB",
        "same-process-1MiB",
        "fanout16-1MiB*",
        "publish-1MiB",
        "cross-*-1MiB",
    ],
)
def test_cases_run(pattern: str) -> None:
    report = Report(benchmark="hose", machine={}, date="", seed=1, full=False)
    bench = Bench(options=Options(pattern=pattern), progress=Progress(io.StringIO()))
    assert run_cases(cases(), bench, report), report.skipped
    assert report.cases
    for case in report.cases:
        assert case["ours"]["n"] >= 5
        if not case["name"].startswith("publish"):
            assert case["baselines"].keys() & {"two-copies", "plain-socket"}


@needs_native
def test_calibrating_writes_what_the_node_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import argparse

    monkeypatch.setattr(hose_calibrate, "_SIZES", (16 << 10, 2 << 20))
    monkeypatch.setattr(hose_calibrate, "_ROUNDS", 3)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    state = tmp_path / "state"
    assert run(parser.parse_args(["hose", "--calibrate", "--state-dir", str(state), "--json"])) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["path"] == str(state / "hose.json")
    found = load_crossovers(state)
    assert document["crossovers"]["loan_bytes_min"] == found.loan_bytes_min
    assert found.loan_bytes_min in (16 << 10, 2 << 20, NEVER)
    assert run(parser.parse_args(["invoke", "--calibrate"])) == 2
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert run(parser.parse_args(["hose", "--calibrate", "--state-dir", str(tmp_path / "file")])) == 1
    assert "not calibrated" in capsys.readouterr().err
