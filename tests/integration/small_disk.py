"""A file system of a few MiB of its own, for tests that fill it: mounted in a user namespace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["play_on_a_small_disk"]

ROOT = Path(__file__).parents[2]


def play_on_a_small_disk(module: str, folder: Path, *, size: str) -> None:
    """``python -m MODULE FOLDER`` with a small file system at the folder prints "ok". Skips where none can be had."""
    program = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    try:
        mounted = subprocess.run([*program, *mount], capture_output=True, check=False, timeout=20)
    except FileNotFoundError:
        pytest.skip("unshare is not here")
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    done = subprocess.run(
        [*program, "sh", "-c", f"{' '.join(mount)} && exec {sys.executable} -m {module} {folder}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == "ok\n", done.stderr
