"""Statements of a Python program that is read and not run: paths, loops, functions, classes and imports.

Theory of operation: the module's body is followed from top to bottom, then each function that the platform may call. A
call of a function of this file is followed into it with what is known of its arguments, so that what is never called is
never seen. Where a condition is a constant only its path is followed; else all, as conditional. A body whose failure is
handled is conditional too, and so is what follows a branch that returned something computed. Every step is counted, and
the count is bounded.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from edgeagent.accel.python_calls import Calls
from edgeagent.accel.python_names import array_library, words
from edgeagent.accel.python_record import Record
from edgeagent.accel.python_values import (
    Const,
    Function,
    Instance,
    Kind,
    Lists,
    Method,
    Ref,
    Scope,
    Table,
    Value,
    integer,
    join,
    truth,
)
from edgeagent.accel.python_values import Sequence as Written

__all__ = ["Walker", "decorated_as_entry"]

_DEPTH_MAX = 24
# Decorators that leave a function what it was.
_HARMLESS = words(
    "jit njit vectorize guvectorize stencil lru_cache cache cached_property property staticmethod"
    " classmethod wraps abstractmethod overload contextmanager dataclass compile function no_grad"
    " inference_mode setter override final"
)
_DEVICE_WORDS = ("is_available", "device_count", "cuda", "gpu", "devices(")


def decorated_as_entry(function: Function) -> bool:
    """``@app.post("/")`` and the like: whoever made the decorator calls it."""
    return any(
        name.rsplit(".", 1)[-1] not in _HARMLESS and array_library(name) is None
        for name in function.decorators
    )


class Walker(Calls):
    def __init__(self, record: Record) -> None:
        super().__init__(record)
        self.ran: set[int] = set()
        self.escaped: list[Function] = []
        self._active: list[int] = []
        self._methods: list[tuple[Function, Value]] = []
        self._returns: list[list[Value]] = []
        # Conditions that hold to the end of the function, and to the end of the loop's body.
        self._function_conditions = [0]
        self._loop_conditions = [0]

    # -- blocks ----------------------------------------------------------------------------------------------

    def block(self, body: Sequence[ast.stmt]) -> str:
        """How it ends: "" (it goes on), return, raise or loop; what follows that is dead."""
        for one in body:
            self.record.step()
            method = getattr(self, f"_do_{type(one).__name__.lower()}", None)
            if method is None:
                self._do_other(one)
            elif end := method(one):
                return str(end)
        return ""

    def _do_other(self, node: ast.stmt) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)

    def _branches(self, bodies: Sequence[Sequence[ast.stmt]]) -> list[str]:
        """Each on its own from the same state, then what they make of it together."""
        before = self.scope.names
        ends: list[str] = []
        states: list[dict[str, Value]] = []
        works = [0.0]
        with self.record.conditional():
            for body in bodies:
                self.scope.names = dict(before)
                for _ in range(len(before) // 32):
                    self.record.step()
                with self.record.aside() as work:
                    ends.append(self.block(body))
                works.append(work.flops)
                states.append(self.scope.names)
        self.record.add(max(works))
        going = [state for state, end in zip(states, ends, strict=True) if end in ("", "loop")] or states
        self.scope.names = _joined(going)
        return ends

    def _do_if(self, node: ast.If) -> str:
        known = truth(self.value(node.test))
        if known is not None:
            return self.block(node.body if known else node.orelse)
        ends = self._branches([node.body, node.orelse])
        if all(ends):
            return "return" if "return" in ends else ends[0]
        for body, end in zip((node.body, node.orelse), ends, strict=True):
            if end == "return" and not _is_guard(node.test, body):
                self._condition(self._function_conditions)
            elif end == "loop":
                self._condition(self._loop_conditions)
        return ""

    def _condition(self, where: list[int]) -> None:
        where[-1] += 1
        self.record.condition(1)

    def _do_match(self, node: ast.Match) -> str:
        self.value(node.subject)
        for case in node.cases:
            for name in ast.walk(case.pattern):
                if isinstance(name, ast.MatchAs | ast.MatchStar) and name.name:
                    self.scope.names[name.name] = None
        ends = self._branches([*(case.body for case in node.cases), []])
        return "return" if all(ends[:-1]) and _catches_all(node.cases[-1]) else ""

    def _do_for(self, node: ast.For | ast.AsyncFor) -> str:
        times, item = self.repeats(node.iter)
        value = self.value(node.iter) if not isinstance(node.iter, ast.Call) else None
        several = item if isinstance(item, Written) and isinstance(node.iter, ast.Call) else value
        if isinstance(several, Written) and 0 < len(several.items) <= 8:
            for one in several.items:
                self._loop(node, one, 1, known=True)
        elif times != 0:
            self._loop(node, item, times or 1, known=times is not None)
        return self.block(node.orelse)

    _do_asyncfor = _do_for

    def _loop(self, node: ast.For | ast.AsyncFor, item: Value, times: int, *, known: bool) -> None:
        self.bind(node.target, item)
        with self.record.repeated(times, known=known):
            self._loop_body(node.body)

    def _loop_body(self, body: Sequence[ast.stmt]) -> None:
        self._loop_conditions.append(0)
        self.block(body)
        self.record.condition(-self._loop_conditions.pop())

    def _do_while(self, node: ast.While) -> str:
        if truth(self.value(node.test)) is not False:
            with self.record.repeated(1, known=False):
                self._loop_body(node.body)
        return self.block(node.orelse)

    def repeats(self, node: ast.expr) -> tuple[int | None, Value]:
        """Of a range the middle stands for its numbers, and a short one for itself."""
        is_range = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range"
        if not is_range or not isinstance(node, ast.Call):
            return super().repeats(node)
        value = self.value(node)
        if isinstance(value, Written):
            return len(value.items), value
        if not isinstance(value, Lists):
            return None, None
        ends = [integer(self.value(one)) or 0 for one in node.args[:2]]
        return value.shape[0], Const(sum(ends) // 2 if len(ends) > 1 else ends[0] // 2)

    def _do_with(self, node: ast.With | ast.AsyncWith) -> str:
        for one in node.items:
            value = self.value(one.context_expr)
            if one.optional_vars is not None:
                self.bind(one.optional_vars, value)
        return self.block(node.body)

    _do_asyncwith = _do_with

    def _do_try(self, node: ast.Try) -> str:
        recovers = any(not _raises(handler.body) for handler in node.handlers)
        before = dict(self.scope.names)
        with self.record.conditional(on=recovers):
            end = self.block(node.body) or self.block(node.orelse)
        states = [] if end in ("return", "raise") else [self.scope.names]
        ends = [end]
        for handler in node.handlers:
            self.scope.names = dict(_joined([before, self.scope.names]))
            if handler.name:
                self.scope.names[handler.name] = None
            with self.record.conditional(), self.record.aside():
                ends.append(self.block(handler.body))
            if ends[-1] not in ("return", "raise"):
                states.append(self.scope.names)
        self.scope.names = _joined(states) if states else self.scope.names
        last = self.block(node.finalbody)
        if last or all(ends):
            return last or ends[0]
        if end == "return" or "return" in ends:
            self._condition(self._function_conditions)
        return ""

    _do_trystar = _do_try

    # -- plain statements ------------------------------------------------------------------------------------

    def _do_assign(self, node: ast.Assign) -> None:
        value = self.value(node.value)
        for target in node.targets:
            self._note_escape(value, stored=not isinstance(target, ast.Name))
            self.bind(target, value)

    def _do_annassign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.bind(node.target, self.value(node.value))

    def _do_augassign(self, node: ast.AugAssign) -> None:
        known: Any = node.target
        value = self.value(ast.copy_location(ast.BinOp(known, node.op, node.value), node))
        self.bind(node.target, value)

    def _do_return(self, node: ast.Return) -> str:
        value = self.value(node.value)
        self._note_escape(value, stored=True)
        if self._returns:
            self._returns[-1].append(value)
        return "return"

    def _do_raise(self, node: ast.Raise) -> str:
        self.value(node.exc)
        return "raise"

    def _do_break(self, node: ast.stmt) -> str:
        return "loop"

    _do_continue = _do_break

    def _do_global(self, node: ast.Global) -> None:
        self.scope.globals.update(node.names)

    def _do_import(self, node: ast.Import) -> None:
        for one in node.names:
            module = self.imported(one.name, node)
            self.scope.names[one.asname or one.name.split(".")[0]] = (
                module if one.asname else Ref(one.name.split(".")[0])
            )

    def _do_importfrom(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        for one in node.names:
            path = f"{module}.{one.name}"
            if one.name == "*":
                self.imported(module, node)
                self.scope.stars.append(module)
                continue
            self.imported(path if node.level == 0 else module, node)
            self.scope.names[one.asname or one.name] = (
                Const(False) if path == "typing.TYPE_CHECKING" else Ref(path)
            )

    # -- functions and classes -------------------------------------------------------------------------------

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
        try:
            body = ast.parse(text).body
        except (SyntaxError, ValueError):
            return
        self.block(body)

    def call_function(
        self, function: Function, args: list[Value], keywords: dict[str, Value], owner: Value = None
    ) -> Value:
        key = id(function.node)
        if key in self._active or len(self._active) >= _DEPTH_MAX:
            return None
        self.ran.add(key)
        if owner is not None and "builtins.staticmethod" not in function.decorators:
            args = [owner, *args]
        outer = self.scope
        names = self._parameters(function, args, keywords)
        self.scope = Scope(names, function.scope)
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
            return join(*returned) if returned else Const(None)
        finally:
            self.record.condition(-self._function_conditions.pop() - self._loop_conditions.pop())
            self._returns.pop()
            self._methods.pop()
            self._active.pop()
            self.scope = outer

    def _parameters(
        self, function: Function, args: list[Value], keywords: dict[str, Value]
    ) -> dict[str, Value]:
        given = function.node.args
        outer, self.scope = self.scope, function.scope
        try:
            plain = [*given.posonlyargs, *given.args]
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
        for one in (given.vararg, given.kwarg):
            if one is not None:
                names[one.arg] = None
        return names


def _joined(states: Sequence[dict[str, Value]]) -> dict[str, Value]:
    if len(states) == 1:
        return states[0]
    found: dict[str, Value] = {}
    for name in dict.fromkeys(name for state in states for name in state):
        values = [state.get(name) for state in states]
        found[name] = values[0] if all(one is values[0] for one in values) else join(*values)
    return found


def _raises(body: Sequence[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[-1], ast.Raise)


def _catches_all(case: ast.match_case) -> bool:
    return isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None and case.guard is None


def _is_guard(test: ast.expr, body: Sequence[ast.stmt]) -> bool:
    """Whether a branch only turns an input away: it returns something fixed, and does not ask for devices."""
    text = ast.unparse(test).lower()
    last = body[-1] if body else None
    if any(word in text for word in _DEVICE_WORDS) or not isinstance(last, ast.Return):
        return False
    if last.value is None:
        return True
    called = {
        id(name)
        for call in ast.walk(last.value)
        if isinstance(call, ast.Call)
        for name in ast.walk(call.func)
        if isinstance(name, ast.Name)
    }
    return all(id(one) in called for one in ast.walk(last.value) if isinstance(one, ast.Name))
