"""libedgehose.so is built by setup.py beside the extension, under the same switch."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(
    int(metadata.version("setuptools").split(".")[0]) < 77, reason="pyproject.toml needs setuptools 77"
)
needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with our setup.py and the C library alone."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE", "edgeagent/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("native/client", "native/include"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def _build(project: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "setup.py", "-q", "build_ext", *arguments]
    return subprocess.run(
        command, cwd=project, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )


@needs_compiler
@pytest.mark.parametrize("arguments", [["--inplace"], ["--build-lib", "out"]])
def test_it_is_built_without_warnings_and_exports_its_abi_alone(project: Path, arguments: list[str]) -> None:
    done = _build(
        project, *arguments, EDGEAGENT_COMPILE="always", EDGEAGENT_WERROR="1", EDGEAGENT_SANITIZE=""
    )
    assert done.returncode == 0, done.stderr
    (built,) = project.rglob("libedgehose.so")
    assert built.relative_to(project).as_posix().removeprefix("out/") == "edgeagent/native/libedgehose.so"
    library = ctypes.CDLL(str(built))
    assert library.edgehose_abi_version() >> 16 == 1
    assert not hasattr(library, "hose_fail")


@pytest.mark.parametrize(("choice", "code"), [("auto", 0), ("always", 1)])
def test_without_a_compiler_one_line_says_so(project: Path, choice: str, code: int) -> None:
    # One that was built from other sources must not stay.
    stale = project / "edgeagent/native/libedgehose.so"
    stale.parent.mkdir(parents=True)
    stale.touch()
    done = _build(project, "--inplace", EDGEAGENT_COMPILE=choice, CC="no-such-compiler")
    assert done.returncode == code
    assert "no C compiler (package gcc)" in (done.stdout + done.stderr)
    assert not stale.exists()


def test_never_does_not_try(project: Path) -> None:
    done = _build(project, "--inplace", EDGEAGENT_COMPILE="never")
    assert (done.returncode, done.stdout) == (0, "")
    assert not list(project.rglob("*.so"))
