"""The node table of a topology, the wires between ground nodes, and where everything is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeagent.orbit.age import DEFAULT_POLICY, AgePolicy
from edgeagent.orbit.nodes import GroundNode, Node, Satellite
from edgeagent.orbit.propagation import Ensemble
from edgeagent.topology.errors import TopologyRefused
from edgeagent.topology.links import LinkKind

__all__ = ["NodeKind", "OrbitPositions", "Positions", "TopologyNode", "Wire", "nodes_of"]

Floats = NDArray[np.float64]
NodeKind: TypeAlias = Literal["satellite", "ground"]


class TopologyNode(msgspec.Struct, frozen=True, kw_only=True):
    """One node. Construction raises TopologyRefused for what cannot be.

    ``range_km_max`` bounds links between satellites, and of a ground node to satellites; ``mask_deg`` and ``horizon``
    ((azimuth, elevation) in degrees) are a ground node's. Routes lead through a node that ``relays``, and only begin or
    end at others: user terminals, as a rule.
    """

    id: str
    kind: NodeKind
    range_km_max: float = math.inf
    mask_deg: float = 0.0
    horizon: tuple[tuple[float, float], ...] = ()
    relays: bool = True

    def __post_init__(self) -> None:
        if self.kind not in get_args(NodeKind):
            raise TopologyRefused(f"{self.kind!r:.60} is no kind of node", hint="use satellite or ground")
        if not self.range_km_max > 0.0:
            raise TopologyRefused(
                f"{self.id!r:.60} reaches {self.range_km_max} km", hint="give a positive range"
            )


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """A terrestrial link between two ground nodes; ``distance_km`` is as the crow flies.

    None: the great circle between them.
    """

    a: str
    b: str
    kind: LinkKind = LinkKind.FIBRE
    distance_km: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in {LinkKind.FIBRE, LinkKind.LAN}:
            raise TopologyRefused(f"a wire is {self.kind!r:.60}", hint="use LinkKind.FIBRE or LinkKind.LAN")
        if self.distance_km is not None and not 0.0 <= self.distance_km < math.inf:
            raise TopologyRefused(f"a wire is {self.distance_km} km long", hint="give 0 or more, or None")


class Positions(Protocol):
    """Where the nodes are: ECEF km ``(n, 3)`` in the order of the table that was given; NaN: not there."""

    def __call__(self, utc_s: float, /) -> Floats: ...


class OrbitPositions:
    """The positions of orbit's nodes: SGP4 for satellites, all in one call; ground nodes stand still."""

    def __init__(self, nodes: Sequence[Node], *, policy: AgePolicy | None = DEFAULT_POLICY) -> None:
        """``policy=None`` computes with elements of any age, which is for simulations."""
        self._flying = [row for row, node in enumerate(nodes) if isinstance(node, Satellite)]
        self._ensemble = Ensemble(
            [node.elements for node in nodes if isinstance(node, Satellite)], policy=policy
        )
        self._places = np.full((len(nodes), 3), np.nan)
        for row, node in enumerate(nodes):
            if isinstance(node, GroundNode):
                self._places[row] = node.position_km

    def __call__(self, utc_s: float, /) -> Floats:
        places = self._places.copy()
        if self._flying:
            places[self._flying] = self._ensemble.positions_ecef_km(utc_s)[0][:, 0]
        return places


def nodes_of(nodes: Sequence[Node], *, ends: Sequence[str] = ()) -> list[TopologyNode]:
    """The table of orbit's nodes; those in ``ends`` do not relay."""
    closed = frozenset(ends)
    return [
        TopologyNode(
            id=node.id,
            kind="satellite" if isinstance(node, Satellite) else "ground",
            range_km_max=node.range_km_max,
            mask_deg=node.mask_deg if isinstance(node, GroundNode) else 0.0,
            horizon=node.horizon if isinstance(node, GroundNode) else (),
            relays=node.id not in closed,
        )
        for node in nodes
    ]
