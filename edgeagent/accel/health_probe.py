"""The probe: ``python -m edgeagent.accel.health_probe [--no-nvml] [--root DIR]``, one JSON line for each line it reads.

A process of its own because NVML can hang on a wedged driver and can end its caller; whoever asks sets a deadline and
kills this. It holds the driver open only while it lives, ends with its standard input, and is killed with its parent.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from edgeagent.accel.health import Look, merged
from edgeagent.accel.health_nvml import NvmlReader
from edgeagent.accel.health_sysfs import read_jetson

__all__ = ["Prober", "main"]

_PR_SET_PDEATHSIG = 1


class Prober:
    """``look`` asks every source once and never raises. ``nvml`` False leaves NVML alone."""

    def __init__(self, *, nvml: bool = True, root: Path = Path("/")) -> None:
        self._reader: NvmlReader | None = None
        self._wanted = nvml
        self._root = root

    @property
    def stale(self) -> bool:
        """Whether only another process can go on: the driver was replaced under its library."""
        return self._reader is not None and self._reader.stale

    def look(self) -> Look:
        """All GPUs."""
        why = "nvml is left alone for a while: it failed"
        found: list[Any] = []
        if self._wanted:
            if self._reader is None:
                self._reader, why = _opened()
            if self._reader is not None:
                found = self._reader.look()
                why = self._reader.why
        return Look(gpus=merged(found, read_jetson(self._root)), nvml=why)

    def close(self) -> None:
        """Idempotent."""
        if self._reader is not None:
            self._reader.close()


def _opened() -> tuple[NvmlReader | None, str]:
    try:
        return NvmlReader(importlib.import_module("pynvml")), ""
    except ImportError:
        return None, "nvidia-ml-py is not installed (pip install 'edgeagent[gpu]')"
    except Exception as error:  # noqa: BLE001 - a package that breaks at import is as good as none
        return None, f"pynvml cannot be imported: {error!r}"[:200]


def _own_output() -> int:
    """The descriptor of the answers; what libraries print goes nowhere."""
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return answers


def main(arguments: list[str]) -> int:
    """Until standard input ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's; the daemon decides when this ends
    root = Path(arguments[arguments.index("--root") + 1]) if "--root" in arguments else Path("/")
    answers = _own_output()
    prober = Prober(nvml="--no-nvml" not in arguments, root=root)
    try:
        for _ in sys.stdin.buffer:
            line = msgspec.json.encode(prober.look()) + b"\n"
            while line:
                line = line[os.write(answers, line) :]
            if prober.stale:
                break
    except BrokenPipeError:  # nobody listens any more
        pass
    finally:
        prober.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
