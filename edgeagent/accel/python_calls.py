"""Calls of a Python program that is read and not run: into its own functions, and of libraries by their names."""

from __future__ import annotations

import ast
import itertools
import re
from abc import ABC, abstractmethod
from functools import partial

from edgeagent.accel.python_devices import GPU_DEVICE, Asked, asked_by_function, asked_by_method
from edgeagent.accel.python_loops import ITEMS_MAX, WRITTEN_MAX, numbered, paired
from edgeagent.accel.python_made import Made
from edgeagent.accel.python_names import array_library, is_question, words
from edgeagent.accel.python_operators import TEXT_MAX
from edgeagent.accel.python_shapes import reshaped
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
    truth,
)
from edgeagent.accel.python_work import library_call, method_call

__all__ = ["Calls"]

_KEEPS = words("half float eval train to cuda cpu requires_grad_ compile share_memory double bfloat16")
_IN_OTHER_THREADS = words("to_thread run_in_executor submit Thread Process Timer apply_async")
_MAPS = words("map imap imap_unordered starmap pmap")
_NUMBERS = words("int8 int16 int32 int64 float16 float32 float64")
_FIELD = re.compile(r"\{(\w*)(?:[!:][^{}]*)?\}")
_SWITCHES = words("no_grad inference_mode set_num_threads seed manual_seed PRNGKey key")


