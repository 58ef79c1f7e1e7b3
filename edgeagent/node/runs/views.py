"""Runs as the outside sees them. Pure."""

from __future__ import annotations

import datetime

from edgeagent.node.runs.record import RunRecord, StepRecord
from edgeagent.node.runs.spending import spent_usd
from edgeagent.node.workflow_views import RunView, StepView

__all__ = ["run_view", "step_view"]


def _utc(milliseconds: int) -> str:
    if not milliseconds:
        return ""
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def step_view(step: StepRecord) -> StepView:
    """How a step stands."""
    return StepView(
        name=step.name,
        function=step.function,
        state=step.state,
        node=step.node,
        why=step.why,
        backend=step.backend,
        hose=step.hose,
        cold=step.cold,
        attempts=step.attempts,
        duration_ms=step.duration_ms,
        predicted_ms=step.predicted_ms,
        measured_ms=step.measured_ms,
        bytes_in=step.bytes_in or 0,
        bytes_out=step.bytes_out or 0,
        cost_usd=step.cost_usd,
        energy_j=step.energy_j,
        problem=step.problem,
    )


def run_view(record: RunRecord) -> RunView:
    """The newest of a run that is known here."""
    return RunView(
        id=record.id,
        workflow=record.workflow,
        state=record.state,
        created_at=_utc(record.created_ms),
        finished_at=_utc(record.finished_ms),
        origin=record.origin,
        holder=record.holder,
        epoch=record.epoch,
        deadline_ms=float(record.deadline_ms - record.created_ms),
        steps=tuple(map(step_view, record.steps)),
        decisions=tuple(record.decisions),
        problem=record.problem,
        cost_usd=spent_usd(record),
        energy_j=sum(step.energy_j for step in record.steps),
        output_bytes=None if record.output is None else record.output.size,
    )
