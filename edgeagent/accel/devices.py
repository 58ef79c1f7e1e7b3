"""How many GPUs there seem to be, by the device files of their drivers: no library is loaded to find out.

What seems to be there is told apart from what works by the broker's self-test.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["NO_GPU", "count_gpus"]

NO_GPU = "no CUDA driver: there is no /dev/nvidia0, /dev/nvhost-gpu, /dev/nvgpu or /dev/dxg"
_ONE = ("nvhost-gpu", "nvgpu", "dxg")  # Jetson (old and new names), and Windows' subsystem


def count_gpus(dev: Path = Path("/dev")) -> int:
    """Discrete ones are counted; an integrated one is one."""
    discrete = sum(path.name.removeprefix("nvidia").isdigit() for path in dev.glob("nvidia[0-9]*"))
    return discrete or int(any((dev / name).exists() for name in _ONE))
