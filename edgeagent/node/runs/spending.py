"""What a run has cost and would cost, by the list prices of the nodes' kinds (:mod:`edgeagent.cost.prices`).

Counted is what ran to its end: time of a core and of GPUs, the energy over idle that its node tells, and what was
returned over the node's link. A budget holds back what would go over it, by the estimates of the plan; what runs
already is not stopped. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from edgeagent.cost.energy import draw_of, energy_price_of, energy_usd, joules
from edgeagent.cost.prices import gpu_usd_s, price_usd
from edgeagent.node.runs.record import RunRecord, StepRecord

__all__ = ["Took", "call_usd", "planned_usd", "ran", "spent_usd"]


def call_usd(kind: str, duration_ms: float, bytes_out: int, energy_j: float | None = None) -> float:
    """One core for so long at a node of this kind, its energy, and what it sent; None: the joules of such a core."""
    drawn_j = joules(draw_of(kind).core_w, duration_ms) if energy_j is None else energy_j
    return price_usd(kind, duration_ms, 0.0, bytes_out) + energy_usd(
        drawn_j, energy_price_of(kind).usd_per_kwh
    )


class Took(Protocol):
    """What the result of a call tells; a node of an earlier version tells neither joules nor GPUs."""

    duration_us: int
    energy_uj: int
    gpu_us: int


def ran(step: StepRecord, kind: str, took: Took, bytes_out: int) -> None:
    """A call of a step has ended at a node of this kind."""
    energy_j = took.energy_uj / 1e6
    step.energy_j += energy_j
    step.cost_usd += gpu_usd_s(kind) * took.gpu_us / 1e6
    step.cost_usd += call_usd(kind, took.duration_us / 1000, bytes_out, energy_j or None)


def spent_usd(record: RunRecord) -> float:
    """Of the steps that have ended."""
    return sum(step.cost_usd for step in record.steps)


def planned_usd(steps: Iterable[tuple[str, float, int]], kinds: Mapping[str, str]) -> float:
    """Of steps to come: (node, execution in ms, bytes returned) each; ``kinds`` of the nodes by id."""
    return sum(call_usd(kinds.get(node, ""), exec_ms, bytes_out) for node, exec_ms, bytes_out in steps)
