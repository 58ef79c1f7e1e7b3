"""The benchmark ``state``, elections: played through on a small grid."""

from __future__ import annotations

import io

import pytest

from edgeagent.bench import state_election
from edgeagent.bench.command import BENCHMARKS
from edgeagent.bench.harness import Bench, Options, Progress, run_cases
from edgeagent.bench.report import Report


def test_cases_play(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_election, "SIDE", 17)
    monkeypatch.setattr(state_election, "NODES", 17 * 17)
    monkeypatch.setattr(state_election, "PAIRS", 20)
    report = Report(benchmark="state", machine={}, date="", seed=1, full=False)
    cases = state_election.election_cases()
    assert run_cases(cases, Bench(options=Options(), progress=Progress(io.StringIO())), report)
    static, contacts = report.cases
    assert set(static["baselines"]) == {"databelt", "databelt-cached"}
    assert static["ratio"]["databelt"] > 1.0
    assert static["ours"]["tree_ms"] > 0.0
    assert contacts["ours"]["feasible"] >= 2


def test_the_case_has_its_name() -> None:
    assert "election-10000" in {case.name for case in BENCHMARKS["state"]()}


def test_the_original_as_it_was() -> None:
    edges = [("a", "b", 5.0), ("b", "c", 10.0), ("c", "d", 1.0), ("a", "d", 99.0)]
    for slo_ms, node in ((42.0, "d"), (41.0, "c"), (39.0, "b"), (19.0, "a")):
        assert state_election.original_election(edges, "a", "d", 1_000_000, 1e8, slo_ms) == node
