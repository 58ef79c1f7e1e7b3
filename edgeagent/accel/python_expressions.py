"""Expressions of a Python program that is read and not run: what they stand for, what work and devices they ask for."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from edgeagent.accel.modes import si
from edgeagent.accel.python_devices import GPU_DEVICE
from edgeagent.accel.python_record import Record
from edgeagent.accel.python_values import (
    Array,
    Const,
    Function,
    Instance,
    Kind,
    Lists,
    Maybe,
    Method,
    Ref,
    Scope,
    Sequence,
    Table,
    Value,
    integer,
    join,
    options,
    shape_of,
    truth,
)
from edgeagent.accel.python_work import (
    Cost,
    combine,
    method_call,
    product,
)

__all__ = ["Expressions"]

_TEXT_MAX = 4096
_ITEMS_MAX = 4096
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
_KEEPS = (
    "half",
    "float",
    "eval",
    "train",
    "to",
    "cuda",
    "cpu",
    "requires_grad_",
    "compile",
    "share_memory",
    "double",
    "bfloat16",
)


class Expressions:
    """Calls and statements are subclasses'."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.scope = Scope({})
        self.module = self.scope

    def spend(self, node: ast.AST, what: str, cost: Cost) -> Value:
        """Count work that a value took."""
        value, work = cost
        if work is None:
            self.record.unknown(node)
        else:
            shape = value.shape if isinstance(value, Array) else ()
            size = "x".join("?" if one is None else str(one) for one in shape)
            self.record.work(node, f"{what}{' to ' + size if size else ''}: {si(work)}FLOP", work)
        return value

    # -- names -----------------------------------------------------------------------------------------------

    def lookup(self, name: str) -> Value:
        scope: Scope | None = self.scope
        stars: list[str] = []
        while scope is not None:
            if name in scope.names and (name not in scope.globals or scope is self.module):
                return scope.names[name]
            stars += scope.stars
            scope = scope.parent
        if stars and not name.startswith("_"):
            return Ref(f"{stars[-1]}.{name}")
        return Ref(f"builtins.{name}")

    # -- expressions -----------------------------------------------------------------------------------------

    def value(self, node: ast.AST | None) -> Value:
        if node is None:
            return None
        self.record.step()
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is not None:
            found: Value = method(node)
            return found
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)
        return None

    def _constant(self, node: ast.Constant) -> Value:
        return Const(node.value) if not isinstance(node.value, complex) else None

    def _name(self, node: ast.Name) -> Value:
        return self.lookup(node.id)

    def _attribute(self, node: ast.Attribute) -> Value:
        return self.attribute(self.value(node.value), node.attr)

    def attribute(self, owner: Value, name: str) -> Value:
        if isinstance(owner, Maybe):
            return join(*(self.attribute(one, name) for one in owner.options))
        if isinstance(owner, Ref):
            return (
                Const(False)
                if owner.path == "typing" and name == "TYPE_CHECKING"
                else Ref(f"{owner.path}.{name}")
            )
        if isinstance(owner, Instance):
            if name in owner.attributes:
                return owner.attributes[name]
            if name in owner.kind.attributes:
                return owner.kind.attributes[name]
        if isinstance(owner, Kind) and name in owner.attributes:
            return owner.attributes[name]
        if isinstance(owner, Array):
            if name == "shape":
                return Sequence(tuple(Const(size) if size is not None else None for size in owner.shape))
            if name in ("T", "mT"):
                return method_call(owner, name, [], {})[0]
        return Method(owner, name)

    def _tuple(self, node: ast.Tuple) -> Value:
        return self._items(node.elts)

    def _list(self, node: ast.List) -> Value:
        return self._items(node.elts)

    def _items(self, elements: list[ast.expr]) -> Value:
        found: list[Value] = []
        for one in elements:
            value = self.value(one.value if isinstance(one, ast.Starred) else one)
            if not isinstance(one, ast.Starred):
                found.append(value)
            elif isinstance(value, Sequence):
                found.extend(value.items)
            else:
                return None
        return Sequence(tuple(found[:_ITEMS_MAX]))

    def _dict(self, node: ast.Dict) -> Value:
        keys = [self.value(one) for one in node.keys]
        values = [self.value(one) for one in node.values]
        # What has a key that is not known is any entry's value.
        named = [key.value if isinstance(key, Const) else (place,) for place, key in enumerate(keys)]
        return Table(dict(zip(named, values, strict=True)))

    def _joinedstr(self, node: ast.JoinedStr) -> Value:
        texts = []
        for part in node.values:
            value = self.value(part.value if isinstance(part, ast.FormattedValue) else part)
            texts.append(str(value.value) if isinstance(value, Const) else "?")
        return Const("".join(texts)[:_TEXT_MAX])

    def _lambda(self, node: ast.Lambda) -> Value:
        return Function(node, self.scope)

    def _ifexp(self, node: ast.IfExp) -> Value:
        known = truth(self.value(node.test))
        if known is not None:
            return self.value(node.body if known else node.orelse)
        return self.either(lambda: self.value(node.body), lambda: self.value(node.orelse))

    def either(self, *ways: Callable[[], Value]) -> Value:
        """Several ways, of which one is taken: the dearest counts."""
        with self.record.conditional():
            found, works = [], []
            for way in ways:
                with self.record.aside() as work:
                    found.append(way())
                works.append(work.flops)
        self.record.add(max(works, default=0.0))
        return join(*found)

    def _boolop(self, node: ast.BoolOp) -> Value:
        first = self.value(node.values[0])
        stops = isinstance(node.op, ast.Or)
        found = [first]
        for one in node.values[1:]:
            known = truth(found[-1])
            if known is stops:
                return found[-1]
            if known is None:
                rest = (
                    ast.BoolOp(node.op, node.values[len(found) :])
                    if len(node.values) - len(found) > 1
                    else one
                )
                with self.record.conditional():
                    return join(*found[-1:], self.value(rest))
            found.append(self.value(one))
        return found[-1]

    def _unaryop(self, node: ast.UnaryOp) -> Value:
        value = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            known = truth(value)
            return None if known is None else Const(not known)
        if (
            isinstance(node.op, ast.USub)
            and isinstance(value, Const)
            and isinstance(value.value, int | float)
        ):
            return Const(-value.value)
        return value if isinstance(value, Array) else None

    def _compare(self, node: ast.Compare) -> Value:
        left, right = self.value(node.left), [self.value(one) for one in node.comparators]
        arrays = [one for one in (left, *right) if isinstance(one, Array)]
        if arrays:
            return self.spend(node, "comparison", combine(arrays[0], arrays[-1]))
        if isinstance(left, Const) and len(right) == 1 and isinstance(right[0], Const):
            compare = _COMPARE.get(type(node.ops[0]))
            try:
                return None if compare is None else Const(bool(compare(left.value, right[0].value)))
            except TypeError:
                return None
        return None

    def _binop(self, node: ast.BinOp) -> Value:
        left, right = self.value(node.left), self.value(node.right)
        a = next((one for one in options(left) if isinstance(one, Array)), None)
        b = next((one for one in options(right) if isinstance(one, Array)), None)
        if isinstance(node.op, ast.MatMult):
            if a is not None and b is not None:
                return self.spend(node, "matmul", product(a, b))
            self.record.unknown(node)
            return None
        if a is not None or b is not None:
            one = a if a is not None else b
            if one is not None:
                return self.spend(node, "elementwise", combine(one, b if a is not None else None))
        if isinstance(node.op, ast.Mult):
            times = integer(right) if integer(right) is not None else integer(left)
            body = left if integer(right) is not None else right
            if times is not None and isinstance(body, Sequence | Lists):
                shape = shape_of(body)
                return None if not shape else Lists(((shape[0] or 0) * max(times, 0), *shape[1:]))
        if isinstance(node.op, ast.Add) and isinstance(left, Sequence) and isinstance(right, Sequence):
            return Sequence((left.items + right.items)[:_ITEMS_MAX])
        return _constants(node.op, left, right)

    def _subscript(self, node: ast.Subscript) -> Value:
        owner, index = self.value(node.value), self.value(node.slice)
        place = integer(index)
        if isinstance(owner, Ref) and owner.path == "sys.modules" and isinstance(index, Const):
            return Ref(str(index.value))
        if isinstance(owner, Table):
            return self.entry(owner, index)
        if (
            isinstance(owner, Sequence)
            and place is not None
            and -len(owner.items) <= place < len(owner.items)
        ):
            return owner.items[place]
        if isinstance(owner, Array) and place is not None and owner.shape:
            return Array(owner.shape[1:], owner.item_bytes)
        if isinstance(owner, Function) and any(one.endswith("cuda.jit") for one in owner.decorators):
            return Ref("numba.cuda.launch")
        if isinstance(owner, Const) and isinstance(owner.value, str) and place is None:
            return None
        # jax.devices("gpu")[0] is still the GPU's.
        return GPU_DEVICE if owner == GPU_DEVICE else None

    def entry(self, table: Table, index: Value, default: Value = None) -> Value:
        """One value of it, or any where the key is not known."""
        if isinstance(index, Const):
            return table.items.get(index.value, default)
        return join(default, *table.items.values())

    def _listcomp(self, node: ast.ListComp) -> Value:
        return self._comprehension(node.generators, [node.elt])

    def _setcomp(self, node: ast.SetComp) -> Value:
        return self._comprehension(node.generators, [node.elt])

    def _generatorexp(self, node: ast.GeneratorExp) -> Value:
        return self._comprehension(node.generators, [node.elt])

    def _dictcomp(self, node: ast.DictComp) -> Value:
        self._comprehension(node.generators, [node.key, node.value])
        return None

    def _comprehension(self, generators: list[ast.comprehension], elements: list[ast.expr]) -> Value:
        outer, count, factor = self.scope, 1, 1
        self.scope = Scope({}, outer)
        try:
            sizes: list[int | None] = []
            for one in generators:
                times, item = self.repeats(one.iter)
                self.bind(one.target, item)
                for test in one.ifs:
                    self.value(test)
                sizes.append(times)
                factor *= times or 1
            with self.record.repeated(factor, known=None not in sizes):
                found = [self.value(one) for one in elements]
        finally:
            self.scope = outer
        inner = shape_of(found[0])
        count = factor if None not in sizes else 0
        return Lists((count or None, *inner)) if inner is not None and len(sizes) == 1 else None

    def repeats(self, node: ast.expr) -> tuple[int | None, Value]:
        """How often a loop over it runs, and one of its items."""
        value = self.value(node)
        if isinstance(value, Lists) and value.shape:
            return value.shape[0], Lists(value.shape[1:]) if len(value.shape) > 1 else None
        if isinstance(value, Sequence):
            return len(value.items), join(*value.items[:8]) if value.items else None
        if isinstance(value, Array) and value.shape:
            return value.shape[0], Array(value.shape[1:], value.item_bytes)
        return None, None

    def bind(self, target: ast.expr, value: Value) -> None:
        """Assign."""
        if isinstance(target, ast.Name):
            scope = self.module if target.id in self.scope.globals else self.scope
            if self.record.is_conditional and scope is not self.scope:
                value = join(scope.names.get(target.id), value)
            scope.names[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            items = value.items if isinstance(value, Sequence) else ()
            for i, one in enumerate(target.elts):
                self.bind(one, items[i] if len(items) == len(target.elts) else None)
        elif isinstance(target, ast.Attribute):
            owner = self.value(target.value)
            if isinstance(owner, Instance):
                known = owner.attributes.get(target.attr)
                is_new = target.attr not in owner.attributes or not self.record.is_conditional
                owner.attributes[target.attr] = value if is_new else join(known, value)
        elif isinstance(target, ast.Starred):
            self.bind(target.value, None)
        elif isinstance(target, ast.Subscript):
            table, key = self.value(target.value), self.value(target.slice)
            if isinstance(table, Table) and isinstance(key, Const) and len(table.items) < _ITEMS_MAX:
                known = table.items.get(key.value, value)
                table.items[key.value] = join(known, value) if self.record.is_conditional else value

    def _namedexpr(self, node: ast.NamedExpr) -> Value:
        value = self.value(node.value)
        self.bind(node.target, value)
        return value


def _constants(op: ast.operator, left: Value, right: Value) -> Value:
    if not isinstance(left, Const) or not isinstance(right, Const):
        prefix = left if isinstance(left, Const) and isinstance(left.value, str) else None
        return Const(f"{prefix.value[:_TEXT_MAX]}?") if prefix is not None else None
    a, b = left.value, right.value
    if isinstance(a, str) and isinstance(op, ast.Add | ast.Mod):
        return Const(f"{a}{b}"[:_TEXT_MAX])
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
