"""Why a node takes no calls for now: what ``/readyz`` says."""

from __future__ import annotations

from typing import Protocol

__all__ = ["why_not_ready"]


class _Database(Protocol):
    @property
    def failed(self) -> Exception | None: ...

    @property
    def read_only(self) -> bool: ...

    @property
    def full(self) -> bool: ...


def why_not_ready(draining: bool, node: _Database, state: _Database) -> list[str]:
    """``node`` holds functions, invocations and runs, ``state`` what functions keep; what ails one hides the rest."""
    reasons = ["draining"] if draining else []
    if node.failed is not None:
        reasons.append(f"the state database is out of order: {node.failed}")
    elif node.read_only:
        reasons.append("the file system of the state directory is read-only")
    elif node.full:
        reasons.append("the disk under the state directory is full: undeploy functions, or free space")
    if state.failed is not None:
        reasons.append(f"the state of functions is out of order: {state.failed}")
    elif not reasons and (state.read_only or state.full):
        what = "read-only" if state.read_only else "full"
        reasons.append(f"the file system of the state of functions is {what}")
    return reasons
