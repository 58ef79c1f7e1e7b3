"""What we say of the CUDA driver, against NVIDIA's own header: skipped where there is none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeagent import native

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("g++") or shutil.which("c++") or ""


def _header() -> Path | None:
    """CUDA's, of the system or of a package of Python."""
    homes = [os.environ.get(name, "") for name in ("CUDA_HOME", "CUDA_PATH")]
    places = [Path(home) for home in (*homes, "/usr/local/cuda") if home]
    for path in sys.path:
        nvidia = Path(path or ".") / "nvidia"
        places += sorted(nvidia.glob("cu*")) if nvidia.is_dir() else []
    return next((place / "include" for place in places if (place / "include" / "cuda.h").is_file()), None)


@pytest.fixture(scope="module")
def include() -> Path:
    found = _header()
    if found is None:
        pytest.skip("there is no cuda.h")
    return found


@pytest.mark.skipif(not COMPILER, reason="no C++ compiler")
def test_types_values_and_parameters_are_the_headers(include: Path) -> None:
    source = Path(__file__).parent / "cuda_abi.cpp"
    command = [COMPILER, "-std=c++20", "-fsyntax-only", f"-I{ROOT / 'native'}", "-isystem", str(include)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not native.accelerated, reason="the extension is not built")
def test_codes_are_the_headers(include: Path) -> None:
    """Newer headers have more codes, which count as poisoned until somebody has read what they mean."""
    text = (include / "cuda.h").read_text(errors="replace")
    theirs = {name: int(code) for name, code in re.findall(r"\b(CUDA_(?:SUCCESS|ERROR_\w+)) *= *(\d+)", text)}
    assert theirs["CUDA_ERROR_OUT_OF_MEMORY"] == 2
    core: Any = native.core
    ours = {name: code for code, name, _ in core.gpu.fault_table()}
    both = ours.keys() & theirs.keys()
    assert {name: ours[name] for name in both} == {name: theirs[name] for name in both}
    assert len(both) >= 95
