"""Sizes that keep the house readable: short files, short functions, names that say something."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator

import pytest

from tests.architecture.tree import NATIVE_SOURCES, PYTHON_SOURCES, ROOT, line_count, module_ast

FILE_LINES_MAX = 500
FILE_LINES_MEDIAN_MAX = 200
FUNCTION_LINES_MAX = 70
VAGUE_NAMES = {"utils", "util", "helpers", "common", "misc"}


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("paths", [PYTHON_SOURCES, NATIVE_SOURCES], ids=["python", "native"])
def test_no_file_is_over_its_bound(paths: list[str]) -> None:
    over = {path: lines for path in paths if (lines := line_count(path)) > FILE_LINES_MAX}
    assert not over


def test_the_median_file_is_short() -> None:
    package = [line_count(path) for path in PYTHON_SOURCES if path.startswith("edgeagent/")]
    assert statistics.median(package) < FILE_LINES_MEDIAN_MAX


def test_no_function_is_over_its_bound() -> None:
    over = {
        f"{path}:{node.lineno} {node.name}": lines
        for path in PYTHON_SOURCES
        for node in _functions(module_ast(path))
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    }
    assert not over


def test_no_file_has_a_name_that_says_nothing() -> None:
    vague = [path for path in PYTHON_SOURCES + NATIVE_SOURCES if (ROOT / path).stem in VAGUE_NAMES]
    assert not vague
