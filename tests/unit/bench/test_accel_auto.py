"""Whole calls of the original's workloads, through a real daemon without a GPU."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from edgeagent.accel.devices import count_gpus
from edgeagent.bench import accel_auto
from edgeagent.bench.accel_auto import WORKLOADS, Workload, auto_cases
from edgeagent.bench.harness import Bench, Options, Progress


def test_every_workload_has_its_guest_and_a_case() -> None:
    wasm = Path(accel_auto.__file__).parent / "wasm"
    assert all((wasm / f"{one.guest}.wasm").exists() for one in WORKLOADS)
    assert [case.name for case in auto_cases()] == [f"auto-{one.name}" for one in WORKLOADS]


def test_the_choice_is_measured_beside_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if count_gpus():
        pytest.skip("this is about a node without a GPU")
    small = (Workload("matmul-8", "accel_matmul", (8,)), Workload("text-1", "accel_text", (1,)))
    monkeypatch.setattr(accel_auto, "WORKLOADS", small)
    monkeypatch.setattr(accel_auto, "LEARNING", 2)
    bench = Bench(options=Options(), progress=Progress(io.StringIO()))
    try:
        for case in auto_cases():
            with case.open(bench) as samplers:
                assert set(samplers) == {"ours", "cpu"}
                rounds = {name: [sampler()] for name, sampler in samplers.items()}
                assert all(one[0][0] > 0 for one in rounds.values())
                assert case.fields(rounds, bench) == {"gpu_share_pct": 0.0}
    finally:
        bench.close_shared()
    (said,) = bench.skipped
    assert said.name == "gpu"
    assert "no CUDA driver" in said.reason
