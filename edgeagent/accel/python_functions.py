"""Functions and classes of a Python program that is read and not run: what is defined, and what a call leads into."""

from __future__ import annotations

import ast
from abc import ABC

from edgeagent.accel.python_modules import Beside, Modules, parsed
from edgeagent.accel.python_names import array_library, words
from edgeagent.accel.python_paths import yields
from edgeagent.accel.python_record import Record
from edgeagent.accel.python_values import (
    Const,
    Function,
    Instance,
    Kind,
    Maybe,
    Method,
    Ref,
    Scope,
    Table,
    Value,
    join,
)
from edgeagent.accel.python_values import Sequence as Written

__all__ = ["Functions", "decorated_as_entry"]

_DEPTH_MAX = 24
# Decorators that leave a function what it was.
_HARMLESS = words(
    "jit njit vectorize guvectorize stencil lru_cache cache cached_property property staticmethod"
    " classmethod wraps abstractmethod overload contextmanager dataclass compile function no_grad"
    " inference_mode setter override final"
)


def decorated_as_entry(function: Function) -> bool:
    """``@app.post("/")`` and the like: whoever made the decorator calls it."""
    return any(
        name.rsplit(".", 1)[-1] not in _HARMLESS and array_library(name) is None
        for name in function.decorators
    )


class Functions(Modules, ABC):
    """Following a body is the subclass's."""

    def __init__(self, record: Record, beside: Beside | None = None) -> None:
        super().__init__(record, beside)
        self.ran: set[int] = set()
        self.escaped: list[Function] = []
        self._active: list[int] = []
        self._generators: dict[int, bool] = {}
        self._methods: list[tuple[Function, Value]] = []
        self._returns: list[list[Value]] = []
        # Conditions that hold to the end of the function, and to the end of the loop's body.
        self._function_conditions = [0]
        self._loop_conditions = [0]

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Function:
        names = []
        for one in node.decorator_list:
            value = self.value(one.func if isinstance(one, ast.Call) else one)
            if isinstance(one, ast.Call):
                self.value(one)
            if isinstance(value, Ref):
                names.append(value.path)
            elif isinstance(value, Method):
                names.append(value.name)
        return Function(node, self.scope, tuple(names))

    def _do_functiondef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.scope.names[node.name] = self._function(node)

    _do_asyncfunctiondef = _do_functiondef

    def _do_classdef(self, node: ast.ClassDef) -> None:
        bases = tuple(self.value(one) for one in node.bases)
        outer = self.scope
        self.scope = Scope({}, outer)
        try:
            self.block(node.body)
            names = self.scope.names
        finally:
            self.scope = outer
        methods = {key: value for key, value in names.items() if isinstance(value, Function)}
        for method in methods.values():
            method.scope = outer  # a class body is no scope of its methods
        kind = Kind(node, methods, {k: v for k, v in names.items() if k not in methods}, bases)
        self.record.kinds.append(kind)
        self.scope.names[node.name] = kind

    def _note_escape(self, value: Value, *, stored: bool) -> None:
        if stored and isinstance(value, Function):
            self.escaped.append(value)

    def _dict(self, node: ast.Dict) -> Value:
        found = super()._dict(node)
        for one in found.items.values() if isinstance(found, Table) else ():
            self._note_escape(one, stored=True)
        return found

    def _items(self, elements: list[ast.expr]) -> Value:
        found = super()._items(elements)
        for one in found.items if isinstance(found, Written) else ():
            self._note_escape(one, stored=True)
        return found

    def attribute(self, owner: Value, name: str) -> Value:
        if isinstance(owner, Instance) and name not in owner.attributes:
            function = owner.kind.method(name)
            if function is not None and {"builtins.property", "functools.cached_property"} & {
                *function.decorators
            }:
                return self.call_function(function, [], {}, owner)
        return super().attribute(owner, name)

    def base_part(self) -> Value:
        function, owner = self._methods[-1] if self._methods else (None, None)
        if function is None or not isinstance(owner, Instance):
            return None
        kind = owner.kind.holder(function)
        if kind is None:
            return None
        return Instance(Kind(kind.node, {}, {}, kind.bases), owner.attributes)

    def run_text(self, text: str, node: ast.AST) -> None:
        self.record.copy(8 * len(text))
        if (tree := parsed(text)) is not None:
            self.block(tree.body)

    def enter(self, function: Function, owner: Value = None) -> None:
        """Called from outside: with what nobody knows, also where None would be the default."""
        names = [one.arg for one in (*function.node.args.args, *function.node.args.kwonlyargs)]
        defaults = self._parameters(function, [], {})
        is_none = [name for name in names if defaults[name] == Const(None)]
        self.call_function(function, [], dict.fromkeys(is_none, Maybe((Const(None), None))), owner)

    def call_function(
        self, function: Function, args: list[Value], keywords: dict[str, Value], owner: Value = None
    ) -> Value:
        key = id(function.node)
        if key in self._active or len(self._active) >= _DEPTH_MAX:
            return None
        self.ran.add(key)
        if owner is not None and "builtins.staticmethod" not in function.decorators:
            args = [owner, *args]
        outer = (self.scope, self.module, self.record.file)
        names = self._parameters(function, args, keywords)
        self.scope = Scope(names, function.scope)
        self.module = self.scope.root
        self.record.file = self.module.file
        self._active.append(key)
        self._methods.append((function, owner))
        self._returns.append([])
        self._function_conditions.append(0)
        self._loop_conditions.append(0)
        try:
            if isinstance(function.node, ast.Lambda):
                return self.value(function.node.body)
            self.block(function.node.body)
            returned = self._returns[-1]
            if self._is_generator(function.node):
                return None
            return join(*returned) if returned else Const(None)
        finally:
            self.record.condition(-self._function_conditions.pop() - self._loop_conditions.pop())
            self._returns.pop()
            self._methods.pop()
            self._active.pop()
            self.scope, self.module, self.record.file = outer

    def _is_generator(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        if id(node) not in self._generators:
            self._generators[id(node)] = yields(node.body)
        return self._generators[id(node)]

    def _parameters(
        self, function: Function, args: list[Value], keywords: dict[str, Value]
    ) -> dict[str, Value]:
        given = function.node.args
        outer, self.scope = self.scope, function.scope
        try:
            plain = [*given.posonlyargs, *given.args]
            self.record.copy(4 * (len(plain) + len(given.kwonlyargs) + len(keywords)))
            first = len(plain) - len(given.defaults)
            names: dict[str, Value] = {}
            for place, one in enumerate(plain):
                if place < len(args):
                    names[one.arg] = args[place]
                elif one.arg in keywords:
                    names[one.arg] = keywords[one.arg]
                else:
                    names[one.arg] = self.value(given.defaults[place - first]) if place >= first else None
            for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
                names[one.arg] = keywords[one.arg] if one.arg in keywords else self.value(default)
        finally:
            self.scope = outer
        if given.vararg is not None:
            names[given.vararg.arg] = Written(tuple(args[len(plain) :])) if len(args) > len(plain) else None
        if given.kwarg is not None:
            rest = {key: one for key, one in keywords.items() if key not in names}
            names[given.kwarg.arg] = Table(rest) if rest else None
        return names

    def _do_return(self, node: ast.Return) -> str:
        value = self.value(node.value)
        self._note_escape(value, stored=True)
        if self._returns:
            self._returns[-1].append(value)
        return "return"
