"""``tools/gpu-check`` where there is no GPU, and where the driver shows one."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeagent import native
from edgeagent.accel.gpu_driver import LIBRARY_ENV
from tests.native.cuda_double import COMPILER, build

TOOL = Path(__file__).parents[3] / "tools" / "gpu-check"

pytestmark = pytest.mark.skipif(not native.accelerated, reason="the extension is not built")


def check(out: Path, library: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), "--python", sys.executable, "--out", str(out), "--only", "facts"]
    env = {**os.environ, LIBRARY_ENV: str(library)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = check(tmp_path / "out", tmp_path / "none.so")
    assert done.returncode == 3, done.stderr
    assert "no GPU: no CUDA driver" in done.stdout
    assert "nothing was checked" in done.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [one["name"] for one in report["steps"]] == ["facts"]


def test_a_step_that_there_is_not_is_wrong_usage(tmp_path: Path) -> None:
    command = [sys.executable, str(TOOL), "--out", str(tmp_path / "out"), "--only", "fact"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "bench-zero-copy" in done.stderr
    assert not (tmp_path / "out").exists()


def test_who_interrupts_it_ends_its_step_too(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$2" in *gpu_driver*) echo $$ >{begun}; exec sleep 600;; esac\n')
    python.chmod(0o755)
    command = [sys.executable, str(TOOL), "--python", str(python), "--out", str(tmp_path / "out")]
    with (
        begun.open("r+b", buffering=0) as line,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as tool,
    ):
        assert select.select([line], [], [], 60.0)[0], "no step was begun"
        step = int(line.read(16))
        tool.send_signal(signal.SIGINT)
        assert tool.wait(60) != 0
    with pytest.raises(ProcessLookupError):
        os.kill(step, 0)


@pytest.mark.skipif(not COMPILER, reason="no C compiler")
def test_with_one_it_reports_what_it_found(tmp_path: Path) -> None:
    done = check(tmp_path / "out", build(tmp_path / "libcuda.so", sanitize=False))
    log = (tmp_path / "out" / "facts.log").read_text()
    assert '"name": "Double 0"' in log
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (facts,) = report["steps"]
    assert facts["name"] == "facts"
    assert done.returncode == (1 if facts["status"] else 0)
    assert facts["status"] == 0 or "no CuPy" in facts["last"], log
