"""What commands print: one JSON object, or text for a person."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from edgeagent.model.errors import EdgeError

__all__ = ["Failed", "drop_output", "fail", "print_json", "table"]


class Failed(Exception):
    """A problem document that a daemon sent."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or "failed"))
        self.problem = problem


def drop_output() -> None:
    """What is still buffered goes nowhere, so that the interpreter's end does not stumble over it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(document: Any) -> None:
    print(json.dumps(document, indent=None, default=str))


def fail(error: EdgeError | Failed, *, as_json: bool, code: int) -> int:
    """Report a typed error and return the exit code."""
    problem = error.problem if isinstance(error, Failed) else error.problem()
    if as_json:
        print_json({"ok": False, "problem": problem})
        return code
    print(f"edgeagent: {problem.get('detail')}", file=sys.stderr)
    for name in ("exit_code", "code", "stderr"):
        if problem.get(name) not in (None, ""):
            print(f"  {name}: {problem[name]}", file=sys.stderr)
    for item in problem.get("unknown_imports") or ():
        print(f"  not offered: {item['module']}.{item['name']}", file=sys.stderr)
    for frame in problem.get("backtrace") or ():
        print(f"    at {frame}", file=sys.stderr)
    if problem.get("hint"):
        print(f"  {problem['hint']}", file=sys.stderr)
    return code


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Plain columns; numbers to the right."""
    lines = [list(head), *[[str(cell) for cell in row] for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    right = [bool(rows) and all(isinstance(row[i], int | float) for row in rows) for i in range(len(head))]
    shown = []
    for line in lines:
        cells = [
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(line, widths, right, strict=True)
        ]
        shown.append("  ".join(cells).rstrip())
    return "\n".join(shown)
