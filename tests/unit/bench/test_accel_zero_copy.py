"""A call whose operand lies in a hose beside one through the arena, with a double in the place of a GPU."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest

from edgeagent.bench import accel_host, accel_zero_copy
from edgeagent.bench.accel_zero_copy import SIZES, zero_copy_cases, zero_copy_samplers
from edgeagent.bench.harness import Bench, Options, Progress, Rounds
from tests.unit.accel.gpu_double import NAME, VARIABLE, calls_done


def test_ours_is_mapped_and_the_baseline_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with zero_copy_samplers(NAME, 1 << 16) as (samplers, device):
        assert device == "numpy 0"
        for name in ("staged", "ours"):
            assert not (tmp_path / "mapped").exists()
            value, _ = samplers[name]()
            assert math.isfinite(value)
            assert value > 0.0
    assert len(calls_done(tmp_path)) == 2 * accel_zero_copy.CALLS
    assert (tmp_path / "mapped").read_text().split() == [str(1 << 16)] * accel_zero_copy.CALLS


def test_a_wrong_answer_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel_zero_copy, "KERNEL", "mean")
    with (
        zero_copy_samplers(NAME, 1 << 16) as (samplers, _),
        pytest.raises(AssertionError, match="a sum of 16384 ones"),
    ):
        samplers["staged"]()


def test_without_a_gpu_the_document_says_what_was_driven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel_host, "count_gpus", lambda: 0)
    bench = Bench(options=Options(), progress=Progress(io.StringIO()))
    case = zero_copy_cases()[0]
    assert (case.name, case.params["bytes"]) == ("zero-copy-1MiB", SIZES["1MiB"])
    with case.open(bench) as samplers:
        rounds: Rounds = {name: [sampler()] for name, sampler in samplers.items()}
    assert case.fields(rounds, bench) == {"device": "numpy on the CPU, no GPU"}
    assert [one.name for one in bench.skipped] == ["zero-copy on a GPU"]
