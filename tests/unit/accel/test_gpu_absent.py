"""A machine without a driver, without the extension, without CuPy: a clear typed error from each."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgeagent import native
from edgeagent.accel import cupy_glue
from edgeagent.accel.gpu_context import GpuContext
from edgeagent.accel.gpu_driver import devices
from edgeagent.accel.gpu_errors import GpuAbsent


@pytest.mark.parametrize("core", [None, SimpleNamespace()])
def test_without_the_extension(monkeypatch: pytest.MonkeyPatch, core: object) -> None:
    monkeypatch.setattr(native, "core", core)
    monkeypatch.setattr(native, "why_not", "EDGEAGENT_NATIVE=never" if core is None else "")
    why = "never" if core is None else "older than this package"
    for use in (devices, GpuContext):
        with pytest.raises(GpuAbsent, match=f"need the native extension: .*{why}") as caught:
            use()
        assert "make native" in caught.value.hint


@pytest.mark.skipif(not native.accelerated, reason="the extension is not built")
def test_without_a_driver(tmp_path: Path) -> None:
    for use in (devices, lambda library: GpuContext(library=library)):
        with pytest.raises(GpuAbsent, match="no CUDA driver") as caught:
            use(str(tmp_path / "libcuda.so.1"))
        assert caught.value.status == 503
        assert "CPU" in caught.value.hint


def test_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(GpuAbsent, match="CuPy cannot be imported") as caught:
        cupy_glue.load_cupy()
    assert "edgeagent[gpu]" in caught.value.hint


def test_with_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "cupy", module)
    assert cupy_glue.load_cupy() is module
