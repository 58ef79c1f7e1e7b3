"""What comes next in a run: which steps are ready, skipped or lost. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgeagent.model.workflow import WorkflowStep
from edgeagent.node.runs.record import DataRef, RunRecord, StepRecord
from edgeagent.node.workflow_spec import parse_when

__all__ = ["inputs_of", "last_steps", "needed", "ready_steps", "revert_lost", "settle_skipped", "spec_of"]

_OVER = frozenset({"succeeded", "skipped"})


def spec_of(record: RunRecord, name: str) -> WorkflowStep:
    return next(one for one in record.spec.step if one.name == name)


def _before(record: RunRecord, name: str) -> list[StepRecord]:
    return [record.step(one) for one in spec_of(record, name).after]


def settle_skipped(record: RunRecord) -> list[str]:
    """Mark what is not to run: its condition is false, or all that it follows is skipped. Their names."""
    skipped: list[str] = []
    changed = True
    while changed:
        changed = False
        for step in record.steps:
            if step.state != "waiting":
                continue
            before = _before(record, step.name)
            if any(one.state not in _OVER for one in before):
                continue
            if (before and all(one.state == "skipped" for one in before)) or not _holds(record, step, before):
                step.state = "skipped"
                skipped.append(step.name)
                changed = True
    return skipped


def _holds(record: RunRecord, step: StepRecord, before: Sequence[StepRecord]) -> bool:
    text = spec_of(record, step.name).when
    if not text:
        return True
    done = [one for one in before if one.state == "succeeded"]
    count = sum(one.bytes_out or 0 for one in done) if before else record.input.size
    exit_code = done[-1].exit_code if done else 0
    items = sum(one.items if one.items is not None else 1 for one in done) if before else 1
    return parse_when(text).holds(exit=exit_code, bytes=count, items=items)


def ready_steps(record: RunRecord) -> list[StepRecord]:
    """Those that can begin now, in the order of the workflow."""
    return [
        step
        for step in record.steps
        if step.state == "waiting" and all(one.state in _OVER for one in _before(record, step.name))
    ]


def inputs_of(record: RunRecord, name: str) -> list[DataRef]:
    """What a step is given: the outputs that it follows, or the run's input for one that follows nothing."""
    before = _before(record, name)
    if not before:
        return [record.input]
    return [one.output for one in before if one.state == "succeeded" and one.output is not None]


def last_steps(record: RunRecord) -> list[StepRecord]:
    """Those that no other follows: their outputs are the run's."""
    followed = {name for one in record.spec.step for name in one.after}
    return [step for step in record.steps if step.name not in followed]


def needed(record: RunRecord) -> dict[str, DataRef]:
    """The data that the rest of the run, or its end, takes; by digest."""
    found: dict[str, DataRef] = {}
    for step in record.steps:
        if step.state not in _OVER:
            for ref in inputs_of(record, step.name):
                found[ref.sha256] = ref
    for step in last_steps(record):
        if step.output is not None:
            found[step.output.sha256] = step.output
    if record.output is not None:
        found[record.output.sha256] = record.output
    # A step that has to run again needs what it was given.
    if not record.ended:
        found[record.input.sha256] = record.input
    return found


def revert_lost(record: RunRecord, has: Callable[[DataRef], bool]) -> list[str]:
    """Steps that ran or whose output is nowhere here begin again; their names. What is not needed may be lost."""
    reverted: list[str] = []
    for step in record.steps:
        if step.state in {"placed", "running"}:
            step.state = "waiting"
            reverted.append(step.name)
    changed = True
    while changed:
        changed = False
        wanted = {
            name for one in record.spec.step if record.step(one.name).state not in _OVER for name in one.after
        } | {one.name for one in last_steps(record)}
        for step in record.steps:
            lost = step.state == "succeeded" and (step.output is None or not has(step.output))
            if lost and step.name in wanted:
                step.state, step.output = "waiting", None
                reverted.append(step.name)
                changed = True
    return reverted
