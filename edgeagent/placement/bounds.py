"""What a whole plan costs at least when one of its steps runs on a certain node: for all nodes at once.

Each message along an edge of the workflow is a search over the network that starts at all nodes together
(:meth:`Graph.spread`), so that no candidate is lost to a cap, and every node is weighed. Of a step that follows several
others one edge, the first, is followed; the others only add to the cost, so the bounds hold for every workflow.

The cost of a step on v after u, with leg p and data leg d, is max(p, d) + w (p + d) + cost(v). The maximum does not
come apart into a part of u and a part of v, but is at least each of its two: hence two searches an edge, with the
factors 1 + w and w, and the greater result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeagent.placement.steps import PlanStep

__all__ = ["Ahead", "bounds_ahead", "bounds_own", "bounds_whole"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ahead:
    """For each step, over the nodes: ``own`` its cost without legs from others, ``below`` the least of all behind it.

    ``sent`` is the least of the step, its way from the one before and all behind it, for each node of the one before.
    Infinite where it cannot run.
    """

    own: list[Floats]
    below: list[Floats]
    sent: list[Floats]


def _zero_or(array: Floats | None, nodes: int) -> Floats:
    return np.zeros(nodes) if array is None else array


def _own(step: PlanStep, weight: float) -> Floats:
    """What the step costs on each node whatever it follows, its data leg included."""
    nodes = step.graph.nodes
    data = _zero_or(step.data_ms, nodes)
    cost = _zero_or(step.cost_ms, nodes) + (1.0 + weight) * data
    return np.where(step.allowed & np.isfinite(cost), cost, np.inf)


def _carried(step: PlanStep, starts: Floats, factor: float, *, back: bool, most: float = np.inf) -> Floats:
    """The least of ``starts[u]`` and ``factor`` times the leg, over all u, for every v; ``back`` is against the leg."""
    nodes = step.graph.nodes
    first, last = _zero_or(step.send_ms, nodes), _zero_or(step.receive_ms, nodes)
    if back:
        first, last = last, first
    spread, _ = step.graph.spread(starts + factor * first, factor=factor, bound=most)
    return np.minimum(spread + factor * last, starts)  # what stays on its node is not sent


def _sent(step: PlanStep, starts: Floats, weight: float, *, back: bool, most: float = np.inf) -> Floats:
    """``starts`` carried over the edge into ``step``, which lies at the end of it, or with ``back`` at its beginning.

    The data leg is in ``own`` already, with 1 + weight; where the leg p is the longer one it counts for nothing but
    ``weight``: max(p, d) = d + max(p - d, 0). What is over ``most`` may be infinite.
    """
    if step.data_ms is None:
        return _carried(step, starts, 1.0 + weight, back=back, most=most)
    data = np.where(np.isfinite(step.data_ms), step.data_ms, 0.0)
    light = _carried(step, starts, weight, back=back, most=most)
    if back:
        return np.maximum(
            _carried(step, np.maximum(starts - data, 0.0), 1.0 + weight, back=True, most=most), light
        )
    # A leg is longer than ``most`` allows only by as much as the data leg hides of it.
    hidden = most + float(data[step.allowed].max(initial=0.0))
    return np.maximum(_carried(step, starts, 1.0 + weight, back=False, most=hidden) - data, light)


def bounds_own(steps: Sequence[PlanStep], weight: float) -> list[Floats]:
    """What each step costs on each node at least, wherever the others run."""
    return [_own(step, weight) for step in steps]


def bounds_ahead(steps: Sequence[PlanStep], weight: float, most: float = np.inf) -> Ahead:
    """From the last step to the first; ``weight`` is w above. What is over ``most`` may be infinite."""
    nodes = steps[0].graph.nodes
    own = bounds_own(steps, weight)
    below = [np.zeros(nodes) for _ in steps]
    sent: list[Floats] = [np.zeros(nodes) for _ in steps]
    for index in range(len(steps) - 1, -1, -1):
        step = steps[index]
        if step.after:
            sent[index] = _sent(step, own[index] + below[index], weight, back=True, most=most)
            below[step.after[0]] = below[step.after[0]] + sent[index]
    return Ahead(own, below, sent)


def bounds_whole(
    steps: Sequence[PlanStep], ahead: Ahead, weight: float, most: float = np.inf
) -> list[Floats]:
    """For each step, over the nodes: the least of the whole workflow if it runs there; infinite where over ``most``."""
    nodes = steps[0].graph.nodes
    least = {
        index: float((ahead.own[index] + ahead.below[index]).min())
        for index, step in enumerate(steps)
        if not step.after
    }
    whole: list[Floats] = []
    outside: list[Floats] = []
    for index, step in enumerate(steps):
        if not step.after:
            outside.append(np.full(nodes, sum(cost for root, cost in least.items() if root != index)))
        else:
            parent = step.after[0]
            starts = outside[parent] + ahead.own[parent]
            for other, one in enumerate(steps):
                if other != index and one.after[:1] == (parent,):
                    starts = starts + ahead.sent[other]
            outside.append(_sent(step, starts, weight, back=False, most=most))
        whole.append(outside[index] + ahead.own[index] + ahead.below[index])
    return whole
