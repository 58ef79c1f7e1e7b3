"""What the planner is asked: steps with their needs as arrays over the nodes; and what it answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeagent.placement.errors import PlanRefused
from edgeagent.topology.graph import Graph

__all__ = ["Chosen", "Plan", "PlanStep", "check_steps"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class PlanStep:
    """One step; arrays have one entry a node.

    ``graph`` is the network when the step starts, weighted with latencies in ms one way. ``after`` are the steps, by
    their index, whose outputs it takes, each at most ``latency_ms_max`` away. ``allowed`` are the nodes that the
    filters left; ``cost_ms`` (at least 0) is what running there costs beside the way, in ms or what is worth as much.
    ``data_ms`` is how far its data source is (None: it has none). ``demand`` is what it takes of each resource of the
    nodes. ``send_ms`` and ``receive_ms`` are what the payload takes on the access links of its sender and of its
    receiver; nothing is sent where both are one node.
    """

    name: str
    graph: Graph
    allowed: Flags
    after: tuple[int, ...] = ()
    latency_ms_max: float = math.inf
    cost_ms: Floats | None = None
    data_ms: Floats | None = None
    demand: tuple[float, ...] = ()
    send_ms: Floats | None = None
    receive_ms: Floats | None = None


@dataclass(frozen=True)
class Chosen:
    """Where one step goes. ``legs_ms`` are the ways from the steps that it follows, in their order."""

    step: str
    node: int
    legs_ms: tuple[float, ...]
    data_ms: float | None
    cost_ms: float

    @property
    def wait_ms(self) -> float:
        """Until everything that the step takes has arrived: the longest way, since all are under way at once."""
        return max((*self.legs_ms, self.data_ms or 0.0), default=0.0)


@dataclass(frozen=True)
class Plan:
    """Where everything goes. ``exact``: no plan within the capacities is better; else the search was cut short.

    ``total_ms`` is what was minimized: for each step the longest way, ``spread_weight`` times the sum of its ways, and
    its ``cost_ms``.
    """

    chosen: tuple[Chosen, ...]
    total_ms: float
    exact: bool
    candidates: tuple[int, ...] = field(default=())  # how many nodes were weighed for each step in the end

    @property
    def nodes(self) -> tuple[int, ...]:
        return tuple(one.node for one in self.chosen)

    @property
    def critical_path_ms(self) -> float:
        """The sum over the steps of their longest way."""
        return math.fsum(one.wait_ms for one in self.chosen)


def check_steps(steps: Sequence[PlanStep], nodes: int) -> None:
    """Raises PlanRefused unless steps follow earlier ones only and all arrays fit."""
    for index, step in enumerate(steps):
        if any(not 0 <= before < index for before in step.after) or len({*step.after}) != len(step.after):
            raise PlanRefused(
                f"step {step.name!r:.60} follows {step.after}", hint="put every step behind those it follows"
            )
        arrays = (step.allowed, step.cost_ms, step.data_ms, step.send_ms, step.receive_ms)
        if step.graph.nodes != nodes or any(one is not None and one.shape != (nodes,) for one in arrays):
            raise PlanRefused(
                f"step {step.name!r:.60} does not fit {nodes} nodes", hint="give one entry a node"
            )
        for array in arrays[1:]:
            if array is not None and not (array >= 0.0).all():
                raise PlanRefused(f"step {step.name!r:.60} has a negative cost", hint="costs begin at 0")
