"""What is learned of a call while it runs, for its reply."""

from __future__ import annotations

from typing import Literal

__all__ = ["CallMarks", "carry_marks", "marks_of"]


class CallMarks:
    """``backend``: "gpu" once a GPU has answered a kernel of it."""

    __slots__ = ("backend",)

    def __init__(self) -> None:
        self.backend: Literal["cpu", "gpu"] = "cpu"


def carry_marks(session: object, marks: CallMarks) -> None:
    """A session of state carries them along."""
    session.marks = marks  # type: ignore[attr-defined]


def marks_of(context: object) -> CallMarks | None:
    """Of an ask's context: the marks themselves, or a session of state that carries them."""
    marks = getattr(context, "marks", context)
    return marks if isinstance(marks, CallMarks) else None
