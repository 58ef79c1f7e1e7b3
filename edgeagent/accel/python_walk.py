"""Statements of a Python program that is read and not run: paths and loops.

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

from edgeagent.accel.python_functions import Functions
from edgeagent.accel.python_loops import STEPS_SHARE, Loop, numbered, paired
from edgeagent.accel.python_paths import catches_all, counted, exits, is_guard, raises, reports
from edgeagent.accel.python_values import (
    Const,
    Function,
    Instance,
    Kind,
    Layer,
    Lists,
    Ref,
    Value,
    integer,
    join,
    truth,
)
from edgeagent.model.function import Evidence

__all__ = ["Walker"]

_INNER_MAX = 8


class Walker(Functions):
    # -- blocks ----------------------------------------------------------------------------------------------

    def block(self, body: Sequence[ast.stmt]) -> str:
        """How it ends: "" (it goes on), return, raise or loop; what follows that is dead."""
        for one in body:
            self.record.step()
            method = getattr(self, f"_do_{type(one).__name__.lower()}", None)
            if method is None:
                self._do_other(one)
                if exits(one):
                    return "raise"
            elif end := method(one):
                return str(end)
        return ""

    def _do_other(self, node: ast.stmt) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)

    def _branches(self, bodies: Sequence[Sequence[ast.stmt]]) -> list[tuple[str, bool]]:
        """Each on its own from the same state, then what they make of it together; how each ends, and whether it surely
        asks for a device.
        """
        before = self.scope.names
        ends: list[str] = []
        asked: list[list[Evidence]] = []
        states: list[dict[str, Value]] = []
        works = [0.0]
        with self.record.conditional():
            for body in bodies:
                self.scope.names = dict(before)
                self.record.copy(len(before))
                with self.record.aside() as work, self.record.branch() as devices:
                    ends.append(self.block(body))
                works.append(work.flops)
                asked.append(devices)
                states.append(self.scope.names)
        self.record.add(max(works))
        # What ends in a failure has no say in what a call asks for.
        self.record.settle([one for one, end in zip(asked, ends, strict=True) if end != "raise"])
        going = [state for state, end in zip(states, ends, strict=True) if end in ("", "loop")] or states
        self.scope.names = _joined(going)
        return [(end, bool(one)) for end, one in zip(ends, asked, strict=True)]

    def _do_if(self, node: ast.If) -> str:
        known = truth(self.value(node.test))
        if known is not None:
            return self.block(node.body if known else node.orelse)
        ways = self._branches([node.body, node.orelse])
        ends = [end for end, _ in ways]
        if all(ends):
            return "return" if "return" in ends else ends[0]
        for body, (end, is_asked) in zip((node.body, node.orelse), ways, strict=True):
            # Where it returns with a device asked for, what is asked for behind it is asked for on every path.
            if end == "return" and not is_asked and not is_guard(node.test, body):
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
                self.record.step()
                if isinstance(name, ast.MatchAs | ast.MatchStar) and name.name:
                    self.scope.names[name.name] = None
        bodies: list[Sequence[ast.stmt]] = [case.body for case in node.cases]
        is_whole = catches_all(node.cases[-1])
        ways = self._branches(bodies if is_whole else [*bodies, []])
        return "return" if is_whole and all(end for end, _ in ways) else ""

    def _do_for(self, node: ast.For | ast.AsyncFor) -> str:
        loop = self.rounds(node.iter)
        # Inner loops are written out only where they are short.
        if loop.items and (self.record.loops == 0 or len(loop.items) <= _INNER_MAX):
            self._written_loop(node, loop.items)
        elif loop.times != 0:
            self._loop(node, loop.item, loop.times or 1, known=loop.times is not None)
        return self.block(node.orelse)

    _do_asyncfor = _do_for

    def _written_loop(self, node: ast.For | ast.AsyncFor, items: Sequence[Value]) -> None:
        """One item after the other; where that takes too many steps the middle one of the rest stands for it."""
        for place, item in enumerate(items):
            before, rest = self.record.left, items[place + 1 :]
            self._loop(node, item, 1, known=True)
            if rest and (before - self.record.left) * len(rest) > self.record.left // STEPS_SHARE:
                self._loop(node, rest[len(rest) // 2], len(rest), known=True)
                return

    def _loop(self, node: ast.For | ast.AsyncFor, item: Value, times: int, *, known: bool) -> None:
        self.bind(node.target, item)
        with self.record.repeated(times, known=known):
            self._loop_body(node.body)

    def _loop_body(self, body: Sequence[ast.stmt]) -> None:
        self._loop_conditions.append(0)
        self.block(body)
        self.record.condition(-self._loop_conditions.pop())

    def _do_while(self, node: ast.While) -> str:
        self.record.copy(len(node.body))
        times = self._counted(node)
        if truth(self.value(node.test)) is not False:
            with self.record.repeated(times or 1, known=times is not None):
                self._loop_body(node.body)
        return self.block(node.orelse)

    def _counted(self, node: ast.While) -> int | None:
        """How often it runs, where a name counts from one known number to another."""
        found = counted(node)
        if found is None:
            return None
        name, end, step = found
        ends = [integer(self.lookup(name)), integer(self.value(end))]
        if ends[0] is None or ends[1] is None:
            return None
        return max(0, -(-(ends[1] - ends[0]) // step))

    def rounds(self, node: ast.expr) -> Loop:
        """Of a range the middle stands for its numbers, and a short one for itself."""
        if (
            not isinstance(node, ast.Call)
            or not isinstance(node.func, ast.Name | ast.Attribute)
            or not node.args
        ):
            return super().rounds(node)
        function = self.value(node.func)
        name = function.path if isinstance(function, Ref) else ""
        if name == "builtins.enumerate":
            return numbered(self.rounds(node.args[0]))
        if name == "builtins.zip":
            return paired([self.rounds(one) for one in node.args])
        if name.rsplit(".", 1)[-1] in ("tqdm", "trange", "track"):
            return self.rounds(node.args[0])
        if name != "builtins.range":
            return super().rounds(node)
        value = self.value(node)
        if not isinstance(value, Lists):
            return self.rounds_of(value)
        ends = [integer(self.value(one)) or 0 for one in node.args[:2]]
        return Loop(value.shape[0], Const(sum(ends) // 2 if len(ends) > 1 else ends[0] // 2))

    def _do_with(self, node: ast.With | ast.AsyncWith) -> str:
        for one in node.items:
            value = self.value(one.context_expr)
            if one.optional_vars is not None:
                self.bind(one.optional_vars, value)
        return self.block(node.body)

    _do_asyncwith = _do_with

    def _do_try(self, node: ast.Try) -> str:
        recovers = any(
            not raises(handler.body) and not reports(handler, self._is_own) for handler in node.handlers
        )
        before = dict(self.scope.names)
        self.record.copy(4 * len(before) * (1 + len(node.handlers)))
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

    def _is_own(self, name: str) -> bool:
        return isinstance(self.lookup(name), Function | Kind | Instance | Layer)

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

    def _do_raise(self, node: ast.Raise) -> str:
        self.value(node.exc)
        return "raise"

    def _do_break(self, node: ast.stmt) -> str:
        return "loop"

    _do_continue = _do_break

    def _do_global(self, node: ast.Global) -> None:
        self.record.copy(len(node.names))
        self.scope.globals.update(node.names)


def _joined(states: Sequence[dict[str, Value]]) -> dict[str, Value]:
    if len(states) == 1:
        return states[0]
    found: dict[str, Value] = {}
    for name in dict.fromkeys(name for state in states for name in state):
        values = [state.get(name) for state in states]
        found[name] = values[0] if all(one is values[0] for one in values) else join(*values)
    return found
