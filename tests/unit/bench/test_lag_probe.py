"""The probe of the loop's lag: stamps in, figures out."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest

from edgeagent.bench.lag_probe import STAMP, LagFigures, Probe


def test_lags_are_counted_from_the_stamps_and_published_at_the_end_of_a_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic_ns", lambda: 1_000_000_000)
    reader, writer = os.pipe()
    results = tmp_path / "lag.json"
    probe = Probe(reader, results)
    for lag_ms in (1, 2, 3, 50):
        os.write(writer, STAMP.pack(1_000_000_000 - lag_ms * 1_000_000))
    probe.on_readable()
    assert not results.exists()
    os.write(writer, STAMP.pack(0))
    probe.on_readable()
    figures = msgspec.json.decode(results.read_bytes(), type=LagFigures)
    assert figures == LagFigures(p50_ms=2.0, p99_ms=50.0, max_ms=50.0, n=4)
    results.unlink()
    os.write(writer, STAMP.pack(0))
    probe.on_readable()
    assert not results.exists(), "a round without stamps has no figures"
    os.close(reader)
    os.close(writer)
