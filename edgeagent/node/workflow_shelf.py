"""The workflows that are deployed at a node, on its disk and at hand."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from edgeagent.model.errors import NotFound, Unavailable
from edgeagent.model.workflow import Workflow
from edgeagent.node.elsewhere import Elsewhere
from edgeagent.state.workflows import WorkflowRows

__all__ = ["WORKFLOWS_MAX", "WorkflowShelf"]

WORKFLOWS_MAX = 1000


class WorkflowShelf:
    """On the event loop's thread."""

    def __init__(self, rows: WorkflowRows, elsewhere: Elsewhere) -> None:
        self._rows = rows
        self._elsewhere = elsewhere
        self._workflows: dict[str, Workflow] = {}

    async def start_up(self) -> None:
        for workflow in await self._rows.all():
            self._workflows[workflow.workflow.name] = workflow

    async def deploy(self, name: str, workflow: Workflow) -> bool:
        """Durable when it returns; whether there was none of this name. Raises Unavailable, StorageFull."""
        if name not in self._workflows and len(self._workflows) >= WORKFLOWS_MAX:
            raise Unavailable(f"{len(self._workflows)} workflows are deployed", hint="undeploy one")
        is_new = name not in self._workflows
        await self._rows.put(workflow)
        self._workflows[name] = workflow
        return is_new

    def get(self, name: str) -> Workflow:
        """Raises NotFound."""
        found = self._workflows.get(name)
        if found is None:
            raise NotFound(
                f"no workflow is called {name[:80]!r} here",
                hint="edgeagent workflow list shows what is deployed",
            )
        return found

    async def find(self, name: str) -> Workflow:
        """One that is deployed here, or at another member. Raises NotFound."""
        found = self._workflows.get(name)
        return await self._elsewhere.find_workflow(name) if found is None else found

    def list(self) -> Sequence[Workflow]:
        """By name."""
        return [self._workflows[name] for name in sorted(self._workflows)]

    def names(self) -> builtins.list[str]:
        return sorted(self._workflows)

    async def undeploy(self, name: str) -> None:
        """Raises NotFound."""
        self.get(name)
        await self._rows.delete(name)
        del self._workflows[name]
