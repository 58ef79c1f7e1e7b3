"""What operators make of constants of a Python program that is read and not run."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from edgeagent.accel.python_values import (
    Array,
    Const,
    Function,
    Instance,
    Kind,
    Layer,
    Sequence,
    Table,
    Value,
)

__all__ = ["TEXT_MAX", "compared", "computed", "is_held", "is_same"]

# So much of a text that a program puts together is kept.
TEXT_MAX = 4096
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.LShift: operator.lshift,
    ast.Pow: operator.pow,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def is_same(left: Value, right: Value) -> bool | None:
    """``left is right`` where one is None or a truth value."""
    for one, other in ((left, right), (right, left)):
        if isinstance(other, Const) and (other.value is None or isinstance(other.value, bool)):
            if isinstance(one, Const):
                return one.value is other.value
            is_object = isinstance(one, Array | Layer | Instance | Function | Kind | Table | Sequence)
            return False if is_object else None
    return None


def is_held(left: Value, right: Value) -> bool | None:
    """``left in right`` of constants."""
    if not isinstance(left, Const):
        return None
    if isinstance(right, Const) and isinstance(right.value, str) and isinstance(left.value, str):
        return left.value in right.value
    items = right.items if isinstance(right, Sequence) else ()
    if items and all(isinstance(one, Const) for one in items):
        return left in items
    return None


def compared(op: ast.cmpop, left: Value, right: Value) -> Value:
    """Of two constants, by size."""
    compare = _COMPARE.get(type(op))
    if compare is None or not isinstance(left, Const) or not isinstance(right, Const):
        return None
    try:
        return Const(bool(compare(left.value, right.value)))
    except TypeError:
        return None


def computed(op: ast.operator, left: Value, right: Value) -> Value:
    """Of two constants, as far as it stays small; of text its beginning."""
    if not isinstance(left, Const) or not isinstance(right, Const):
        prefix = left if isinstance(left, Const) and isinstance(left.value, str) else None
        return Const(f"{prefix.value[:TEXT_MAX]}?") if prefix is not None else None
    a, b = left.value, right.value
    if isinstance(a, str) and isinstance(op, ast.Add | ast.Mod):
        return Const(f"{a}{b}"[:TEXT_MAX])
    compute = _ARITHMETIC.get(type(op))
    numbers = isinstance(a, int | float) and isinstance(b, int | float)
    if compute is None or not numbers or abs(a) > 1e18 or abs(b) > 1e18:
        return None
    if isinstance(op, ast.Pow | ast.LShift) and abs(b) > 64:
        return None
    try:
        result = compute(a, b)
    except (ArithmeticError, ValueError, TypeError):
        return None
    return Const(result) if isinstance(result, int | float) and abs(result) < 1e30 else None
