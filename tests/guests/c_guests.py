"""Guests in C over sdk/*.h, compiled where a wasm toolchain is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["compiled_c"]

ROOT = Path(__file__).parents[2]


def compiled_c(source: str, folder: Path) -> bytes:
    """The module. Skips the test without a toolchain; warnings are errors."""
    if not (shutil.which("clang") and shutil.which("wasm-ld")):
        pytest.skip("no wasm toolchain (clang, lld)")
    (folder / "guest.c").write_text(source)
    command = ["clang", "--target=wasm32", "-O2", "-std=c11", "-Wall", "-Wextra"]
    command += ["-Werror", "-mbulk-memory", f"-I{ROOT / 'sdk'}", "-nostdlib", "-Wl,--no-entry"]
    command += ["-o", str(folder / "guest.wasm"), str(folder / "guest.c")]
    subprocess.run(command, check=True, capture_output=True)
    return (folder / "guest.wasm").read_bytes()
