"""Expressions of a Python program that is read and not run: what they stand for, what work and devices they ask for."""

from __future__ import annotations

import ast
from collections.abc import Callable

from edgeagent.accel.modes import si
from edgeagent.accel.python_devices import GPU_DEVICE
from edgeagent.accel.python_loops import ITEMS_MAX
from edgeagent.accel.python_operators import TEXT_MAX, compared, computed, is_held, is_same
from edgeagent.accel.python_record import Record
from edgeagent.accel.python_shapes import part_of
from edgeagent.accel.python_values import (
    Array,
    Const,
    Function,
    Instance,
    Kind,
    Layer,
    Lists,
    Maybe,
    Method,
    Module,
    Part,
    Ref,
    Scope,
    Sequence,
    Symbol,
    Table,
    Value,
    integer,
    join,
    options,
    shape_of,
    truth,
)
from edgeagent.accel.python_windows import Cost
from edgeagent.accel.python_work import combine, method_call, product

__all__ = ["Expressions"]

# A number of more bits is not written as text, nor is it a size.
_INT_BITS_MAX = 1024


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
            self.record.copy(8 * len(shape))
            size = "x".join("?" if one is None else str(one) for one in shape)
            self.record.work(node, f"{what}{' to ' + size if size else ''}: {si(work)}FLOP", work)
        return value

    # -- names -----------------------------------------------------------------------------------------------

    def lookup(self, name: str) -> Value:
        scope: Scope | None = self.scope
        stars: list[str] = []
        while scope is not None:
            if name in scope.names and (name not in scope.globals or scope is self.module):
                known = scope.names[name]
                return known if scope is self.scope else _held(known)
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
        value = node.value
        is_vast = isinstance(value, int) and value.bit_length() > _INT_BITS_MAX
        return None if is_vast or isinstance(value, complex) else Const(value)

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
        if isinstance(owner, Module):
            return owner.scope.names.get(name)
        if isinstance(owner, Instance) and name in owner.attributes:
            return _held(owner.attributes[name])
        kind = owner.kind if isinstance(owner, Instance) else owner
        if isinstance(kind, Kind) and kind.has(name):
            return _held(kind.attribute(name))
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
                self.record.copy(8 * len(value.items))
                found.extend(value.items[: max(0, ITEMS_MAX - len(found))])
            else:
                return None
        return Sequence(tuple(found[:ITEMS_MAX]))

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
        return Const("".join(texts)[:TEXT_MAX])

    def _lambda(self, node: ast.Lambda) -> Value:
        return Function(node, self.scope)

    def _ifexp(self, node: ast.IfExp) -> Value:
        known = truth(self.value(node.test))
        if known is not None:
            return self.value(node.body if known else node.orelse)
        return self.either(lambda: self.value(node.body), lambda: self.value(node.orelse))

    def either(self, *ways: Callable[[], Value]) -> Value:
        """Several ways, of which one is taken: the dearest counts."""
        found, works, asked = [], [], []
        with self.record.conditional():
            for way in ways:
                with self.record.aside() as work, self.record.branch() as devices:
                    found.append(way())
                works.append(work.flops)
                asked.append(devices)
        self.record.settle(asked)
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
        if len(right) != 1:
            return None
        if isinstance(node.ops[0], ast.Is | ast.IsNot):
            same = is_same(left, right[0])
            return None if same is None else Const(same is isinstance(node.ops[0], ast.Is))
        if isinstance(node.ops[0], ast.In | ast.NotIn):
            held = is_held(left, right[0])
            return None if held is None else Const(held is isinstance(node.ops[0], ast.In))
        return compared(node.ops[0], left, right[0])

    def _binop(self, node: ast.BinOp) -> Value:
        left, right = self.value(node.left), self.value(node.right)
        symbols = [one for one in (left, right) if isinstance(one, Symbol)]
        if symbols:
            return Symbol(symbols[0].array, frozenset().union(*(one.made_by for one in symbols)))
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
            is_plain = not isinstance(body, Sequence) or (body.items and isinstance(body.items[0], Const))
            if times is not None and isinstance(body, Sequence) and not is_plain:
                return self.listed(body.items, min(max(times, 0), ITEMS_MAX // max(len(body.items), 1)))
            if times is not None and isinstance(body, Sequence | Lists):
                shape = shape_of(body)
                return None if not shape else Lists(((shape[0] or 0) * max(times, 0), *shape[1:]))
        if isinstance(node.op, ast.Add) and isinstance(left, Sequence) and isinstance(right, Sequence):
            return self.listed(left.items + right.items)
        return computed(node.op, left, right)

    def listed(self, items: tuple[Value, ...], times: int = 1) -> Sequence:
        """A list, as long as lists are that are kept."""
        self.record.copy(len(items) * times)
        return Sequence((items * times)[:ITEMS_MAX])

    def _subscript(self, node: ast.Subscript) -> Value:
        owner = self.value(node.value)
        array = next((one for one in options(owner) if isinstance(one, Array)), None)
        if array is not None:
            return part_of(array, self._places(node.slice))
        index = self.value(node.slice)
        if isinstance(owner, Sequence) and isinstance(node.slice, ast.Slice):
            part = self._part(node.slice)
            is_known = not part.is_open and part.step != 0
            return self.listed(owner.items[part.start : part.stop : part.step]) if is_known else None
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
        if (
            isinstance(owner, Layer)
            and owner.kind == "chain"
            and place is not None
            and -len(owner.parts) <= place < len(owner.parts)
        ):
            return owner.parts[place]
        if isinstance(owner, Function) and any(one.endswith("cuda.jit") for one in owner.decorators):
            return Ref("numba.cuda.launch")
        if isinstance(owner, Const) and isinstance(owner.value, str) and place is None:
            return None
        # jax.devices("gpu")[0] is still the GPU's.
        return GPU_DEVICE if owner == GPU_DEVICE else None

    def _places(self, node: ast.expr) -> list[Value | Part]:
        parts = node.elts if isinstance(node, ast.Tuple) else [node]
        return [self._part(one) if isinstance(one, ast.Slice) else self.value(one) for one in parts]

    def _part(self, node: ast.Slice) -> Part:
        given = (node.lower, node.upper, node.step)
        start, stop, step = (None if one is None else integer(self.value(one)) for one in given)
        is_open = any(
            one is not None and end is None for one, end in zip(given, (start, stop, step), strict=True)
        )
        return Part(start, stop, step, is_open)

    def _await(self, node: ast.Await) -> Value:
        return self.value(node.value)

    def _set(self, node: ast.Set) -> Value:
        return self._items(node.elts)

    def entry(self, table: Table, index: Value, default: Value = None) -> Value:
        """One value of it, or any where the key is not known."""
        if isinstance(index, Const):
            return table.items.get(index.value, default)
        return join(default, *table.items.values())

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
            if isinstance(table, Table) and isinstance(key, Const) and len(table.items) < ITEMS_MAX:
                known = table.items.get(key.value, value)
                table.items[key.value] = join(known, value) if self.record.is_conditional else value

    def rebind(self, target: ast.expr, value: Value) -> None:
        """What a name stands for has changed, wherever the name is."""
        scope: Scope | None = self.scope
        while isinstance(target, ast.Name) and scope is not None and target.id not in scope.names:
            scope = scope.parent
        if not isinstance(target, ast.Name) or scope is None or scope is self.scope:
            self.bind(target, value)
            return
        known = scope.names[target.id]
        scope.names[target.id] = join(known, value) if self.record.is_conditional else value

    def _namedexpr(self, node: ast.NamedExpr) -> Value:
        value = self.value(node.value)
        self.bind(node.target, value)
        return value


def _held(value: Value) -> Value:
    """What is held outside of the function that reads it: of None that may have changed between calls."""
    return Maybe((value, None)) if isinstance(value, Const) and value.value is None else value
