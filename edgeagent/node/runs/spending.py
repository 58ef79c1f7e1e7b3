"""What a run has cost and would cost, by the list prices of the nodes' kinds (:mod:`edgeagent.cost.prices`).

Counted is what ran to its end: time of a core, and what was returned over the node's link. A budget holds back what
would go over it, by the estimates of the plan; what runs already is not stopped. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgeagent.cost.prices import link_of, price_of
from edgeagent.node.runs.record import RunRecord

__all__ = ["planned_usd", "price_usd", "spent_usd"]

_GIB = float(1 << 30)


def price_usd(kind: str, duration_ms: float, bytes_out: int) -> float:
    """One core for so long at a node of this kind, and what it sent."""
    return price_of(kind).usd_per_cpu_s * duration_ms / 1000.0 + link_of(kind).usd_per_gib * bytes_out / _GIB


def spent_usd(record: RunRecord) -> float:
    """Of the steps that have ended."""
    return sum(step.cost_usd for step in record.steps)


def planned_usd(steps: Iterable[tuple[str, float, int]], kinds: Mapping[str, str]) -> float:
    """Of steps to come: (node, execution in ms, bytes returned) each; ``kinds`` of the nodes by id."""
    return sum(price_usd(kinds.get(node, ""), exec_ms, bytes_out) for node, exec_ms, bytes_out in steps)
