"""A :class:`WorkflowPort` in memory: runs go on when the test says so."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Sequence

import msgspec

from edgeagent.model.errors import Conflict, NotFound
from edgeagent.model.workflow import Workflow
from edgeagent.node.workflow_views import RunEvent, RunState, RunView, StepView

__all__ = ["WorkflowDouble"]


class WorkflowDouble:
    """``following`` counts the event streams that are open, ``started`` the calls of ``start``."""

    def __init__(self) -> None:
        self.workflows: dict[str, Workflow] = {}
        self.views: dict[str, RunView] = {}
        self.outputs: dict[str, bytes] = {}
        self.told: dict[str, builtins.list[RunEvent]] = {}
        self.started: builtins.list[tuple[str, bytes, float, str | None]] = []
        self.following = 0
        self._changed = asyncio.Condition()

    async def tell(
        self,
        run_id: str,
        state: RunState,
        *,
        output: bytes | None = None,
        problem: dict[str, object] | None = None,
    ) -> None:
        """One event more, and the view as it is then."""
        async with self._changed:
            size = None if output is None else len(output)
            self.views[run_id] = msgspec.structs.replace(
                self.views[run_id], state=state, output_bytes=size, problem=problem
            )
            if output is not None:
                self.outputs[run_id] = output
            events = self.told[run_id]
            events.append(RunEvent(len(events) + 1, "state", {"state": state}))
            self._changed.notify_all()

    async def deploy(self, name: str, workflow: Workflow) -> bool:
        is_new = name not in self.workflows
        self.workflows[name] = workflow
        return is_new

    def get(self, name: str) -> Workflow:
        if name not in self.workflows:
            raise NotFound(f"no workflow {name!r}")
        return self.workflows[name]

    async def find(self, name: str) -> Workflow:
        return self.get(name)

    def list(self) -> Sequence[Workflow]:
        return [self.workflows[name] for name in sorted(self.workflows)]

    async def undeploy(self, name: str) -> None:
        self.get(name)
        del self.workflows[name]

    async def start(
        self, name: str, body: bytes, *, deadline_ms: float, key: str | None, traceparent: str
    ) -> str:
        run_id = f"run-{len(self.started)}"
        self.started.append((name, body, deadline_ms, key))
        self.views[run_id] = RunView(
            id=run_id,
            workflow=name,
            state="running",
            created_at="2026-11-29T05:00:00Z",
            steps=(StepView(name="a", function="f", why="near “here”"),),
            decisions=({"event": "planned"},),
        )
        self.told[run_id] = []
        await self.tell(run_id, "running")
        return run_id

    async def finished(self, run_id: str) -> RunView:
        async with self._changed:
            await self._changed.wait_for(lambda: self.views[run_id].state != "running")
        return self.views[run_id]

    async def view(self, run_id: str) -> RunView:
        if run_id not in self.views:
            raise NotFound(f"no run {run_id!r}")
        return self.views[run_id]

    async def runs(self, limit: int, workflow: str | None) -> Sequence[RunView]:
        found = [one for one in self.views.values() if workflow in (None, one.workflow)]
        return found[::-1][:limit]

    async def output(self, run_id: str) -> bytes:
        if run_id not in self.outputs:
            raise Conflict("no output")
        return self.outputs[run_id]

    async def events(self, run_id: str, after: int) -> AsyncIterator[RunEvent]:
        self.following += 1
        try:
            while True:
                for event in self.told[run_id][after:]:
                    after = event.seq
                    yield event
                if self.views[run_id].state != "running":
                    return
                async with self._changed:
                    await self._changed.wait_for(lambda: len(self.told[run_id]) > after)  # noqa: B023 - only waited for
        finally:
            self.following -= 1
