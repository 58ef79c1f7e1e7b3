"""GPUs by their device files."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeagent.accel.devices import count_gpus


@pytest.mark.parametrize(
    ("names", "count"),
    [
        ((), 0),
        (("nvidiactl", "nvidia-uvm"), 0),
        (("nvidia0", "nvidiactl"), 1),
        (("nvidia0", "nvidia1", "nvidia10", "nvhost-gpu"), 3),
        (("nvhost-gpu",), 1),
        (("nvgpu",), 1),
        (("dxg",), 1),
    ],
)
def test_what_seems_to_be_there(tmp_path: Path, names: tuple[str, ...], count: int) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert count_gpus(tmp_path) == count
