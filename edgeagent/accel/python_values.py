"""What is known of a value of a Python program that is read and not run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

__all__ = [
    "Array",
    "Const",
    "Function",
    "Instance",
    "Kind",
    "Layer",
    "Lists",
    "Maybe",
    "Method",
    "Module",
    "Part",
    "Ref",
    "Scope",
    "Sequence",
    "Symbol",
    "Table",
    "Value",
    "Window",
    "integer",
    "join",
    "options",
    "shape_of",
    "truth",
]

_INT_MAX = 1 << 62
_OPTIONS_MAX = 8
_LINEAGE_MAX = 64  # classes looked at from one on


class Const(msgspec.Struct, frozen=True):
    value: Any  # None, bool, int, float, str, bytes


class Ref(msgspec.Struct, frozen=True):
    """A module, or something in it, by its full name."""

    path: str


class Sequence(msgspec.Struct, frozen=True):
    """A list or tuple that is written out."""

    items: tuple[Value, ...]


class Table(msgspec.Struct, eq=False):
    """A dict whose keys are constants."""

    items: dict[Any, Value]


class Lists(msgspec.Struct, frozen=True):
    """Nested lists of numbers of these sizes."""

    shape: tuple[int | None, ...]


class Array(msgspec.Struct, frozen=True):
    """An array; None: a size that is not known."""

    shape: tuple[int | None, ...]
    item_bytes: int = 4


class Part(msgspec.Struct, frozen=True):
    """A slice; ``is_open``: one of its ends is not known."""

    start: int | None = None
    stop: int | None = None
    step: int | None = None
    is_open: bool = False


class Window(msgspec.Struct, frozen=True):
    """How a convolution or a pool goes over an array; ``padding`` None: so that the sizes stay."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] | None
    dilation: tuple[int, ...]
    groups: int = 1
    is_channels_last: bool = False
    is_transposed: bool = False


class Layer(msgspec.Struct, frozen=True):
    """A layer of a network, or what else is made to be called: ``kind`` is of python_layers.py; ``parts`` are layers,
    functions and instances that it calls.
    """

    kind: str
    sizes: tuple[int | None, ...] = ()
    parts: tuple[Value, ...] = ()
    window: Window | None = None
    work_flops: float = 0.0
    name: str = ""  # as the program calls it


class Symbol(msgspec.Struct, frozen=True):
    """A tensor of a network under construction, of one sample, and the layers that made it with their work."""

    array: Array
    made_by: frozenset[tuple[int, float]] = frozenset()


class Scope(msgspec.Struct):
    """Names and what they stand for; ``parent`` is the scope around a function."""

    names: dict[str, Value]
    parent: Scope | None = None
    stars: list[str] = msgspec.field(default_factory=list)
    globals: set[str] = msgspec.field(default_factory=set)
    # What its module is called where it is another file's; "" for the program itself.
    file: str = ""

    @property
    def root(self) -> Scope:
        """The module's."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope


class Module(msgspec.Struct, eq=False):
    """One that is read too."""

    scope: Scope


class Function(msgspec.Struct, eq=False):
    node: Any  # ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda
    scope: Scope
    decorators: tuple[str, ...] = ()


class Kind(msgspec.Struct, eq=False):
    """A class; ``bases`` are the dotted names of those from elsewhere."""

    node: ast.ClassDef
    methods: dict[str, Function]
    attributes: dict[str, Value]
    bases: tuple[Value, ...] = ()

    def method(self, name: str) -> Function | None:
        return next((one.methods[name] for one in self.lineage() if name in one.methods), None)

    def attribute(self, name: str) -> Value:
        """What its body, or one of those that it is made of, gives a name."""
        return next((one.attributes[name] for one in self.lineage() if name in one.attributes), None)

    def has(self, name: str) -> bool:
        return any(name in one.attributes for one in self.lineage())

    def holder(self, function: Function) -> Kind | None:
        """The class, this one or one that it is made of, that has this very method."""
        return next((kind for kind in self.lineage() if function in kind.methods.values()), None)

    def fields(self) -> list[str]:
        """The names that its body, or one of those that it is made of, gives a type."""
        kinds = [*self.lineage()][::-1]
        named = [
            one.target.id
            for kind in kinds
            for one in kind.node.body
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
        ]
        return list(dict.fromkeys(named))

    def lineage(self) -> Iterator[Kind]:
        """The class and those that it is made of, the first base and its own before the second, each once."""
        seen: set[int] = set()
        waiting = [self]
        for _ in range(_LINEAGE_MAX):
            if not waiting:
                return
            kind = waiting.pop()
            if id(kind) not in seen:
                seen.add(id(kind))
                yield kind
                waiting += [base for base in kind.bases[:_LINEAGE_MAX] if isinstance(base, Kind)][::-1]


class Instance(msgspec.Struct, eq=False):
    kind: Kind
    attributes: dict[str, Value]


class Method(msgspec.Struct, frozen=True):
    """An attribute of a value of which no more is known."""

    owner: Value
    name: str


class Maybe(msgspec.Struct, frozen=True):
    """One of several, by the path taken."""

    options: tuple[Value, ...]


Value: TypeAlias = (
    Const
    | Ref
    | Sequence
    | Table
    | Lists
    | Array
    | Layer
    | Symbol
    | Function
    | Kind
    | Instance
    | Method
    | Module
    | Maybe
    | None
)


def options(value: Value) -> tuple[Value, ...]:
    return value.options if isinstance(value, Maybe) else (value,)


def join(*values: Value) -> Value:
    """What a name stands for after paths meet."""
    found: list[Value] = []
    for value in values:
        for one in options(value):
            if any(one is known or _same(one, known) for known in found):
                continue
            if len(found) == _OPTIONS_MAX:
                return None
            found.append(one)
    return found[0] if len(found) == 1 else Maybe(tuple(found))


def _same(a: Value, b: Value) -> bool:
    return type(a) is type(b) and isinstance(a, Const | Ref | Array | Lists) and a == b


def integer(value: Value) -> int | None:
    if isinstance(value, Const) and isinstance(value.value, int | float) and abs(value.value) < _INT_MAX:
        number = int(value.value)
        return number if number == value.value else None
    return None


def truth(value: Value) -> bool | None:
    """None: it depends."""
    if isinstance(value, Const):
        return bool(value.value)
    if isinstance(value, Sequence):
        return bool(value.items)
    if isinstance(value, Function | Kind | Ref):
        return True
    return None


def shape_of(value: Value) -> tuple[int | None, ...] | None:
    """The sizes of nested lists of numbers, of a number (), or of an array."""
    if isinstance(value, Array | Lists):
        return value.shape
    if isinstance(value, Const):
        return () if isinstance(value.value, int | float) else None
    if isinstance(value, Sequence):
        inner = shape_of(value.items[0]) if value.items else ()
        return None if inner is None else (len(value.items), *inner)
    return None
