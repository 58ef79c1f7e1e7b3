"""Expressions of a Python program that is read and not run: what they stand for, what work and devices they ask for."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from edgeagent.accel.modes import si
from edgeagent.accel.python_devices import GPU_DEVICE, Asked, asked_by_function, asked_by_method
from edgeagent.accel.python_names import array_library, is_question
from edgeagent.accel.python_record import Record
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
    Ref,
    Scope,
    Sequence,
    Value,
    integer,
    join,
    options,
    shape_of,
    truth,
)
from edgeagent.accel.python_work import (
    Cost,
    apply_layer,
    combine,
    library_call,
    make_layer,
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
    """Statements and calls of local functions are the subclass's."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.scope = Scope({})
        self.module = self.scope

    # -- of the subclass -------------------------------------------------------------------------------------

    def call_function(
        self, function: Function, args: list[Value], keywords: dict[str, Value], owner: Value = None
    ) -> Value:
        raise NotImplementedError

    def run_text(self, text: str, node: ast.AST) -> None:
        raise NotImplementedError

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
        for one in (*node.keys, *node.values):
            self.value(one)
        return None

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

    def spend(self, node: ast.AST, what: str, cost: Cost) -> Value:
        value, work = cost
        if work is None:
            self.record.unknown(node)
        else:
            shape = value.shape if isinstance(value, Array) else ()
            size = "x".join("?" if one is None else str(one) for one in shape)
            self.record.work(node, f"{what}{' to ' + size if size else ''}: {si(work)}FLOP", work)
        return value

    def _subscript(self, node: ast.Subscript) -> Value:
        owner, index = self.value(node.value), self.value(node.slice)
        place = integer(index)
        if isinstance(owner, Ref) and owner.path == "sys.modules" and isinstance(index, Const):
            return Ref(str(index.value))
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
            self.value(target.value)
            self.value(target.slice)

    def _namedexpr(self, node: ast.NamedExpr) -> Value:
        value = self.value(node.value)
        self.bind(node.target, value)
        return value

    # -- calls -----------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> Value:
        target = self.value(node.func)
        args: list[Value] = []
        for one in node.args:
            value = self.value(one.value if isinstance(one, ast.Starred) else one)
            if isinstance(one, ast.Starred) and isinstance(value, Sequence):
                args.extend(value.items)
            else:
                args.append(value)
        keywords = {one.arg: self.value(one.value) for one in node.keywords if one.arg is not None}
        for one in node.keywords:
            if one.arg is None:
                self.value(one.value)
        found = [self.call(one, args, keywords, node) for one in options(target)]
        return found[0] if len(found) == 1 else join(*found)

    def call(self, target: Value, args: list[Value], keywords: dict[str, Value], node: ast.AST) -> Value:
        if isinstance(target, Function):
            return self.call_function(target, args, keywords)
        if isinstance(target, Kind):
            return self.instance(target, args, keywords)
        if isinstance(target, Instance):
            function = (
                target.kind.method("__call__") or target.kind.method("forward") or target.kind.method("call")
            )
            if function is not None:
                return self.call_function(function, args, keywords, target)
        if isinstance(target, Layer):
            return self.spend(node, target.kind, apply_layer(target, args[0] if args else None))
        if isinstance(target, Method):
            return self._call_method(target, args, keywords, node)
        # A function that is handed on is called there, with what we cannot know.
        for one in (*args, *keywords.values()):
            if isinstance(one, Function):
                self.call_function(one, [], {})
        return self._call_ref(target, args, keywords, node) if isinstance(target, Ref) else None

    def instance(self, kind: Kind, args: list[Value], keywords: dict[str, Value]) -> Value:
        made = Instance(kind, {})
        if (function := kind.method("__init__")) is not None:
            self.call_function(function, args, keywords, made)
        return made

    def _call_method(
        self, method: Method, args: list[Value], keywords: dict[str, Value], node: ast.AST
    ) -> Value:
        owner, name = method.owner, method.name
        kind = owner.kind if isinstance(owner, Instance) else owner if isinstance(owner, Kind) else None
        if kind is not None and (function := kind.method(name)) is not None:
            return self.call_function(
                function, args, keywords, owner if isinstance(owner, Instance) else None
            )
        if owner is None or isinstance(owner, Method):
            for candidate in self.record.kinds:
                if (function := candidate.methods.get(name)) is not None:
                    with self.record.conditional():
                        return self.call_function(function, args, keywords, None)
        for one in (*args, *keywords.values()):
            if isinstance(one, Function):
                self.call_function(one, [], {})
        self.ask(node, f".{name}()", asked_by_method(owner, name, args, keywords))
        if isinstance(owner, Array):
            return self.spend(node, name, method_call(owner, name, args, keywords))
        if isinstance(owner, Sequence) and name == "append":
            return None
        if isinstance(owner, Layer | Instance) and name in _KEEPS:
            return owner
        if (
            isinstance(owner, Const)
            and isinstance(owner.value, str)
            and name in ("format", "lower", "strip", "upper")
        ):
            return Const(owner.value)
        return None

    def _call_ref(self, target: Ref, args: list[Value], keywords: dict[str, Value], node: ast.AST) -> Value:
        path = target.path
        if path.startswith("builtins."):
            return self._builtin(path.removeprefix("builtins."), args, node)
        if path in ("importlib.import_module", "importlib.__import__"):
            return self._import(args, node)
        if path in ("os.environ.get", "os.getenv") and args:
            return join(args[1], None) if len(args) > 1 else None
        if path == "math.prod" and args and isinstance(args[0], Sequence):
            total = 1
            for one in args[0].items:
                total *= integer(one) or 1
            return Const(total) if total < 1 << 62 else None
        if path.startswith("math.") and len(args) == 1:
            return args[0] if path in ("math.floor", "math.ceil", "math.trunc") else None
        asked = asked_by_function(path, args, keywords)
        self.ask(node, f"{path}()", asked)
        library = array_library(path)
        if library is None or is_question(path):
            return None
        if (
            path in ("torch.device", "jax.devices", "jax.local_devices", "mxnet.gpu")
            or path == "torch.cuda.device"
        ):
            return args[0] if path == "torch.device" and args else GPU_DEVICE if asked == "always" else None
        if path.endswith((".default_rng", ".RandomState")):
            return Ref(f"{library}.random")
        if (layer := make_layer(path, args, keywords)) is not None:
            return layer
        if path.rsplit(".", 1)[-1] in ("jit", "pmap", "vmap", "compile", "function", "njit") and args:
            return args[0]
        if (
            path.rsplit(".", 1)[-1] in ("int64", "int32", "float32", "float64")
            and len(args) == 1
            and integer(args[0]) is not None
        ):
            return args[0]
        if path.rsplit(".", 1)[-1] in (
            "no_grad",
            "inference_mode",
            "set_num_threads",
            "seed",
            "manual_seed",
            "PRNGKey",
            "key",
        ):
            return None
        return self.spend(node, path.removeprefix(f"{library}."), library_call(library, path, args, keywords))

    def ask(self, node: ast.AST, what: str, asked: Asked) -> None:
        if asked != "no":
            self.record.device(node, what, sure=asked == "always")

    def _import(self, args: list[Value], node: ast.AST) -> Value:
        name = args[0] if args else None
        if isinstance(name, Const) and isinstance(name.value, str):
            return self.imported(name.value, node)
        self.record.dynamic_import(node)
        return None

    def imported(self, path: str, node: ast.AST) -> Ref:
        """A module that is imported here."""
        if (library := array_library(path)) is not None:
            self.record.library(node, library)
        if path == "pycuda.autoinit":
            self.record.device(node, path, sure=True)
        return Ref(path)

    def _builtin(self, name: str, args: list[Value], node: ast.AST) -> Value:
        first = args[0] if args else None
        if name == "__import__":
            found = self._import(args, node)
            return Ref(found.path.split(".")[0]) if isinstance(found, Ref) else None
        if name == "getattr" and len(args) > 1:
            wanted = args[1]
            if isinstance(wanted, Const) and isinstance(wanted.value, str):
                return self.attribute(first, wanted.value)
            return None
        if name in ("exec", "eval") and isinstance(first, Const) and isinstance(first.value, str):
            self.run_text(first.value, node)
        if name == "range":
            return self._range(args)
        if name == "len":
            shape = shape_of(first)
            return Const(shape[0]) if shape and shape[0] is not None else None
        if name in ("int", "round", "float", "abs"):
            try:
                return Const(int(first.value)) if isinstance(first, Const) and name == "int" else first
            except (ValueError, TypeError, OverflowError):
                return None
        if name in ("tuple", "list", "sorted", "reversed", "iter", "enumerate", "print", "str", "set"):
            return first if name in ("tuple", "list", "sorted", "reversed", "iter") else None
        if name in ("max", "min") and args and all(integer(one) is not None for one in args):
            numbers = [integer(one) or 0 for one in args]
            return Const(max(numbers) if name == "max" else min(numbers))
        if name == "sum" and isinstance(first, Array):
            return self.spend(node, "sum", method_call(first, "sum", [], {}))
        return None

    def _range(self, args: list[Value]) -> Value:
        numbers = [integer(one) for one in args[:3]]
        if not numbers or None in numbers:
            return None
        known = [one or 0 for one in numbers]
        try:
            values = range(*known)
        except ValueError:  # a step of 0
            return None
        if len(values) <= 8:
            return Sequence(tuple(Const(one) for one in values))
        return Lists((min(len(values), 1 << 48),))


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
