"""What is seen while a Python program is read: libraries, devices, work, and on which paths."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from edgeagent.accel.python_values import Kind
from edgeagent.model.function import Evidence

__all__ = ["Record", "StepsSpent", "Work"]

_SEEN_MAX = 200
_REPEATS_MAX = 1e12


class StepsSpent(Exception):
    """The program is larger than what is read of one."""


class Work(msgspec.Struct):
    flops: float = 0.0


class Record:
    """Work counts the dearest path; ``is_conditional`` holds where only some paths lead."""

    def __init__(self, steps_max: int) -> None:
        self.libraries: dict[str, Evidence] = {}
        self.devices: list[Evidence] = []
        self.maybe_devices: list[Evidence] = []
        self.works: dict[tuple[str, str], float] = {}
        self.unknowns: list[Evidence] = []
        self.dynamic: list[Evidence] = []
        self.missing: list[Evidence] = []
        # Which of the program's modules is followed; "" for the program itself.
        self.file = ""
        self.kinds: list[Kind] = []
        self.total = Work()
        self.deepest_loop = 0
        # Some work is in a loop that runs nobody knows how often.
        self.is_open = False
        self._open_loops = 0
        self._left = steps_max
        self._conditions = 0
        # Devices that are asked for wherever the branch that is followed leads, and how many conditions that is.
        self._asked: list[Evidence] = self.devices
        self._floor = 0
        self._factor = 1.0
        self._loops = 0

    @property
    def is_conditional(self) -> bool:
        return self._conditions > 0

    def step(self) -> None:
        """Raises StepsSpent."""
        self._left -= 1
        if self._left < 0:
            raise StepsSpent

    def copy(self, items: int) -> None:
        """So many are copied or looked at all at once, which takes far less than a step each. Raises StepsSpent."""
        self._left -= items // 32
        self.step()

    @contextmanager
    def conditional(self, *, on: bool = True) -> Iterator[None]:
        self._conditions += on
        try:
            yield
        finally:
            self._conditions -= on

    def condition(self, by: int) -> None:
        """From here on (1), or no more (-1)."""
        self._conditions += by

    @contextmanager
    def branch(self) -> Iterator[list[Evidence]]:
        """One of several ways; gives what it surely asks for. They are ``settled`` together."""
        asked: list[Evidence] = []
        outer = (self._asked, self._floor)
        self._asked, self._floor = asked, self._conditions
        try:
            yield asked
        finally:
            self._asked, self._floor = outer

    def settle(self, ways: Sequence[list[Evidence]]) -> bool:
        """Of ways that go on, what each asks for is asked for whichever is taken."""
        surely = bool(ways) and all(ways)
        for one in (evidence for way in ways for evidence in way):
            self._keep(one, sure=surely)
        return surely

    @property
    def loops(self) -> int:
        """How deep in loops this is."""
        return self._loops

    @property
    def left(self) -> int:
        """How many steps there are."""
        return self._left

    @contextmanager
    def repeated(self, times: float, *, known: bool = True, is_loop: bool = True) -> Iterator[None]:
        """A loop; ``known`` = False: it runs an unknown number of times, at least the given one."""
        before = self._factor
        self._factor = min(self._factor * times, _REPEATS_MAX)
        self._loops += is_loop
        self._open_loops += not known
        self.deepest_loop = max(self.deepest_loop, self._loops)
        try:
            yield
        finally:
            self._factor = before
            self._loops -= is_loop
            self._open_loops -= not known

    @contextmanager
    def aside(self) -> Iterator[Work]:
        """Work in here is counted on its own."""
        outer, self.total = self.total, Work()
        try:
            yield self.total
        finally:
            self.total = outer

    def forget_work(self) -> None:
        """What was counted until now does not matter."""
        self.total.flops = 0.0
        self.works.clear()
        self.unknowns.clear()
        self.is_open = False

    def add(self, flops: float) -> None:
        """Work that was counted aside."""
        self.total.flops += flops

    def work(self, node: ast.AST, what: str, flops: float) -> None:
        self.total.flops += flops * self._factor
        self.is_open = self.is_open or self._open_loops > 0
        key = (self._where(node), what)
        if key in self.works or len(self.works) < _SEEN_MAX:
            self.works[key] = self.works.get(key, 0.0) + flops * self._factor

    def unknown(self, node: ast.AST) -> None:
        if len(self.unknowns) < _SEEN_MAX:
            self.unknowns.append(
                Evidence("work that depends on sizes that are not written out", self._where(node))
            )

    def library(self, node: ast.AST, name: str) -> None:
        self.libraries.setdefault(name, Evidence(f"imports {name}", self._where(node)))

    def device(self, node: ast.AST, what: str, *, sure: bool) -> None:
        self._keep(Evidence(f"{what} asks for a GPU", self._where(node)), sure=sure)

    def _keep(self, asked: Evidence, *, sure: bool) -> None:
        if sure and self._conditions == self._floor:
            where = self._asked
        else:
            where = self.maybe_devices
            asked = Evidence(f"{asked.evidence} on some paths", asked.where)
        if len(where) < _SEEN_MAX:
            where.append(asked)

    def dynamic_import(self, node: ast.AST) -> None:
        if len(self.dynamic) < _SEEN_MAX:
            self.dynamic.append(
                Evidence("imports a module whose name is made at run time", self._where(node))
            )

    def unread(self, node: ast.AST, name: str) -> None:
        """A module of the program's own that is not there to be read."""
        if len(self.missing) < _SEEN_MAX:
            self.missing.append(Evidence(f"imports {name}, which is not read", self._where(node)))

    def _where(self, node: ast.AST) -> str:
        line = f"line {getattr(node, 'lineno', 0)}"
        return f"{self.file} {line}" if self.file else line
