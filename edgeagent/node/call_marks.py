"""What is learned of a call while it runs, for its reply, and for those who choose where its kernels go."""

from __future__ import annotations

from typing import Literal

__all__ = ["CallMarks", "carry_marks", "marks_of"]


class CallMarks:
    """``backend``: "gpu" once a GPU has answered a kernel of it; ``kernels``: by name, calls that were answered, and
    the milliseconds that the guest waited for them.
    """

    __slots__ = ("backend", "kernels")

    def __init__(self) -> None:
        self.backend: Literal["cpu", "gpu"] = "cpu"
        self.kernels: dict[str, tuple[int, float]] = {}

    def answered(self, kernel: str, backend: Literal["cpu", "gpu"], ms: float) -> None:
        """A kernel call was answered."""
        if backend == "gpu":
            self.backend = "gpu"
        calls, before_ms = self.kernels.get(kernel, (0, 0.0))
        self.kernels[kernel] = calls + 1, before_ms + ms


def carry_marks(session: object, marks: CallMarks) -> None:
    """A session of state carries them along."""
    session.marks = marks  # type: ignore[attr-defined]


def marks_of(context: object) -> CallMarks | None:
    """Of an ask's context: the marks themselves, or a session of state that carries them."""
    marks = getattr(context, "marks", context)
    return marks if isinstance(marks, CallMarks) else None
