"""Sharing by several functions: that all ask, who gets how much, and what is said without a GPU."""

from __future__ import annotations

import io
import math

import pytest

from edgeagent.bench import accel_host, accel_sharing
from edgeagent.bench.accel_host import CUDA, HOST, where
from edgeagent.bench.accel_sharing import sharing_cases, sharing_samplers
from edgeagent.bench.harness import Bench, CaseSkipped, Options, Progress, Rounds
from tests.unit.accel.gpu_double import NAME


def a_bench() -> Bench:
    return Bench(options=Options(), progress=Progress(io.StringIO()))


def test_each_function_gets_its_part_by_one_broker_or_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel_sharing, "CALLS", 24)
    with sharing_samplers(NAME, 2, 16, own_brokers=True) as (samplers, device):
        assert device == "numpy 0"
        assert set(samplers) == {"ours", "alone", "own-brokers"}
        for name, sampler in samplers.items():
            value, more = sampler()
            assert math.isfinite(value)
            assert value > 0.0
            assert 0.0 <= more["time_spread_pct"] <= 200.0, name


def test_without_a_gpu_numpy_is_driven_and_the_document_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel_host, "count_gpus", lambda: 0)
    monkeypatch.setattr(accel_sharing, "CALLS", 8)
    assert where()[0] == HOST
    bench = a_bench()
    case = sharing_cases()[1]
    with case.open(bench) as samplers:
        assert "own-brokers" not in samplers
        rounds: Rounds = {name: [sampler()] for name, sampler in samplers.items()}
    fields = case.fields(rounds, bench)
    assert fields["device"] == "numpy on the CPU, no GPU"
    assert set(fields["time_spread_pct"]) == {"ours", "alone"}
    assert [one.name for one in bench.skipped] == ["sharing on a GPU"]


def test_with_a_gpu_that_does_not_come_up_the_case_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel_host, "count_gpus", lambda: 1)
    assert where() == (CUDA, "")
    monkeypatch.setattr(accel_sharing, "where", lambda: ("edgeagent:nothing", ""))
    bench = a_bench()
    with pytest.raises(CaseSkipped, match="no GPU"), sharing_cases()[0].open(bench):
        raise AssertionError("it opened")
    assert bench.skipped == []


def test_cases_are_named() -> None:
    assert [one.name for one in sharing_cases()] == ["sharing-1", "sharing-2", "sharing-4", "sharing-8"]
