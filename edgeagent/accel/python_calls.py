"""Calls of a Python program that is read and not run: into its own functions, and of libraries by their names."""

from __future__ import annotations

import ast
import itertools
import re
from abc import ABC, abstractmethod

from edgeagent.accel.python_devices import GPU_DEVICE, Asked, asked_by_function, asked_by_method
from edgeagent.accel.python_expressions import Expressions
from edgeagent.accel.python_layers import apply_layer, make_layer
from edgeagent.accel.python_names import array_library, is_question, words
from edgeagent.accel.python_values import (
    Array,
    Const,
    Function,
    Instance,
    Kind,
    Layer,
    Lists,
    Method,
    Ref,
    Sequence,
    Table,
    Value,
    integer,
    join,
    options,
    shape_of,
)
from edgeagent.accel.python_work import library_call, method_call

__all__ = ["Calls"]

_KEEPS = words("half float eval train to cuda cpu requires_grad_ compile share_memory double bfloat16")


_WRAPPERS = words("jit pmap vmap compile function njit")
_NUMBERS = words("int8 int16 int32 int64 float16 float32 float64")
_TEXT_MAX = 4096
_FIELD = re.compile(r"\{(\w*)(?:[!:][^{}]*)?\}")
_SWITCHES = words("no_grad inference_mode set_num_threads seed manual_seed PRNGKey key")


class Calls(Expressions, ABC):
    """Following a function is the subclass's."""

    @abstractmethod
    def call_function(
        self, function: Function, args: list[Value], keywords: dict[str, Value], owner: Value = None
    ) -> Value: ...

    @abstractmethod
    def base_part(self) -> Value:
        """What ``super()`` is in the method that is followed."""
        ...

    @abstractmethod
    def run_text(self, text: str, node: ast.AST) -> None: ...

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
        for keyword in node.keywords:
            given = self.value(keyword.value) if keyword.arg is None else None
            if isinstance(given, Table):
                keywords.update((key, value) for key, value in given.items.items() if isinstance(key, str))
        ways = options(target)
        with self.record.conditional(on=len(ways) > 1):
            found = [self.call(one, args, keywords, node) for one in ways]
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
        if isinstance(owner, Table):
            return self.entry(owner, *args[:2]) if name == "get" and args else None
        if isinstance(owner, Layer | Instance) and name in _KEEPS:
            return owner
        if (
            isinstance(owner, Const)
            and isinstance(owner.value, str)
            and name in ("format", "lower", "strip", "upper")
        ):
            return Const(_formatted(owner.value, args, keywords)) if name == "format" else Const(owner.value)
        return None

    def _call_ref(self, target: Ref, args: list[Value], keywords: dict[str, Value], node: ast.AST) -> Value:
        path = target.path
        if path.startswith("builtins."):
            return self._builtin(path.removeprefix("builtins."), args, keywords, node)
        if path in ("importlib.import_module", "importlib.__import__"):
            return self._import(args, node)
        if path.startswith(("os.", "math.")):
            return _standard(path, args)
        asked = asked_by_function(path, args, keywords)
        self.ask(node, f"{path}()", asked)
        library = array_library(path)
        if library is None or is_question(path):
            return None
        name = path.rsplit(".", 1)[-1]
        if path == "torch.device":
            return args[0] if args else keywords.get("type")
        if path in ("jax.devices", "jax.local_devices", "mxnet.gpu", "torch.cuda.device"):
            return GPU_DEVICE if asked == "always" else None
        if name in ("default_rng", "RandomState"):
            return Ref(f"{library}.random")
        if (layer := make_layer(path, args, keywords)) is not None:
            return layer
        if args and (name in _WRAPPERS or (name in _NUMBERS and integer(args[0]) is not None)):
            return args[0]
        if name in _SWITCHES:
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

    def _builtin(self, name: str, args: list[Value], keywords: dict[str, Value], node: ast.AST) -> Value:
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
        if name == "super":
            return self.base_part()
        if name == "dict" and not args:
            return Table(dict(keywords))
        if name == "range":
            return self._range(args)
        if name == "sum" and isinstance(first, Array):
            return self.spend(node, "sum", method_call(first, "sum", [], {}))
        return _plain(name, first, args)

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


def _formatted(text: str, args: list[Value], keywords: dict[str, Value]) -> str:
    """``text.format(...)`` as far as its fields are plain; what is not known is a question mark."""
    plain = [str(one.value) if isinstance(one, Const) else "?" for one in args]
    named = {key: str(one.value) if isinstance(one, Const) else "?" for key, one in keywords.items()}
    numbers = itertools.count()

    def filled(field: re.Match[str]) -> str:
        key = field[1] or str(next(numbers))
        if key.isdigit():
            return plain[int(key)] if len(key) < 4 and int(key) < len(plain) else "?"
        return named.get(key, "?")

    return _FIELD.sub(filled, text[:_TEXT_MAX])[:_TEXT_MAX]


def _standard(path: str, args: list[Value]) -> Value:
    """What is known of ``os`` and ``math``."""
    if path in ("os.environ.get", "os.getenv"):
        return join(args[1], None) if len(args) > 1 else None
    if path == "math.prod" and args and isinstance(args[0], Sequence):
        total = 1
        for one in args[0].items[:32]:
            total *= integer(one) or 1
        return Const(total) if total < 1 << 62 else None
    return args[0] if path in ("math.floor", "math.ceil", "math.trunc") and args else None


def _plain(name: str, first: Value, args: list[Value]) -> Value:
    """Builtins that compute and do nothing else."""
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
    return None
