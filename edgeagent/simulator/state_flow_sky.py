"""The sky of the workflow figures: a Walker shell with lasers, one ground station, and a cloud beyond it.

Positions are SGP4's, the links a +grid; the station has one antenna, to the nearest satellite, so that all that goes
down shares one downlink whichever satellite that is, and all that goes up one uplink. A transfer keeps the way that is
the fastest when it begins.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Hashable
from typing import NamedTuple, Protocol

from edgeagent.model.errors import Unavailable
from edgeagent.orbit.nodes import GroundNode, Satellite
from edgeagent.orbit.walker import walker
from edgeagent.simulator.state_flow_links import Leg
from edgeagent.state.ways import Ways
from edgeagent.topology.links import DEFAULT_MODELS, LinkKind, LinkModel
from edgeagent.topology.nodes import OrbitPositions, Wire, nodes_of
from edgeagent.topology.plus_grid import walker_pairs
from edgeagent.topology.protocols import IslSettings
from edgeagent.topology.topology import Topology, TopologySettings

__all__ = ["CLOUD", "DOWNLINK_BIT_S", "GROUND", "HOPS_APART", "ISL_BIT_S", "FlowSky", "Places", "Sky", "Way"]

GROUND, CLOUD = "ground", "cloud"
ISL_BIT_S, DOWNLINK_BIT_S = 1e9, 80e6
CLOUD_MS = 20.0
HOPS_APART = 2
_EPOCH_S = 1_780_000_000.0
_ROUND_S = 37 * 60.0  # rounds are so far apart in time
_ALTITUDE_KM, _INCLINATION_DEG, _MASK_DEG = 550.0, 53.0, 25.0
_STATION_DEG = (35.3, -116.9)
_CLOUD_WIRE_KM = (CLOUD_MS - 0.01) * 200.0 / 1.25  # by topology.links: 1.25 D of fibre, one hop's processing


class Way(NamedTuple):
    """The fastest way from one node to another: its links, and its latency."""

    legs: tuple[Leg, ...]
    latency_s: float

    @property
    def rate_bit_s(self) -> float:
        """That of the narrowest link."""
        return min((leg.rate_bit_s for leg in self.legs), default=float("inf"))


class Places(NamedTuple):
    """Where the steps run, the first one first."""

    nodes: tuple[str, ...]
    utc_s: float


class Sky(Protocol):
    """What the workflows ask of the network."""

    cloud: str

    def way(self, a: str, b: str, utc_s: float) -> Way:
        """The fastest way; empty from a node to itself. Raises Unavailable."""
        ...

    def ways(self, utc_s: float) -> Ways:
        """The graph of the moment, by names."""
        ...


class FlowSky:
    """A :class:`Sky` of ``planes`` times ``slots`` satellites at 550 km and 53 degrees."""

    cloud = CLOUD

    def __init__(self, planes: int = 72, slots: int = 22) -> None:
        total = planes * slots
        shell = walker(
            total=total,
            planes=planes,
            phasing=1,
            inclination_deg=_INCLINATION_DEG,
            altitude_km=_ALTITUDE_KM,
            epoch_us=round(_EPOCH_S * 1e6),
        )
        flying = [Satellite(one.name, one) for one in shell]
        north, east = _STATION_DEG
        below = [
            GroundNode(id=GROUND, latitude_deg=north, longitude_deg=east, mask_deg=_MASK_DEG),
            GroundNode(
                id=CLOUD, latitude_deg=north, longitude_deg=east, range_km_max=1.0
            ),  # it has no antenna
        ]
        self.satellites = tuple(one.id for one in flying)
        pairs = walker_pairs(total=total, planes=planes, phasing=1).tolist()
        self._topology = Topology(
            nodes_of([*flying, *below]),
            OrbitPositions([*flying, *below], policy=None),
            TopologySettings(isl=IslSettings(protocol="+grid")),
            wires=[Wire(a=GROUND, b=CLOUD, distance_km=_CLOUD_WIRE_KM)],
            grid=[(self.satellites[a], self.satellites[b]) for a, b in pairs],
            models={
                **DEFAULT_MODELS,
                LinkKind.ISL: LinkModel(bandwidth_mbit_s=ISL_BIT_S / 1e6),
                LinkKind.GROUND: LinkModel(bandwidth_mbit_s=DOWNLINK_BIT_S / 1e6),
            },
        )
        self._beside: dict[str, list[str]] = {one: [] for one in self.satellites}
        for a, b in pairs:
            self._beside[self.satellites[a]].append(self.satellites[b])
            self._beside[self.satellites[b]].append(self.satellites[a])
        self._step = -1
        self._known: dict[tuple[str, str], Way] = {}
        self._ways: Ways | None = None

    def _turn_to(self, utc_s: float) -> None:
        step = int(utc_s // self._topology.settings.step_s)
        if step != self._step:
            self._step = step
            self._known.clear()
            self._ways = None

    def way(self, a: str, b: str, utc_s: float) -> Way:
        self._turn_to(utc_s)
        if (a, b) not in self._known:
            self._known[a, b] = self._find(a, b, utc_s)
        return self._known[a, b]

    def _find(self, a: str, b: str, utc_s: float) -> Way:
        if a == b:
            return Way((), 0.0)
        route = self._topology.path(a, b, utc_s)
        if route is None:
            raise Unavailable(f"no way from {a!r:.60} to {b!r:.60}", hint="take a shell without gaps")
        legs = []
        for hop in route.hops:
            link: Hashable = (hop.a, hop.b)
            if hop.kind == LinkKind.GROUND:
                link = ("up", GROUND) if hop.a == GROUND else ("down", GROUND)
            legs.append(Leg(link, hop.bandwidth_mbit_s * 1e6, hop.latency_ms / 1000.0))
        return Way(tuple(legs), route.latency_ms / 1000.0)

    def ways(self, utc_s: float) -> Ways:
        self._turn_to(utc_s)
        if self._ways is None:
            self._ways = Ways(self._topology.ids, self._topology.at(utc_s).graph)
        return self._ways

    def places(self, number: int, seed: int, *, steps: int = 4, on_the_way: bool = False) -> Places:
        """Satellites two hops apart for round ``number``: from one drawn at random to another that is drawn of those
        two hops away, and so on. ``on_the_way``: every second one of the fastest way to the cloud instead.
        """
        utc_s = _EPOCH_S + number * _ROUND_S
        chance = random.Random(f"{seed}/{number}/{on_the_way}")
        while True:
            first = chance.choice(self.satellites)
            nodes = self._line(first, utc_s, steps) if on_the_way else self._walk(first, chance, steps)
            if len(nodes) == steps:
                return Places(tuple(nodes), utc_s)

    def _line(self, first: str, utc_s: float, steps: int) -> list[str]:
        route = self._topology.path(first, CLOUD, utc_s)
        flying = [] if route is None else [one for one in route.nodes if one in self._beside]
        return flying[::HOPS_APART][:steps]

    def _walk(self, first: str, chance: random.Random, steps: int) -> list[str]:
        nodes = [first]
        for _ in itertools.repeat(None, steps - 1):
            here = nodes[-1]
            near = {here, *self._beside[here]}
            away = sorted({two for one in self._beside[here] for two in self._beside[one]} - near - {*nodes})
            if not away:
                break
            nodes.append(chance.choice(away))
        return nodes
