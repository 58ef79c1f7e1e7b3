"""The execution mode of Python source, by its syntax tree: nothing of it is imported or run."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from edgeagent.accel.modes import CROSSOVER_FLOPS, PYTHON_BYTES_MAX, Findings
from edgeagent.accel.python_functions import decorated_as_entry
from edgeagent.accel.python_modules import Beside, parse
from edgeagent.accel.python_names import ENTRY_NAMES, array_library
from edgeagent.accel.python_record import Record, StepsSpent
from edgeagent.accel.python_values import Const, Function, Instance, Kind
from edgeagent.accel.python_walk import Walker
from edgeagent.model.errors import SourceRefused
from edgeagent.model.function import Evidence

__all__ = ["scan_python"]

STEPS_MAX = 100_000


def scan_python(source: bytes, steps_max: int = STEPS_MAX, beside: Beside | None = None) -> Findings:
    """``beside`` gives the program's other modules. Raises SourceRefused for what is no Python."""
    if len(source) > PYTHON_BYTES_MAX:
        raise SourceRefused(f"{len(source)} bytes of Python; at most {PYTHON_BYTES_MAX} are read")
    tree = _parse(source)
    record = Record(steps_max)
    found = Findings(kind="python source")
    try:
        flops, found.doubtful = _follow(tree, record, beside)
    except (StepsSpent, RecursionError, OverflowError):
        flops, found.whole = record.total.flops, False
        _flat_imports(tree, record)
        text = f"too large to follow to its end ({steps_max} steps, or too deeply nested)"
        found.advice.append(Evidence(text, "source"))
    _tell(record, flops, found)
    return found


def _parse(source: bytes) -> ast.Module:
    try:
        return parse(source)
    except SyntaxError as error:
        raise SourceRefused(f"not Python: {error.msg} (line {error.lineno or 0})") from None
    except (ValueError, RecursionError, MemoryError) as error:  # a zero byte; nested too deeply
        raise SourceRefused(f"not Python that can be read: {str(error) or type(error).__name__}") from None


def _tell(record: Record, flops: float, found: Findings) -> None:
    found.capable = list(record.libraries.values())
    if found.capable:
        found.device = record.devices
        found.advice += record.maybe_devices
    ranked = sorted(record.works.items(), key=lambda item: -item[1])
    found.work = [Evidence(what, where) for (where, what), _ in ranked]
    if record.unknowns:
        found.advice.append(record.unknowns[0])
    if record.dynamic:
        found.advice += record.dynamic
        found.doubtful = True
    if record.missing:
        found.advice += record.missing
        found.doubtful = True
    if record.deepest_loop > 1:
        found.advice.append(Evidence(f"loops nested {record.deepest_loop} deep", "source"))
    exact = record.works and not record.unknowns and not record.is_open and found.whole
    if flops >= CROSSOVER_FLOPS or exact:
        found.work_flops = flops


def _follow(tree: ast.Module, record: Record, beside: Beside | None) -> tuple[float, bool]:
    """The work of a call, and whether it was a guess what is called."""
    walker = Walker(record, beside)
    named = {one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    has_handler = bool(named & (ENTRY_NAMES - {"main"}))
    # What only a program's own start runs is not run where a handler is called instead.
    walker.module.names["__name__"] = Const("function" if has_handler else "__main__")
    walker.block(tree.body)
    entries, guessed = _entries(tree, walker)
    if entries and not guessed:
        record.forget_work()  # of the program's start: a call does not pay for it
    works = [0.0]
    for entry in entries:
        with record.aside() as work:
            _enter(walker, entry)
        works.append(work.flops)
    with record.conditional(), record.aside():
        for function in walker.escaped:  # the list may grow meanwhile
            if id(function.node) not in walker.ran:
                walker.call_function(function, [], {})
    return record.total.flops + max(works), guessed


def _entries(tree: ast.Module, walker: Walker) -> tuple[list[Function | Kind], bool]:
    tops = {name: one for name, one in walker.module.names.items() if isinstance(one, Function | Kind)}
    fresh = {
        name: one
        for name, one in tops.items()
        if isinstance(one, Function) and id(one.node) not in walker.ran and not _is_kernel(one)
    }
    known: list[Function | Kind] = [
        one for name, one in fresh.items() if name in ENTRY_NAMES or decorated_as_entry(one)
    ]
    if known:
        return known, False
    if walker.ran:
        # It only made something ready, or it has done all that it is for.
        waiting = [] if _is_script(tree, tops) else _uncalled(tree, fresh)
        return waiting, bool(waiting)
    kinds = [one for one in tops.values() if isinstance(one, Kind)]
    handlers: list[Function | Kind] = [one for one in kinds if set(one.methods) & ENTRY_NAMES]
    if handlers:
        return handlers, False
    public: list[Function | Kind] = [one for name, one in fresh.items() if not name.startswith("_")]
    return public or list(kinds), bool(public or kinds)


def _is_script(tree: ast.Module, own: Mapping[str, Function | Kind]) -> bool:
    """Whether the body calls a function of its own for what that does, not for what it gives."""
    stated = [one for part in tree.body for one in _statements(part) if isinstance(one, ast.Expr)]
    started = {name for name, one in own.items() if isinstance(one, Function)}
    named = {name.id for one in stated for name in ast.walk(one) if isinstance(name, ast.Name)}
    return bool(named & started or ENTRY_NAMES & started)


def _statements(node: ast.stmt) -> Iterator[ast.stmt]:
    """It, and those inside of it that run with the module."""
    yield node
    if isinstance(node, ast.If | ast.For | ast.While | ast.With | ast.Try):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                yield from _statements(child)


def _uncalled(tree: ast.Module, fresh: Mapping[str, Function]) -> list[Function | Kind]:
    """Public functions that the file itself does not name."""
    named = {one.id for one in ast.walk(tree) if isinstance(one, ast.Name)}
    return [one for name, one in fresh.items() if not name.startswith("_") and name not in named]


def _is_kernel(function: Function) -> bool:
    return any(name.endswith("cuda.jit") for name in function.decorators)


def _enter(walker: Walker, entry: Function | Kind) -> None:
    if isinstance(entry, Function):
        walker.enter(entry)
        return
    made = walker.instance(entry, [], {})
    names = set(entry.methods) & ENTRY_NAMES or {name for name in entry.methods if not name.startswith("_")}
    for name in sorted(names):
        walker.enter(entry.methods[name], made if isinstance(made, Instance) else None)


def _flat_imports(tree: ast.Module, record: Record) -> None:
    """Every import, wherever it stands: what remains where the program cannot be followed."""
    for node in ast.walk(tree):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
        for name in names:
            if (library := array_library(name)) is not None:
                record.library(node, library)
