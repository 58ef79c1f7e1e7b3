"""The probed daemon is the real one: it takes a deploy, answers, and tells the lag of its loop."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from edgeagent.bench import guests, lag_case
from edgeagent.bench.daemon import deploy
from edgeagent.bench.lag_probe import STAMP


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_it_serves_and_measures_on_either_loop(
    loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if loop == "asyncio":  # a module of this name that cannot be imported, found before the real one
        hidden = tmp_path / "hidden"
        hidden.mkdir()
        (hidden / "uvloop.py").write_text("raise ImportError('not here')\n")
        wrapper = tmp_path / "python"
        wrapper.write_text(f'#!/bin/sh\nPYTHONPATH="{hidden}:$PYTHONPATH" exec "{sys.executable}" "$@"\n')
        wrapper.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(wrapper))
    with lag_case._probed_daemon(tmp_path) as (process, fifo, results):
        deploy(process.port, "add1", guests.add1())
        process.check()
        for _ in range(5):
            os.write(fifo, STAMP.pack(time.monotonic_ns()))
        figures = lag_case._result(fifo, results)
    assert figures.n == 5
    assert -0.1 < figures.p50_ms <= figures.max_ms  # timers may fire a clock's tick early
