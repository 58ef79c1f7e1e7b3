"""Imports of a Python program that is read and not run: of libraries, and of the program's own modules beside it."""

from __future__ import annotations

import ast
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeAlias

from edgeagent.accel.modes import PYTHON_BYTES_MAX
from edgeagent.accel.python_calls import Calls
from edgeagent.accel.python_names import array_library
from edgeagent.accel.python_record import Record
from edgeagent.accel.python_values import Const, Module, Ref, Scope, Value

__all__ = ["Beside", "Modules", "parse", "parsed"]

# From "helpers.py" or "package/helpers.py" to what it holds; None: there is no such file.
Beside: TypeAlias = Callable[[str], bytes | None]
_MODULES_MAX = 32
# How deeply one imports another.
_IMPORTS_MAX = 8


def parse(source: bytes | str) -> ast.Module:
    """Raises SyntaxError, ValueError, RecursionError or MemoryError for what is no Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the program's own: an invalid escape
        return ast.parse(source)


def parsed(source: bytes | str) -> ast.Module | None:
    """None: it is no Python."""
    try:
        return parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


class Modules(Calls, ABC):
    """Following a module's body is the subclass's."""

    def __init__(self, record: Record, beside: Beside | None) -> None:
        super().__init__(record)
        self._beside = beside
        # By their paths; None: there is none, or it is no Python.
        self._modules: dict[str, Module | None] = {}
        self._read = 0
        self._depth = 0

    @abstractmethod
    def block(self, body: Sequence[ast.stmt]) -> str: ...

    def _do_import(self, node: ast.Import) -> None:
        for one in node.names:
            own = self._own(one.name) if array_library(one.name) is None else None
            if own is not None:
                made = own if one.asname else self._rooted(one.name, own)
                self.scope.names[one.asname or one.name.split(".")[0]] = made
                continue
            module = self.imported(one.name, node)
            root = one.name.split(".")[0]
            self.scope.names[one.asname or root] = module if one.asname else Ref(root)

    def _do_importfrom(self, node: ast.ImportFrom) -> None:
        module = "." * node.level + (node.module or "")
        own = self._own(module) if array_library(module) is None else None
        for one in node.names:
            path = f"{module}.{one.name}"
            if one.name == "*":
                self.imported(module, node)
                self._star(module, own)
                continue
            name = one.asname or one.name
            if own is not None and one.name in own.scope.names:
                self.scope.names[name] = own.scope.names[one.name]
                continue
            if (part := self._own(f"{module}.{one.name}" if node.module else path[1:])) is not None:
                self.scope.names[name] = part
                continue
            if node.level and own is None:
                self.record.unread(node, module)
            self.imported(path if node.level == 0 else module, node)
            self.scope.names[name] = Const(False) if path == "typing.TYPE_CHECKING" else Ref(path)

    def _rooted(self, name: str, own: Module) -> Module:
        """What ``import package.module`` makes known: the package, and in it the module."""
        above, _, last = name.rpartition(".")
        if not above:
            return own
        holder = self._own(above)
        if holder is None:  # a folder without a module of its own: one for all that is imported from it
            holder = self._modules[above.replace(".", "/")] = Module(Scope({}))
        holder.scope.names[last] = own
        return self._rooted(above, holder)

    def _star(self, module: str, own: Module | None) -> None:
        if own is None:
            self.scope.stars.append(module)
            return
        public: dict[str, Value] = {
            name: value for name, value in own.scope.names.items() if not name.startswith("_")
        }
        self.record.copy(4 * len(own.scope.names))
        self.scope.names.update(public)

    def _own(self, name: str) -> Module | None:
        """A module of the program's own, followed once; from its folder on, however many dots there are."""
        path = name.lstrip(".").replace(".", "/")
        if self._beside is None or not path:
            return None
        if path in self._modules:
            return self._modules[path]
        if self._read >= _MODULES_MAX or self._depth >= _IMPORTS_MAX:
            return None
        self._modules[path] = None
        for file in (f"{path}.py", f"{path}/__init__.py"):
            source = self._beside(file)
            if source is not None and len(source) <= PYTHON_BYTES_MAX:
                self._read += 1
                return self._followed(path, file, source)
        return None

    def _followed(self, path: str, file: str, source: bytes) -> Module | None:
        if (tree := parsed(source)) is None:
            return None
        made = self._modules[path] = Module(Scope({"__name__": Const(path)}, file=file))
        outer = (self.scope, self.module, self.record.file)
        self.scope = self.module = made.scope
        self.record.file = file
        self._depth += 1
        try:
            self.block(tree.body)
        finally:
            self._depth -= 1
            self.scope, self.module, self.record.file = outer
        return made