class Calls(Made, ABC):
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
        listed = sum(len(one.items) for one in args if isinstance(one, Sequence))
        self.record.copy(len(args) + 8 * listed)
        keywords = {one.arg: self.value(one.value) for one in node.keywords if one.arg is not None}
        for keyword in node.keywords:
            given = self.value(keyword.value) if keyword.arg is None else None
            if isinstance(given, Table):
                self.record.copy(4 * len(given.items))
                keywords.update((key, value) for key, value in given.items.items() if isinstance(key, str))
        if isinstance(target, Method) and isinstance(node.func, ast.Attribute):
            grown = self.grown(target.owner, target.name, args)
            if grown is not None:
                self.rebind(node.func.value, grown)
                return Const(None)
            if (shrunk := self.shrunk(target.owner, target.name, args)) is not None:
                self.rebind(node.func.value, shrunk[1])
                return shrunk[0]
        ways = options(target)
        if len(ways) == 1:
            return self.call(target, args, keywords, node)
        return self.either(*(partial(self.call, one, args, keywords, node) for one in ways))

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
            return self.call_made(target, args, keywords, node)
        if isinstance(target, Method):
            return self._call_method(target, args, keywords, node)
        if isinstance(target, Ref):
            return self._call_ref(target, args, keywords, node)
        self._hand_on("", args, keywords, node)
        self._call_unknown(args, keywords, node)
        return None

    def _hand_on(self, name: str, args: list[Value], keywords: dict[str, Value], node: ast.AST) -> Value:
        """A function that is handed on is called there: with what is handed on behind it, as threads and pools do, else
        with what we cannot know.
        """
        if name in _MAPS and len(args) > 1 and isinstance(args[0], Function | Layer | Instance | Kind):
            loops = [self.rounds_of(one) for one in args[1:]]
            times = loops[0].times
            with self.record.repeated(times or 1, known=times is not None):
                value = self.call(args[0], [one.item for one in loops], {}, node)
            return self.listed((value,), times) if times is not None and times <= ITEMS_MAX else None
        found: Value = None
        for place, one in enumerate(args):
            if isinstance(one, Function):
                found = self.call_function(one, args[place + 1 :] if name in _IN_OTHER_THREADS else [], {})
        for one in keywords.values():
            if isinstance(one, Function):
                given = keywords.get("args")
                self.call_function(one, list(given.items) if isinstance(given, Sequence) else [], {})
        return found

    def _call_unknown(self, args: list[Value], keywords: dict[str, Value], node: ast.AST) -> None:
        """What is not known may do anything with an array."""
        if any(isinstance(one, Array) for one in (*args, *keywords.values())):
            self.record.unknown(node)

    def instance(self, kind: Kind, args: list[Value], keywords: dict[str, Value]) -> Value:
        made = Instance(kind, {})
        if (function := kind.method("__init__")) is not None:
            self.call_function(function, args, keywords, made)
            return made
        # A dataclass or a named tuple: its fields in order.
        self.record.copy(sum(len(one.node.body) for one in kind.lineage()))
        fields = kind.fields()
        made.attributes.update(zip(fields, args, strict=False))
        made.attributes.update((name, value) for name, value in keywords.items() if name in fields)
        if (function := kind.method("__post_init__")) is not None:
            self.call_function(function, [], {}, made)
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
            self.record.copy(len(self.record.kinds))
            for candidate in self.record.kinds:
                if (function := candidate.methods.get(name)) is not None:
                    with self.record.conditional():
                        return self.call_function(function, args, keywords, None)
        handed_on = self._hand_on(name, args, keywords, node)
        self.ask(node, f".{name}()", asked_by_method(owner, name, args, keywords))
        array = next((one for one in options(owner) if isinstance(one, Array)), None)
        if array is not None:
            return self.spend(node, name, method_call(array, name, args, keywords))
        if isinstance(owner, Layer | Instance) and name in _KEEPS:
            return owner
        if isinstance(owner, Layer):
            return self.call_made_method(owner, name, args, keywords, node)
        if isinstance(owner, Instance) and name in ("predict", "predict_on_batch", "forward"):
            return self.call(owner, args, keywords, node)
        if isinstance(owner, Const | Table):
            return self._plain_method(owner, name, args, keywords)
        if name in ("reshape", "view"):
            return reshaped(None, args)
        self._call_unknown(args, keywords, node)
        return handed_on

    def _plain_method(
        self, owner: Const | Table, name: str, args: list[Value], keywords: dict[str, Value]
    ) -> Value:
        """Of text and of dictionaries."""
        if isinstance(owner, Table):
            if name in ("values", "items", "keys"):
                self.record.copy(8 * len(owner.items))
                return _of_table(owner, name)
            return self.entry(owner, *args[:2]) if name == "get" and args else None
        if not isinstance(owner.value, str) or name not in ("format", "lower", "strip", "upper"):
            return None
        return Const(_formatted(owner.value, args, keywords)) if name == "format" else owner

    def _call_ref(self, target: Ref, args: list[Value], keywords: dict[str, Value], node: ast.AST) -> Value:
        path = target.path
        if path.startswith("builtins."):
            return self._builtin(path.removeprefix("builtins."), args, keywords, node)
        if path in ("importlib.import_module", "importlib.__import__"):
            return self._import(args, node)
        if path.startswith(("os.", "math.")):
            return _standard(path, args)
        name = path.rsplit(".", 1)[-1]
        if path.startswith("jax.lax."):
            return self._jax_loop(name, args, keywords, node)
        if path == "functools.partial" and args:
            return Layer("partial", parts=(args[0], Sequence(tuple(args[1:])), Table({**keywords})))
        if path in ("tensorflow.function", "collections.OrderedDict", "collections.deque") and args:
            return args[0]
        return self._call_library(path, name, args, keywords, node)

    def _call_library(
        self, path: str, name: str, args: list[Value], keywords: dict[str, Value], node: ast.AST
    ) -> Value:
        """A function or class of another's; of an array library it counts."""
        library = array_library(path)
        made = None if library is None else self.of_symbols(name, args) or self.make(path, args, keywords)
        # What it makes of a function is called when that is; else a function that is handed on is called there.
        handed_on = self._hand_on(name, args, keywords, node) if made is None else None
        asked = asked_by_function(path, args, keywords)
        self.ask(node, f"{path}()", asked)
        if library is None or (made is None and is_question(path)):
            return handed_on
        self.record.library(node, library)
        if path == "torch.device":
            return args[0] if args else keywords.get("type")
        if path in ("jax.devices", "jax.local_devices", "mxnet.gpu", "torch.cuda.device"):
            return GPU_DEVICE if asked == "always" else None
        if name in ("default_rng", "RandomState"):
            return Ref(f"{library}.random")
        if made is not None:
            return made
        if args and name in _NUMBERS and integer(args[0]) is not None:
            return args[0]
        if name in _SWITCHES:
            return None
        return self.spend(node, path.removeprefix(f"{library}."), library_call(library, path, args, keywords))

    def _jax_loop(self, name: str, args: list[Value], keywords: dict[str, Value], node: ast.AST) -> Value:
        """``fori_loop``, ``scan`` and the like of jax.lax."""
        if name == "fori_loop" and len(args) > 3:
            low, high = integer(args[0]), integer(args[1])
            times = None if low is None or high is None else max(0, high - low)
            with self.record.repeated(1 if times is None else times, known=times is not None):
                self.call(args[2], [None, args[3]], {}, node)
            return args[3]
        if name in ("scan", "map") and len(args) > 1:
            over = self.rounds_of(args[-1] if name == "map" else args[2] if len(args) > 2 else None)
            times = over.times if over.times is not None else integer(keywords.get("length"))
            state = [] if name == "map" else [args[1]]
            with self.record.repeated(times or 1, known=times is not None):
                self.call(args[0], [*state, over.item], {}, node)
            return Sequence((args[1], None)) if name == "scan" else None
        if name == "cond" and len(args) > 2:
            return self.either(*(partial(self.call, one, args[3:], {}, node) for one in args[1:3]))
        self._hand_on(name, args, keywords, node)
        return self.spend(node, f"lax.{name}", library_call("jax", f"jax.lax.{name}", args, keywords))

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
        if name == "map":
            return self._hand_on(name, args, keywords, node)
        if name in ("zip", "enumerate"):
            loop = (
                paired([self.rounds_of(one) for one in args])
                if name == "zip"
                else numbered(self.rounds_of(first))
            )
            return Sequence(loop.items) if loop.items else None
        self._hand_on(name, args, keywords, node)
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
        if len(values) <= WRITTEN_MAX:
            return Sequence(tuple(Const(one) for one in values))
        return Lists((min(len(values), 1 << 48),))


