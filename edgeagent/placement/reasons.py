"""In words: why a node, why not the others, and what binds where none is left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeagent.placement.decision import CandidateExplanation, Choice, StepExplanation, Terms
from edgeagent.placement.errors import NoFeasibleNode
from edgeagent.placement.filters import EXCLUDED, Filter
from edgeagent.placement.scores import Scores
from edgeagent.placement.steps import PlanStep
from edgeagent.placement.table import NodeTable
from edgeagent.placement.views import StepAsk

__all__ = ["explained", "infeasible", "lying", "together", "why"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


def _first_failed(filters: Sequence[Filter], nodes: int) -> Ints:
    """For each node the index of the filter that removed it; ``len(filters)`` where none did."""
    first = np.full(nodes, len(filters), dtype=np.intp)
    for index in range(len(filters) - 1, -1, -1):
        first[~filters[index].passed] = index
    return first


def infeasible(ask: StepAsk, filters: Sequence[Filter], table: NodeTable) -> NoFeasibleNode:
    """Names the filter without which a node would be left; where no single one does, the one that removed most.

    Of several the last: what the network, heat and batteries allow changes sooner than what a node is; soonest of all
    who is there and takes work. A step that is pinned has but one node: what that one fails binds.
    """
    failed = np.array([~one.passed for one in filters])
    first = _first_failed(filters, table.nodes)
    row = table.row.get(ask.pinned)
    alone = failed & (failed.sum(axis=0) == 1)
    if ask.pinned and row is not None and failed[:, row].any():
        binding = int(failed[:, row].argmax())
        nodes = np.array([row])
    elif alone.any():
        binding = max(
            np.flatnonzero(alone.any(axis=1)).tolist(),
            key=lambda index: (filters[index].name == EXCLUDED, index),
        )
        nodes = np.flatnonzero(alone[binding])
    else:
        binding = int(np.bincount(first, minlength=len(filters) + 1)[: len(filters)].argmax())
        nodes = np.flatnonzero(failed[binding])
    one = filters[binding]
    sample = f"; {table.ids[nodes[0]]}: {one.detail(int(nodes[0]))}" if len(nodes) else ""
    refused = NoFeasibleNode(
        f"no node can run step {ask.name!r:.60}: {one.name} "
        f"({int(failed[binding].sum())} of {table.nodes} nodes{sample:.200})",
        hint=one.hint,
        step=ask.name,
        constraint=one.name,
        removed={
            other.name: int((first == index).sum())
            for index, other in enumerate(filters)
            if (first == index).any()
        },
    )
    refused.explanations = (_removed(ask, filters, table, first),)
    return refused


def _removed(ask: StepAsk, filters: Sequence[Filter], table: NodeTable, first: Ints) -> StepExplanation:
    """All nodes, by the filter that each failed first."""
    return StepExplanation(
        step=ask.name,
        node="",
        candidates=tuple(
            CandidateExplanation(
                node=view.id,
                kind=view.kind,
                removed_by=filters[first[row]].name if first[row] < len(filters) else "",
                detail=filters[first[row]].detail(row) if first[row] < len(filters) else "",
            )
            for row, view in enumerate(table.views)
        ),
    )


def together(steps: Sequence[PlanStep], refused: NoFeasibleNode) -> NoFeasibleNode:
    """Every step has nodes, but they have none together: names the edge that none of them meets, if there is one."""
    if refused.details["constraint"] != "capacity or latency":
        return refused
    for step in steps:
        for before in step.after:
            ways = step.graph.tree(np.flatnonzero(steps[before].allowed)).distance[step.allowed]
            least = float(ways.min(initial=np.inf))
            if least > step.latency_ms_max:
                return NoFeasibleNode(
                    f"no node can run step {step.name!r:.60}: it is {least:.1f} ms or more from any for "
                    f"{steps[before].name!r:.60}, at most {step.latency_ms_max:g}",
                    hint="loosen latency_ms_max, or wait for a better contact",
                    step=step.name,
                    constraint="latency",
                )
    if any(sum(step.demand) > 0.0 for step in steps):
        return NoFeasibleNode(
            refused.message,
            hint="free memory, or join more nodes",
            step=steps[-1].name,
            constraint="capacity",
        )
    return NoFeasibleNode(
        refused.message,
        hint="loosen the latencies of the edges, or wait for a contact",
        step=steps[-1].name,
        constraint="latency",
    )


def explained(
    ask: StepAsk,
    table: NodeTable,
    filters: Sequence[Filter],
    scores: Scores,
    ways: tuple[Floats, Floats],
    totals: Floats,
    node: str,
) -> StepExplanation:
    """All nodes. ``ways``: (longest path in, payload on it); ``totals`` the scores, infinite where there is none."""
    first = _first_failed(filters, table.nodes).tolist()
    data = scores.data
    columns = [
        ways[0] + scores.back + scores.near,
        scores.queue + scores.places + scores.gpu,
        scores.execution,
        np.zeros(table.nodes) if data is None else data,
        ways[1] + scores.code,
        scores.energy + scores.heat,
        scores.money,
    ]
    rows = np.array(columns).T.tolist()
    candidates = []
    for row, (terms, total) in enumerate(zip(rows, totals.tolist(), strict=True)):
        removed = filters[first[row]] if first[row] < len(filters) else None
        candidates.append(
            CandidateExplanation(
                node=table.ids[row],
                kind=table.views[row].kind,
                removed_by=removed.name if removed else "",
                detail=removed.detail(row) if removed else "",
                terms=Terms(*terms),
                score_ms=None if removed or not np.isfinite(total) else total,
            )
        )
    return StepExplanation(step=ask.name, node=node, candidates=tuple(candidates))


def lying(ask: StepAsk, table: NodeTable) -> StepExplanation:
    """The same of a step that is fixed."""
    return StepExplanation(
        step=ask.name,
        node=ask.pinned,
        candidates=tuple(
            CandidateExplanation(node=view.id, kind=view.kind, score_ms=0.0)
            if view.id == ask.pinned
            else CandidateExplanation(
                node=view.id,
                kind=view.kind,
                removed_by="pinned",
                detail=f"the output lies on {ask.pinned} already",
            )
            for view in table.views
        ),
    )


def why(ask: StepAsk, choice: Choice, left: int, nodes: int, other: tuple[str, float] | None) -> str:
    """One sentence. ``left`` of ``nodes`` passed; ``other`` is the next best and how much more it costs, in ms."""
    if ask.fixed:
        return "its output is there already"
    if ask.pinned:
        return f"pinned to {choice.node}"
    parts = [
        f"{value:.1f} ms {what}"
        for value, what in (
            (max(choice.legs_ms, default=0.0), "on the way"),
            (choice.data_ms, "from its data"),
            (choice.transfer_ms, "for its code"),
            (choice.queue_ms, "in the queue"),
            (choice.exec_ms, "to execute"),
        )
        if value >= 0.05
    ]
    text = ", ".join(parts) or "at once"
    if left == 1:
        return f"the only one of {nodes} nodes that passes the filters: {text}"
    text = f"best of {left} nodes left of {nodes}: {text}"
    if other is None:
        return text
    name, more = other
    if more < 0.0:
        return f"{text}; {name} is {-more:.1f} ms better for this step alone, or as good but for chance"
    return f"{text}; {name} would cost {more:.1f} ms more"
