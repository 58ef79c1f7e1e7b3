"""A double of libcuda for each test, which must leave nothing behind on it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent import native
from tests.native.cuda_double import COMPILER, CudaDouble, build


@pytest.fixture(scope="session")
def double_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not native.accelerated:
        pytest.skip("the extension is not built")
    if not COMPILER:
        pytest.skip("no C compiler")
    return build(tmp_path_factory.mktemp("cuda") / "libcuda_double.so")


@pytest.fixture
def cuda(double_library: Path) -> Iterator[CudaDouble]:
    """Reset before; after the test nothing may be live."""
    double = CudaDouble(double_library)
    double.reset()
    yield double
    double.let_go()
    if double.leaks():
        gc.collect()  # what only a traceback holds; to do so after each test would take longer than all of them
    assert double.leaks() == {}
