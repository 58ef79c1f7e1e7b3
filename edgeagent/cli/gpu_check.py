"""What ``edgeagent doctor`` says of GPUs: every metric with its source, or why it is absent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

import msgspec

from edgeagent.accel.health import METRICS, GpuReading, Look
from edgeagent.node.gpu_probe import gpu_is_here, probe_environment

__all__ = ["gpu_finding"]

_WAIT_S = 15.0
_FIX = "pip install 'edgeagent[gpu]'; nvidia-smi says how the driver is"


def gpu_finding(root: Path = Path("/")) -> tuple[Literal["ok", "info", "warn"], str, str]:
    """(level, detail, fix); never raises, and waits ``_WAIT_S`` at most."""
    if not gpu_is_here(root):
        return "info", "none; functions run on the CPU", ""
    command = [sys.executable, "-P", "-m", "edgeagent.accel.health_probe", "--root", str(root)]
    try:
        done = subprocess.run(
            command,
            input=b"look\n",
            capture_output=True,
            timeout=_WAIT_S,
            check=False,
            env=probe_environment(),
        )
        look = msgspec.json.decode(done.stdout, type=Look)
    except subprocess.TimeoutExpired:
        return "warn", "a device is here, and its driver does not answer", _FIX
    except (OSError, ValueError):
        return "warn", "a device is here, and asking for it ends the one who asks", _FIX
    if not look.gpus:
        return "warn", f"a device is here, and nothing can be read of it: {look.nvml}", _FIX
    text = " | ".join(_described(one) for one in look.gpus)
    lost = any(one.lost for one in look.gpus)
    return ("warn" if lost else "ok"), text + (f" | {look.nvml}" if look.nvml else ""), _FIX


def _described(one: GpuReading) -> str:
    known, missing = [], []
    for name in METRICS:
        found = one.metrics[name]
        if found.value is None:
            missing.append(f"{name} ({found.why})")
        else:
            known.append(f"{name} {found.value:g} ({found.source})")
    text = f"GPU {one.index} {one.name}: {', '.join(known) or 'no metric'}"
    return f"{text}; absent: {', '.join(missing)}" if missing else text
