"""The source files that the architecture rules look at, as paths relative to the root."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

__all__ = ["NATIVE_SOURCES", "PACKAGE", "PYTHON_SOURCES", "ROOT", "line_count", "module_ast"]

ROOT = Path(__file__).parents[2]


def _sources(*patterns: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern))


PACKAGE = _sources("edgeagent/**/*.py")
PYTHON_SOURCES = [*PACKAGE, *_sources("tests/**/*.py", "examples/**/*.py", "setup.py")]
NATIVE_SOURCES = _sources(
    "native/**/*.cpp", "native/**/*.hpp", "native/**/*.h", "sdk/**/*.h", "examples/**/*.c"
)


@cache
def module_ast(path: str) -> ast.Module:
    """The parsed file."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), path)


def line_count(path: str) -> int:
    """Lines of the file, blank ones and comments too."""
    return len((ROOT / path).read_text(encoding="utf-8").splitlines())
