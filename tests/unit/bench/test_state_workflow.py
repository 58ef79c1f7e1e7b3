"""The benchmark ``state``, workflows: played through with little to do."""

from __future__ import annotations

import io

import pytest

from edgeagent.bench import state_workflow
from edgeagent.bench.command import BENCHMARKS
from edgeagent.bench.harness import Bench, Options, Progress, run_cases
from edgeagent.bench.report import Report
from edgeagent.simulator.state_flow_world import FlowSettings


def little(size_mb: int) -> FlowSettings:
    return FlowSettings(size_bytes=size_mb * 1_000_000, clients=2, workflows=2)


def test_cases_play(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_workflow, "SIZES_MB", (1,))
    monkeypatch.setattr(state_workflow, "_settings", little)
    report = Report(benchmark="state", machine={}, date="", seed=1, full=False)
    cases = state_workflow.cases()
    assert run_cases(cases, Bench(options=Options(), progress=Progress(io.StringIO())), report)
    times, rates = report.cases
    for one in (times, rates):
        assert set(one["baselines"]) == {"cloud", "random-node", "databelt"}
        assert one["ratio"]["cloud"] > 1.0
        assert one["local_share"]["ours"] == 1.0
        assert one["violations"]["ours"] == 0
        assert one["steps"]["ours"] == one["steps"]["cloud"]
    assert 0.0 < times["lower_by"]["cloud"] < 1.0
    assert rates["higher_by"]["cloud"] > 0.0
    for variant in ("alone", "on_the_way", "free_disks"):
        assert set(times[variant]) == {"ours", "producer", "databelt", "cloud"}
    assert times["storage"]["producer"]["lower_by"] > 0.2


def test_cases_have_their_names() -> None:
    names = [case.name for case in BENCHMARKS["state"]()]
    assert names[:2] == ["workflow-time", "workflow-throughput"]
    assert {f"workflow-{what}-{size}MB" for what in ("time", "throughput") for size in (1, 50)} <= {*names}


def test_the_largest_state_is_measured_less_often() -> None:
    assert state_workflow._settings(50).workflows < state_workflow._settings(10).workflows
