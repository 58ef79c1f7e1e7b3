"""What the outside sees of workflows and their runs, and the port behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, Protocol

import msgspec

from edgeagent.model.workflow import Workflow

__all__ = ["EventKind", "RunEvent", "RunState", "RunView", "StepState", "StepView", "WorkflowPort"]

RunState = Literal["running", "succeeded", "failed", "timed_out"]
StepState = Literal["waiting", "placed", "running", "succeeded", "failed", "skipped"]
EventKind = Literal["step", "state", "placed", "moved"]


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """How a step stands. ``node`` is where it runs or ran ("" while unknown), ``why`` what decided that, ``hose`` the
    tier by which its input came; times are None before there are any.
    """

    name: str
    function: str
    state: StepState = "waiting"
    node: str = ""
    why: str = ""
    backend: str = ""
    hose: str = ""
    cold: bool = False
    attempts: int = 0
    duration_ms: float | None = None
    predicted_ms: float | None = None
    measured_ms: float | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    cost_usd: float = 0.0
    energy_j: float = 0.0
    problem: dict[str, Any] | None = None


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stands; ``origin`` and ``holder`` are node ids, ``problem`` is an RFC 9457 document when it failed.

    Times are UTC, ISO 8601, "" while unknown; ``output_bytes`` is None before there is an output. ``decisions`` are
    the placements in their order, as JSON objects. ``cost_usd``: of what has run, by list prices; ``energy_j``: what
    that drew over idle, an estimate.
    """

    id: str
    workflow: str
    state: RunState
    created_at: str
    finished_at: str = ""
    origin: str = ""
    holder: str = ""
    epoch: int = 0
    deadline_ms: float = 0
    steps: tuple[StepView, ...] = ()
    decisions: tuple[dict[str, Any], ...] = ()
    problem: dict[str, Any] | None = None
    cost_usd: float = 0.0
    energy_j: float = 0.0
    output_bytes: int | None = None


class RunEvent(msgspec.Struct, frozen=True):
    """A change of a run: ``seq`` counts from 1 within it; ``data`` is a JSON object.

    ``state``: ``{"state": RunState, ...}``; ``step``: a StepView; ``placed``: ``{"step", "node", "why", ...}``;
    ``moved``, the last at a node that a run has left: ``{"holder", "origin", "events"}``, the path at the origin.
    """

    seq: int
    kind: EventKind
    data: dict[str, Any]


class WorkflowPort(Protocol):
    """What the routes call. Unknown names and ids raise NotFound."""

    async def deploy(self, name: str, workflow: Workflow) -> bool:
        """Durable when it returns; whether there was none of this name."""
        ...

    def get(self, name: str) -> Workflow: ...

    async def find(self, name: str) -> Workflow:
        """Here, or at another node."""
        ...

    def list(self) -> Sequence[Workflow]:
        """By name."""
        ...

    async def undeploy(self, name: str) -> None: ...

    async def start(
        self, name: str, body: bytes, *, deadline_ms: float, key: str | None, traceparent: str
    ) -> str:
        """The id of a run that is durable, or of the earlier one with this key; ``deadline_ms`` 0: the workflow's."""
        ...

    async def finished(self, run_id: str) -> RunView:
        """Wait for its end; who leaves the wait leaves the run alone."""
        ...

    async def view(self, run_id: str) -> RunView: ...

    async def runs(self, limit: int, workflow: str | None) -> Sequence[RunView]:
        """The latest first."""
        ...

    async def output(self, run_id: str) -> bytes:
        """Raises Conflict for a run without an output."""
        ...

    def events(self, run_id: str, after: int) -> AsyncIterator[RunEvent]:
        """Those with a higher ``seq`` than ``after``, then as they come; ends behind the final state, or ``moved``."""
        ...
