"""EDGEAGENT_COMPILE: auto goes on without the extension in one line, always fails, never does not try."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BROKEN = "static_assert(sizeof(int) == 1);\n"

pytestmark = pytest.mark.skipif(
    int(metadata.version("setuptools").split(".")[0]) < 77, reason="pyproject.toml needs setuptools 77"
)
needs_compiler = pytest.mark.skipif(
    not (shutil.which("c++") and (Path(sysconfig.get_path("include")) / "Python.h").is_file()),
    reason="no C++ compiler or no Python headers",
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with our setup.py and one C++ file that cannot compile."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("edgeagent/__init__.py", "edgeagent/native/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "native").mkdir()
    (tmp_path / "native" / "broken.cpp").write_text(BROKEN)
    return tmp_path


def _build(project: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    return subprocess.run(
        command, cwd=project, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )


def test_never_does_not_try(project: Path) -> None:
    done = _build(project, EDGEAGENT_COMPILE="never")
    assert done.returncode == 0
    assert done.stdout == ""


@pytest.mark.parametrize("value", ["yes", "AUTO"])
def test_another_value_is_refused(project: Path, value: str) -> None:
    done = _build(project, EDGEAGENT_COMPILE=value)
    assert done.returncode != 0
    assert "must be auto, always or never" in done.stderr


def test_auto_without_a_compiler_goes_on_and_says_why(project: Path, tmp_path: Path) -> None:
    done = _build(project, EDGEAGENT_COMPILE="auto", PATH=str(tmp_path / "nothing"), CXX="none")
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    assert line.startswith("edgeagent: no C++ compiler (package g++); installing without the native engine")


def test_always_without_a_compiler_fails(project: Path, tmp_path: Path) -> None:
    done = _build(project, EDGEAGENT_COMPILE="always", PATH=str(tmp_path / "nothing"), CXX="none")
    assert done.returncode != 0
    assert "EDGEAGENT_COMPILE=always, but no C++ compiler" in done.stderr


@needs_compiler
def test_auto_survives_a_failing_build(project: Path) -> None:
    done = _build(project, EDGEAGENT_COMPILE="auto")
    assert done.returncode == 0
    assert "edgeagent: the native engine did not build" in done.stdout
    assert not list((project / "edgeagent/native").glob("*.so"))


@needs_compiler
def test_always_fails_with_a_failing_build(project: Path) -> None:
    assert _build(project, EDGEAGENT_COMPILE="always").returncode != 0
