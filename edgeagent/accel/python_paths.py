"""Which ways lead through a Python program, as far as its syntax alone tells."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence

__all__ = ["catches_all", "counted", "exits", "is_guard", "raises", "reports", "yields"]

_DEVICE_WORDS = ("is_available", "device_count", "cuda", "gpu", "devices(")
_EXITS = ("sys.exit", "exit", "quit", "os._exit", "os.abort")


def exits(node: ast.stmt) -> bool:
    """``sys.exit(...)`` and the like."""
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Call):
        return False
    function = node.value.func
    if isinstance(function, ast.Name):
        return function.id in _EXITS
    is_plain = isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)
    return is_plain and ast.unparse(function) in _EXITS


def raises(body: Sequence[ast.stmt]) -> bool:
    """Whether its end is that of the call."""
    return bool(body) and (isinstance(body[-1], ast.Raise) or exits(body[-1]))


def reports(handler: ast.ExceptHandler, is_own: Callable[[str], bool]) -> bool:
    """Whether a failure is only told: what is returned is made of the exception and of constants, and of no function of
    the program's own, which may do the work in another way.
    """
    last = handler.body[-1] if handler.body else None
    if not isinstance(last, ast.Return) or last.value is None or isinstance(last.value, ast.Constant):
        return False
    called = _called(last.value)
    names = [one for one in ast.walk(last.value) if isinstance(one, ast.Name)]
    told = [one for one in names if one.id == handler.name]
    others = [one for one in names if one.id != handler.name]
    if not told and "error" not in ast.unparse(last.value).lower():
        return False
    return all(id(one) in called and not is_own(one.id) for one in others)


def catches_all(case: ast.match_case) -> bool:
    return isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None and case.guard is None


def _called(value: ast.expr) -> set[int]:
    """The names that stand for functions that are called, or for what those are part of."""
    return {
        id(name)
        for call in ast.walk(value)
        if isinstance(call, ast.Call)
        for name in ast.walk(call.func)
        if isinstance(name, ast.Name)
    }


def is_guard(test: ast.expr, body: Sequence[ast.stmt]) -> bool:
    """Whether a branch only turns an input away: it returns something fixed, and does not ask for devices."""
    text = ast.unparse(test).lower()
    last = body[-1] if body else None
    if any(word in text for word in _DEVICE_WORDS) or not isinstance(last, ast.Return):
        return False
    if last.value is None:
        return True
    called = _called(last.value)
    return all(id(one) in called for one in ast.walk(last.value) if isinstance(one, ast.Name))


def yields(body: Sequence[ast.stmt]) -> bool:
    """Whether it is a generator's."""
    return any(isinstance(one, ast.Yield | ast.YieldFrom) for part in body for one in ast.walk(part))


def counted(node: ast.While) -> tuple[str, ast.expr, int] | None:
    """``while name < end`` whose body adds a whole number to it: the name, the end, and what is added."""
    test = node.test
    if isinstance(test, ast.Name):
        name, end = test.id, ast.copy_location(ast.Constant(0), test)
        is_up = False
    elif isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and len(test.ops) == 1:
        name, end = test.left.id, test.comparators[0]  # type: ignore[assignment]
        is_up = isinstance(test.ops[0], ast.Lt | ast.LtE | ast.NotEq)
        if not isinstance(test.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE | ast.NotEq):
            return None
    else:
        return None
    for one in node.body:
        if (
            isinstance(one, ast.AugAssign)
            and isinstance(one.target, ast.Name)
            and one.target.id == name
            and isinstance(one.op, ast.Add | ast.Sub)
            and isinstance(one.value, ast.Constant)
            and isinstance(one.value.value, int)
            and one.value.value > 0
        ):
            step = one.value.value if isinstance(one.op, ast.Add) else -one.value.value
            return (name, end, step) if (step > 0) == is_up or isinstance(test, ast.Compare) else None
    return None
