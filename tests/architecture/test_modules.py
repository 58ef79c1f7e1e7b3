"""Rules for every module of the package: its public names, where it prints, and what it must not name."""

from __future__ import annotations

import ast
import importlib

import pytest

from tests.architecture.tree import PACKAGE, module_ast

# Rooms that speak to a person; the compile worker answers its parent on stdout.
MAY_PRINT = ("edgeagent/bench/", "edgeagent/cli/", "edgeagent/demo/", "edgeagent/runtime/compile_worker.py")
RUNS_AS_MAIN = "edgeagent/__main__.py"


def _module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _exports(path: str) -> list[str] | None:
    for node in module_ast(path).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            return [str(name) for name in ast.literal_eval(node.value)]
    return None


def _is_public(name: str) -> bool:
    return not name.startswith("_")


def _defines(path: str) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in module_ast(path).body if isinstance(node, kinds) and _is_public(node.name)}


@pytest.mark.parametrize("path", [path for path in PACKAGE if path != RUNS_AS_MAIN])
def test_every_exported_name_exists(path: str) -> None:
    exported = _exports(path) or []
    module = importlib.import_module(_module_name(path))
    assert [name for name in exported if not hasattr(module, name)] == []
    assert len(exported) == len(set(exported))


def test_modules_that_define_public_names_say_which() -> None:
    silent = [path for path in PACKAGE if path != RUNS_AS_MAIN and _defines(path) and _exports(path) is None]
    assert not silent


def test_what_other_modules_import_is_exported() -> None:
    exported = {_module_name(path): _exports(path) for path in PACKAGE}
    hidden = {
        f"{path}: {name} of {node.module}"
        for path in PACKAGE
        for node in ast.walk(module_ast(path))
        if isinstance(node, ast.ImportFrom) and exported.get(node.module or "") is not None
        for name in (alias.name for alias in node.names)
        if name not in (exported[node.module or ""] or []) and f"{node.module}.{name}" not in exported
    }
    assert not hidden


def test_every_module_says_what_it_is() -> None:
    unsaid = [path for path in PACKAGE if module_ast(path).body and not ast.get_docstring(module_ast(path))]
    assert not unsaid


def test_only_the_rooms_that_speak_to_a_person_print() -> None:
    printing = [
        f"{path}:{node.lineno}"
        for path in PACKAGE
        if not path.startswith(MAY_PRINT)
        for node in ast.walk(module_ast(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not printing
