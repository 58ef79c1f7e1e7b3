"""The broker's overhead, with a double in the place of a GPU: what is measured, and what is said without one."""

from __future__ import annotations

import io
import math

import pytest

from edgeagent.accel.execute import run_on_cpu
from edgeagent.bench import accel_broker
from edgeagent.bench.accel_broker import broker_cases, overhead_samplers, small_call
from edgeagent.bench.harness import Bench, CaseSkipped, Options, Progress, Rounds
from tests.unit.accel.gpu_double import NAME


def test_both_do_the_same_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel_broker, "CALLS", 3)
    prepared, memory = small_call()
    seen: list[bytes] = []

    def made() -> tuple[object, bytearray]:
        return prepared, memory

    monkeypatch.setattr(accel_broker, "small_call", made)
    with overhead_samplers(NAME, run_on_cpu) as samplers:
        for name in ("direct-cupy", "ours"):
            memory[: len(memory) // 2] = bytes(len(memory) // 2)
            memory[len(memory) // 2 :] = b"\xff" * (len(memory) // 2)
            value, _ = samplers[name]()
            assert math.isfinite(value)
            assert value > 0
            seen.append(bytes(memory))
    assert seen[0] == seen[1]
    assert memoryview(memory).cast("f")[-1] == 1.0


def test_a_broker_that_does_not_start_skips_the_case() -> None:
    with pytest.raises(CaseSkipped, match="no GPU"), overhead_samplers("edgeagent:nothing", run_on_cpu):
        raise AssertionError("it started")


def test_without_a_gpu_the_case_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel_broker, "count_gpus", lambda: 0)
    (case,) = broker_cases()
    bench = Bench(options=Options(), progress=Progress(io.StringIO()))
    with pytest.raises(CaseSkipped, match="no GPU: no CUDA driver"), case.open(bench):
        raise AssertionError("it opened")


def test_the_overhead_is_a_field() -> None:
    (case,) = broker_cases()
    bench = Bench(options=Options(), progress=Progress(io.StringIO()))
    rounds: Rounds = {"ours": [(90.0, {}), (95.0, {}), (91.0, {})], "direct-cupy": [(50.0, {})]}
    assert case.fields(rounds, bench) == {"overhead_us": 41.0}
    assert case.fields({"ours": rounds["ours"]}, bench) == {}