def _formatted(text: str, args: list[Value], keywords: dict[str, Value]) -> str:
    """``text.format(...)`` as far as its fields are plain; what is not known is a question mark."""
    plain = [str(one.value) if isinstance(one, Const) else "?" for one in args]
    named = {key: str(one.value) if isinstance(one, Const) else "?" for key, one in keywords.items()}
    numbers = itertools.count()

    def filled(field: re.Match[str]) -> str:
        key = field[1] or str(next(numbers))
        if key.isdecimal():
            return plain[int(key)] if len(key) < 4 and int(key) < len(plain) else "?"
        return named.get(key, "?")

    return _FIELD.sub(filled, text[:TEXT_MAX])[:TEXT_MAX]


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
        return join(*(_whole(one) for one in options(first))) if name == "int" else first
    if name == "reversed" and isinstance(first, Sequence):
        return Sequence(first.items[::-1])
    if name in ("tuple", "list", "sorted", "reversed", "iter", "next", "set", "frozenset"):
        return first if name not in ("next", "set", "frozenset") else None
    if name == "bool":
        known = truth(first)
        return None if known is None else Const(known)
    if name in ("max", "min") and args and all(integer(one) is not None for one in args):
        numbers = [integer(one) or 0 for one in args]
        return Const(max(numbers) if name == "max" else min(numbers))
    return None


def _whole(value: Value) -> Value:
    try:
        return Const(int(value.value)) if isinstance(value, Const) else value
    except (ValueError, TypeError, OverflowError):
        return None


def _of_table(table: Table, name: str) -> Value:
    """``.items()`` and the like, in the order of its keys."""
    keys: list[Value] = [Const(key) if isinstance(key, str | int) else None for key in table.items]
    values = list(table.items.values())
    if name == "items":
        pairs = zip(keys, values, strict=True)
        return Sequence(tuple(Sequence(pair) for pair in pairs))
    return Sequence(tuple(keys if name == "keys" else values))
