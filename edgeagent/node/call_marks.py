"""What is learned of a call while it runs, for its reply, and for those who choose where its kernels go."""

from __future__ import annotations

import time
from typing import Literal

__all__ = ["CallMarks", "carry_marks", "marks_of"]


class CallMarks:
    """``backend``: "gpu" once a GPU has answered a kernel of it; ``kernels``: by name, calls that were answered, and
    the milliseconds that the guest waited for them. ``core_ms`` and ``gpu_ms`` are what cores and the GPU worked for
    these, of ``waited_ms`` in all. ``deadline_s`` is its caller's, on the monotonic clock; 0: none.
    """

    __slots__ = ("backend", "begun_s", "core_ms", "deadline_s", "gpu_ms", "kernels", "waited_ms")

    def __init__(self, deadline_s: float = 0.0) -> None:
        self.begun_s, self.deadline_s = time.monotonic(), deadline_s
        self.backend: Literal["cpu", "gpu"] = "cpu"
        self.kernels: dict[str, tuple[int, float]] = {}
        self.waited_ms = self.core_ms = self.gpu_ms = 0.0

    def answered(self, kernel: str, backend: Literal["cpu", "gpu"], ms: float, worked_ms: float) -> None:
        """A kernel call was answered after ``ms``; the cores, or the GPU, worked for ``worked_ms`` in all."""
        self.waited_ms += ms
        if backend == "gpu":
            self.backend = "gpu"
            self.gpu_ms += worked_ms
        else:
            self.core_ms += worked_ms
        calls, before_ms = self.kernels.get(kernel, (0, 0.0))
        self.kernels[kernel] = calls + 1, before_ms + ms

    def until_s(self, wall_ms: float) -> float:
        """When it ends at the latest, on the monotonic clock, where its function may run for so long."""
        until_s = self.begun_s + wall_ms / 1000
        return min(until_s, self.deadline_s) if self.deadline_s else until_s


def carry_marks(session: object, marks: CallMarks) -> None:
    """A session of state carries them along."""
    session.marks = marks  # type: ignore[attr-defined]


def marks_of(context: object) -> CallMarks | None:
    """Of an ask's context: the marks themselves, or a session of state that carries them."""
    marks = getattr(context, "marks", context)
    return marks if isinstance(marks, CallMarks) else None
