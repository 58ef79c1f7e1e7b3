"""A route as placement, cost and people want it: node by node and link by link."""

from __future__ import annotations

import math

import msgspec

from edgeagent.topology.links import LinkKind

__all__ = ["Hop", "Route"]


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """One link of a route, in the direction of travel."""

    a: str
    b: str
    kind: LinkKind
    length_km: float
    latency_ms: float
    bandwidth_mbit_s: float


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """From the first of ``nodes`` to the last; ``latency_ms`` is one way, with the processing of every hop."""

    nodes: tuple[str, ...]
    hops: tuple[Hop, ...]
    latency_ms: float

    @property
    def bandwidth_mbit_s(self) -> float:
        """That of the narrowest link; infinite for the way to oneself."""
        return min((hop.bandwidth_mbit_s for hop in self.hops), default=math.inf)
