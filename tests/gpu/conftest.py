"""Tests on a real GPU: skipped where the driver shows none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgeagent.accel.gpu_context import GpuContext
from edgeagent.accel.gpu_driver import devices
from edgeagent.accel.gpu_errors import GpuFault


def why_no_gpu() -> str:
    """Empty where a device is at hand."""
    try:
        return "" if devices() else "the driver shows no device"
    except GpuFault as fault:
        return str(fault)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what is in this directory, and asks the driver only when something is."""
    ours = [item for item in items if "tests/gpu/" in item.path.as_posix()]
    if ours and (why := why_no_gpu()):
        for item in ours:
            item.add_marker(pytest.mark.skip(reason=f"no GPU: {why}"))


@pytest.fixture
def context() -> Iterator[GpuContext]:
    with GpuContext() as opened:
        yield opened
