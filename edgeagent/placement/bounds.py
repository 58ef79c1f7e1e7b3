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

__all__ = ["Bounds", "bounds_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bounds:
    """For each step, arrays over the nodes: ``own`` its cost without legs from others, ``below`` the least of all steps
    behind it, ``whole`` the least of the whole workflow, all if it runs there; infinite where it cannot.
    """

    own: list[Floats]
    below: list[Floats]
    whole: list[Floats]


def _zero_or(array: Floats | None, nodes: int) -> Floats:
    return np.zeros(nodes) if array is None else array


def _own(step: PlanStep, weight: float) -> Floats:
    """What the step costs on each node whatever it follows, its data leg included."""
    nodes = step.graph.nodes
    data = _zero_or(step.data_ms, nodes)
    cost = _zero_or(step.cost_ms, nodes) + (1.0 + weight) * data
    return np.where(step.allowed & np.isfinite(cost), cost, np.inf)


def _carried(step: PlanStep, starts: Floats, factor: float, *, back: bool) -> Floats:
    """The least of ``starts[u]`` and ``factor`` times the leg, over all u, for every v; ``back`` is against the leg."""
    nodes = step.graph.nodes
    first, last = _zero_or(step.send_ms, nodes), _zero_or(step.receive_ms, nodes)
    if back:
        first, last = last, first
    spread, _ = step.graph.spread(starts + factor * first, factor=factor)
    return np.minimum(spread + factor * last, starts)  # what stays on its node is not sent


def _sent(step: PlanStep, starts: Floats, weight: float, *, back: bool) -> Floats:
    """``starts`` carried over the edge into ``step``, which lies at the end of it, or with ``back`` at its beginning.

    The data leg is in ``own`` already, with 1 + weight; where the leg p is the longer one it counts for nothing but
    ``weight``: max(p, d) = d + max(p - d, 0).
    """
    if step.data_ms is None:
        return _carried(step, starts, 1.0 + weight, back=back)
    data = np.where(np.isfinite(step.data_ms), step.data_ms, 0.0)
    if back:
        long = _carried(step, np.maximum(starts - data, 0.0), 1.0 + weight, back=True)
    else:
        long = np.maximum(_carried(step, starts, 1.0 + weight, back=False) - data, 0.0)
    return np.maximum(long, _carried(step, starts, weight, back=back))


def bounds_of(steps: Sequence[PlanStep], weight: float) -> Bounds:
    """The bounds of all steps; ``weight`` is w above."""
    nodes = steps[0].graph.nodes
    own = [_own(step, weight) for step in steps]
    below = [np.zeros(nodes) for _ in steps]
    message: list[Floats] = [np.zeros(nodes) for _ in steps]
    for index in range(len(steps) - 1, -1, -1):
        step = steps[index]
        if step.after:
            message[index] = _sent(step, own[index] + below[index], weight, back=True)
            below[step.after[0]] = below[step.after[0]] + message[index]
    whole: list[Floats] = []
    outside: list[Floats] = []
    roots = [index for index, step in enumerate(steps) if not step.after]
    least = {index: float((own[index] + below[index]).min()) for index in roots}
    for index, step in enumerate(steps):
        if not step.after:
            others = sum(cost for root, cost in least.items() if root != index)
            outside.append(np.full(nodes, others))
        else:
            parent = step.after[0]
            siblings = np.zeros(nodes)
            for other, one in enumerate(steps):
                if other != index and one.after[:1] == (parent,):
                    siblings = siblings + message[other]
            starts = outside[parent] + own[parent] + siblings
            outside.append(_sent(step, starts, weight, back=False))
        whole.append(outside[index] + own[index] + below[index])
    return Bounds(own, below, whole)
