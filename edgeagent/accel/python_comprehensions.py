"""Comprehensions of a Python program that is read and not run."""

from __future__ import annotations

import ast

from edgeagent.accel.python_expressions import Expressions
from edgeagent.accel.python_loops import ITEMS_MAX, STEPS_SHARE, Loop, rounds_of
from edgeagent.accel.python_values import Array, Lists, Scope, Sequence, Table, Value, shape_of, truth

__all__ = ["Comprehensions"]


class Comprehensions(Expressions):
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
        outer, factor = self.scope, 1
        self.scope = Scope({}, outer)
        try:
            sizes: list[int | None] = []
            for one in generators:
                loop = self.rounds(one.iter)
                if loop.items and len(generators) == 1:
                    return self._written_out(one, loop.items, elements)
                self.bind(one.target, loop.item)
                for test in one.ifs:
                    self.value(test)
                sizes.append(loop.times)
                factor *= loop.times or 1
            with self.record.repeated(factor, known=None not in sizes):
                found = [self.value(one) for one in elements]
        finally:
            self.scope = outer
        return self._several(found[0], None if None in sizes else factor) if len(sizes) == 1 else None

    def _written_out(
        self, generator: ast.comprehension, items: tuple[Value, ...], elements: list[ast.expr]
    ) -> Value:
        """One item after the other, as far as the steps allow; the last one stands for the rest."""
        found: list[Value] = []
        for place, item in enumerate(items):
            before, is_last = self.record.left, place == len(items) - 1
            self.bind(generator.target, item)
            tests = [truth(self.value(test)) for test in generator.ifs]
            if False in tests:
                continue
            values = [self.value(one) for one in elements]
            found.append(values[0])
            used = before - self.record.left
            if not is_last and used * (len(items) - place - 1) > self.record.left // STEPS_SHARE:
                with self.record.repeated(len(items) - place - 1):
                    values = [self.value(one) for one in elements]
                found += values[:1] * (len(items) - place - 1)
                break
        return Sequence(tuple(found))

    def _several(self, value: Value, times: int | None) -> Value:
        """A list of so many like this one."""
        inner = shape_of(value)
        if inner is not None and not isinstance(value, Array):
            return Lists((times or None, *inner))
        if times is None or times > ITEMS_MAX:
            return Lists((times, *inner)) if inner is not None else None
        return self.listed((value,), times)

    def rounds(self, node: ast.expr) -> Loop:
        """What a loop over it runs through."""
        return self.rounds_of(self.value(node))

    def rounds_of(self, value: Value) -> Loop:
        if isinstance(value, Sequence | Table):
            self.record.copy(4 * len(value.items))
        return rounds_of(value)
