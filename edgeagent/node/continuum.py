"""What makes one computer of the nodes: placement, reservations, forwarding and workflows, put together for a node."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from edgeagent.cost.estimates import Estimates
from edgeagent.model.workflow import Workflow
from edgeagent.node.config_schema import Config
from edgeagent.node.elsewhere import Elsewhere
from edgeagent.node.forwarder import Forwarder
from edgeagent.node.function_fetch import FunctionFetch
from edgeagent.node.meters import Meters
from edgeagent.node.placer import Placer
from edgeagent.node.reservation_desk import ReservationDesk
from edgeagent.node.runs.driver import Driver
from edgeagent.node.runs.function_ref import ref_of
from edgeagent.node.runs.record import DataRef, RunRecord, StepRecord
from edgeagent.node.runs.store import RunStore
from edgeagent.node.ties import Parts, Ties
from edgeagent.node.triggers import Triggers
from edgeagent.node.workflows import Workflows
from edgeagent.state.blobs import Blobs
from edgeagent.state.runs import RunRows
from edgeagent.state.store import Store
from edgeagent.state.workflows import WorkflowRows

__all__ = ["Continuum"]

_SWEEP_EVERY_S = 300.0


class Continuum:
    """On the event loop's thread."""

    def __init__(self, config: Config, store: Store, fetch: FunctionFetch, parts: Parts) -> None:
        settings, membership, invoker = config.placement, parts.membership, parts.invoker
        self._node_id = parts.node_id
        self._functions = parts.functions
        self._sweep_s = time.monotonic() + _SWEEP_EVERY_S  # not in the rush of the start
        self.placer = Placer(membership, parts.node_id, forward=settings.forward)
        self.desk = ReservationDesk(settings, parts, fetch, epoch=int(time.time() * 1000))
        self.forwarder = Forwarder(parts, self.desk, tries_max=settings.tries_max)
        self.estimates = Estimates()
        ties = Ties(
            node_id=parts.node_id,
            functions=parts.functions,
            invoker=invoker,
            membership=membership,
            remote=parts.remote,
            placer=self.placer,
            forwarder=self.forwarder,
            estimates=self.estimates,
            state=parts.state,
        )
        self.elsewhere = Elsewhere(ties)
        data = Blobs(Path(config.node.state_dir) / "runs", settings.run_bytes_max)
        runs = RunStore(RunRows(store, settings.runs_max), data)
        self.workflows = Workflows(
            settings, ties, self.desk, self.elsewhere, rows=WorkflowRows(store), store=runs
        )
        self.triggers = Triggers(self.workflows, membership)
        parts.remote.members(membership.url_of)
        membership.busy_share = lambda: min(1.0, invoker.active / max(1, parts.workers))
        invoker.anywhere, invoker.known = self.elsewhere.run, self._known
        self._gauges(parts.meters, data)

    async def _known(self, name: str) -> None:
        """Raises NotFound."""
        if self._functions.find(name) is None:
            await self.elsewhere.find(name)

    async def start(self) -> None:
        """Once the mesh is joined: take up what had not ended."""
        await self.workflows.start_up()
        self.triggers.start()

    async def stop(self) -> None:
        """Idempotent."""
        await self.triggers.stop()
        await self.workflows.stop()
        await asyncio.to_thread(self.placer.close)

    async def sweep(self) -> None:
        """Now and then: forget runs that ended long ago."""
        if time.monotonic() < self._sweep_s:
            return
        self._sweep_s = time.monotonic() + _SWEEP_EVERY_S
        await self.workflows.sweep()

    async def explain(self, function: str, workflow: str, bytes_in: int, at: str) -> dict[str, Any]:
        """``/v1/placement``. Raises NotFound, BadRequest."""
        if function:
            return await self.elsewhere.explain(function, bytes_in, at)
        return await self.explain_spec(await self.workflows.find(workflow), bytes_in, at)

    async def explain_spec(self, spec: Workflow, bytes_in: int, at: str) -> dict[str, Any]:
        """For a workflow that need not be deployed. Raises as ``explain`` does."""
        refs = {}
        for step in spec.step:
            found = self._functions.find(step.function)
            refs[step.function] = ref_of(found) if found else (await self.elsewhere.find(step.function))[0]
        record = RunRecord(
            id="",
            spec=spec,
            functions=refs,
            origin=self._node_id,
            holder=self._node_id,
            created_ms=0,
            deadline_ms=0,
            input=DataRef("", bytes_in),
            steps=[StepRecord(name=step.name, function=step.function) for step in spec.step],
        )
        asks = Driver.asks_of(record, self.estimates)
        return {"workflow": spec.workflow.name, **await self.elsewhere.told(asks, self.placer.time_of(at))}

    def view(self) -> dict[str, Any]:
        """For ``/v1/node``."""
        return {
            "reservations": self.desk.held,
            "reservations_refused": self.desk.refused,
            "runs_held": self.workflows.held,
            "workflows": len(self.workflows.list()),
        }

    def _gauges(self, meters: Meters, data: Blobs) -> None:
        for name, doc, read in (
            ("reservations", "reservations that nobody has begun", lambda: self.desk.held),
            ("runs_held", "runs of workflows that this node holds", lambda: self.workflows.held),
            ("run_bytes", "inputs and outputs of runs on the disk", data.usage_bytes),
        ):
            meters.gauge(name, doc, read)
        meters.counter("reservations_refused", "calls that were not admitted", lambda: self.desk.refused)
