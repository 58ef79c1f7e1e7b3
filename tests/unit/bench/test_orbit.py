"""The orbit benchmark: its cases, its baseline's honesty, one quick run of each."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from edgeagent.bench import orbit
from edgeagent.bench.harness import Bench, Case, Options, Progress, run_cases
from edgeagent.bench.orbit import cases
from edgeagent.bench.report import Report


def _run(pattern: str) -> Report:
    report = Report(benchmark="orbit", machine={}, date="", seed=1, full=False)
    bench = Bench(options=Options(patterns=(pattern,)), progress=Progress(io.StringIO()))
    assert run_cases([_short(case) for case in cases()], bench, report)
    return report


def _short(case: Case) -> Case:
    return replace(case, rounds=2, warm_up_rounds=0)


def test_case_names() -> None:
    names = [case.name for case in cases()]
    assert names == ["plan-100x3h", "plan-minute-100", "propagate-100", "propagate-1000", "propagate-10000"]


def test_propagation_against_a_loop() -> None:
    (case,) = _run("propagate-100").cases
    assert case["ours"]["median"] > 0
    assert case["baselines"]["per-satellite-loop"]["median"] > 0


def test_a_minute_more() -> None:
    (case,) = _run("plan-minute-100").cases
    assert case["ours"]["n"] == 2


def test_plans_against_a_loop_that_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orbit, "NEIGHBOURS", 24)
    monkeypatch.setattr(orbit, "HORIZON_S", 1800.0)
    report = _run("plan-100x3h")
    (case,) = report.cases
    assert case["ratio"]["per-satellite-loop"] > 0
    assert not report.skipped


def test_a_baseline_that_finds_something_else_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orbit, "NEIGHBOURS", 24)
    monkeypatch.setattr(orbit, "HORIZON_S", 600.0)
    monkeypatch.setattr("edgeagent.bench.orbit_loop.loop_windows", lambda *_: [(0.0, 100.0)])
    report = _run("plan-100x3h")
    assert report.cases == []
    assert "other contacts" in report.skipped[0].reason
