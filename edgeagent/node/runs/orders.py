"""The calls of a run's steps: what is ordered, and what of their ends another attempt may mend."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from edgeagent.hose.settings import TIERS
from edgeagent.model.errors import DeadlineExceeded, EdgeError, GuestFailed
from edgeagent.model.run_tag import RunTag
from edgeagent.node.forwarder import Order
from edgeagent.node.result import Result
from edgeagent.node.runs.progress import spec_of
from edgeagent.node.runs.record import RunRecord, StepRecord
from edgeagent.state.session import joined_sessions

__all__ = ["LATE_MS", "Orders", "saw", "tier_of"]

LATE_MS = 100.0  # a limit that ends so shortly before the run's is the run's


def tier_of(result: Result) -> str:
    return result.steps[-1].hose if result.steps else TIERS[result.hose.tier]


def saw(record: RunRecord, result: Result) -> None:
    """What a step has seen of state, those after it are to see too."""
    if result.session:
        record.session = joined_sessions(record.session, result.session)


class Orders:
    """Of one run."""

    def __init__(self, record: RunRecord) -> None:
        self.record = record
        self.following: Mapping[str, tuple[str, ...]] = {}  # by step: where those after it are to run

    def order(self, step: StepRecord, given: Any, key: str) -> Order:
        """One call of a step; ``key`` is its name within the run, and with the attempt its Idempotency-Key."""
        record, spec = self.record, spec_of(self.record, step.name)
        left_s = max(0.001, record.deadline_ms / 1000 - time.time())
        return Order(
            ref=record.functions[step.function],
            given=given,
            args=spec.args,
            deadline_s=time.monotonic() + left_s,
            wall_ms=spec.timeout_ms,
            traceparent=record.traceparent,
            key=f"{record.id}.{record.epoch}.{key}.{step.attempts}",
            sources=(record.origin, record.guardian),
            keep=True,
            tag=RunTag(record.id, record.epoch, record.session, self.following.get(step.name, ())),
        )

    def is_late(self) -> bool:
        return time.time() * 1000 > self.record.deadline_ms - LATE_MS

    def is_mendable(self, error: EdgeError) -> bool:
        """Whether ``retries`` are for this: the function's own fault, or its time, while the run has some left."""
        return isinstance(error, GuestFailed) or (isinstance(error, DeadlineExceeded) and not self.is_late())

    def fault(self, step: StepRecord, error: EdgeError) -> EdgeError:
        """The same, but for a function that was stopped by the step's limit, which it names."""
        if not isinstance(error, DeadlineExceeded) or self.is_late():
            return error
        spec = spec_of(self.record, step.name)
        limit_ms = spec.timeout_ms or float(self.record.functions[step.function].manifest.limits.wall_ms)
        what = "timeout_ms" if spec.timeout_ms else f"the wall_ms of {step.function}"
        return DeadlineExceeded(
            f"step {step.name!r} had not ended after {limit_ms:g} ms, which is {what}",
            hint=error.hint,
            **error.details,
        )
