"""Whole calls of the original's workloads, through a real daemon without a GPU."""

from __future__ import annotations

import importlib
import importlib.util
import io
from pathlib import Path
from typing import Any

import pytest

from edgeagent.accel.devices import count_gpus
from edgeagent.bench import accel_auto
from edgeagent.bench.accel_auto import WORKLOADS, Workload, auto_cases
from edgeagent.bench.accel_picture import picture_model
from edgeagent.bench.harness import Bench, CaseSkipped, Options, Progress

HAS_ONNX = importlib.util.find_spec("onnxruntime") is not None


def test_every_workload_has_its_guest_and_a_case() -> None:
    wasm = Path(accel_auto.__file__).parent / "wasm"
    assert all((wasm / f"{one.guest}.wasm").exists() for one in WORKLOADS)
    assert [case.name for case in auto_cases()] == [f"auto-{one.name}" for one in WORKLOADS]


def test_the_choice_is_measured_beside_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if count_gpus():
        pytest.skip("this is about a node without a GPU")
    small = [Workload("matmul-8", "accel_matmul", (8,)), Workload("text-1", "accel_text", (1,))]
    small.append(Workload("idle", "accel_idle", (20,), seeded=False))
    if HAS_ONNX:
        small.append(Workload("onnx-1", "accel_onnx", (1,), nn=True))
    monkeypatch.setattr(accel_auto, "WORKLOADS", small)
    monkeypatch.setattr(accel_auto, "LEARNING", 2)
    bench = Bench(options=Options(), progress=Progress(io.StringIO()))
    try:
        for case in auto_cases():
            with case.open(bench) as samplers:
                assert set(samplers) == {"ours", "cpu"}
                rounds = {name: [sampler()] for name, sampler in samplers.items()}
                least_ms = 20.0 if case.name == "auto-idle" else 0.0
                assert all(one[0][0] > least_ms for one in rounds.values())
                assert case.fields(rounds, bench) == {"gpu_share_pct": 0.0}
    finally:
        bench.close_shared()
    said = {one.name: one.reason for one in bench.skipped}
    assert set(said) == {"gpu", *(["gpu in auto-onnx-1"] if HAS_ONNX else [])}
    assert "no CUDA driver" in said["gpu"]


def test_without_onnxruntime_its_workload_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    case = next(case for case in auto_cases() if case.name == "auto-onnx-1")
    with (
        pytest.raises(CaseSkipped, match="no onnxruntime"),
        case.open(Bench(options=Options(), progress=Progress(io.StringIO()))),
    ):
        pass


@pytest.mark.skipif(not HAS_ONNX, reason="no onnxruntime")
def test_the_picture_model_is_a_model() -> None:
    import numpy as np

    runtime: Any = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(picture_model(), providers=["CPUExecutionProvider"])
    pictures = np.random.default_rng(3).uniform(-1.0, 1.0, (4, 3, 96, 96)).astype(np.float32)
    (scores,) = session.run(None, {"pictures": pictures})
    assert scores.shape == (4, 10)
    assert float(np.ptp(scores)) > 0.0
    assert picture_model() == picture_model()
