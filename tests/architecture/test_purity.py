"""The pure modules named in pyproject.toml exist and import nothing impure themselves.

``make check`` asks import-linter, which follows imports through other modules; this is the same rule, one
level deep, in every run of the tests, and a guard against a list that names modules that have moved.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.architecture.tree import PACKAGE, ROOT, module_ast


def _contract() -> dict[str, Any]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts: list[dict[str, Any]] = config["tool"]["importlinter"]["contracts"]
    return next(contract for contract in contracts if contract["type"] == "forbidden")


CONTRACT = _contract()


def _files(module: str) -> list[str]:
    stem = module.replace(".", "/")
    return [path for path in PACKAGE if path == f"{stem}.py" or path.startswith(f"{stem}/")]


def _imported(path: str) -> Iterator[str]:
    for node in ast.walk(module_ast(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("module", CONTRACT["source_modules"])
def test_a_pure_module_imports_nothing_impure(module: str) -> None:
    files = _files(module)
    assert files, f"{module} is named in pyproject.toml and does not exist"
    forbidden = set(CONTRACT["forbidden_modules"])
    found = {(path, name) for path in files for name in _imported(path) if name.split(".")[0] in forbidden}
    assert not found
