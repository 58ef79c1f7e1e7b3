"""What can go wrong with placements; nothing is reserved in any case.

EdgeError
└── PlacementFault 422           base
    ├── PlanRefused 400          steps or arrays that cannot be
    ├── NoFeasibleNode 503       no node meets all that a step needs; names the constraint that binds
    └── NotAdmitted 503          the node that was chosen has no room for a call, or must not take it
"""

from __future__ import annotations

from typing import Any

from edgeagent.model.errors import EdgeError

__all__ = ["NoFeasibleNode", "NotAdmitted", "PlacementFault", "PlanRefused"]


class PlacementFault(EdgeError):
    """Base of this room's errors."""

    slug, status = "placement-failed", 422


class PlanRefused(PlacementFault):
    slug, status = "plan-refused", 400


class NoFeasibleNode(PlacementFault):
    """``details``: ``step``, and ``constraint``, the filter without which there would be a node.

    ``explanations``: what removed each node (StepExplanation), where filters did; no part of the problem document.
    """

    explanations: tuple[Any, ...] = ()

    slug, status = "no-feasible-node", 503


class NotAdmitted(PlacementFault):
    """``details["constraint"]``: draining, concurrency, reservations, memory, heat or battery. Try the next node."""

    slug, status = "not-admitted", 503
