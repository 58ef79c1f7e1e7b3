"""What the parts of a node that place work have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeagent.node.functions import Functions
from edgeagent.node.invoker import Invoker
from edgeagent.node.membership import Membership
from edgeagent.node.meters import Meters
from edgeagent.node.remote_hoses import RemoteHoses

if TYPE_CHECKING:
    from edgeagent.cost.estimates import Estimates
    from edgeagent.node.forwarder import Forwarder
    from edgeagent.node.placer import Placer
    from edgeagent.node.runs.ahead import StateAhead

__all__ = ["Parts", "Ties"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """The node's own parts that placement builds on."""

    node_id: str
    functions: Functions
    invoker: Invoker
    membership: Membership
    remote: RemoteHoses
    meters: Meters
    workers: int
    state: StateAhead | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Ties:
    """What plans and drives work is given."""

    node_id: str
    functions: Functions
    invoker: Invoker
    membership: Membership
    remote: RemoteHoses
    placer: Placer
    forwarder: Forwarder
    estimates: Estimates
    state: StateAhead | None = None
