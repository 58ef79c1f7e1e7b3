"""The link graph that every node predicts by itself: who is linked now or at a given time, and over which route.

Nodes are kept in the order of their ids, settings are the same everywhere and ties are broken by number, so that nodes
that know the same orbits agree on every link and route. Time is cut into steps of ``step_s`` since 1970; all questions
within a step get the answer of its beginning. A topology keeps the last few moments it was asked for; it is for one
thread.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeagent.topology.errors import NodeAbsent, TopologyRefused
from edgeagent.topology.ground import (
    GroundSettings,
    Sightings,
    Stations,
    choose,
    seen_s,
    sightings,
    stations_of,
)
from edgeagent.topology.links import DEFAULT_MODELS, LinkKind, LinkModels
from edgeagent.topology.nodes import Positions, TopologyNode, Wire
from edgeagent.topology.points import positions_array
from edgeagent.topology.protocols import IslSettings, isl_links
from edgeagent.topology.route import Hop, Route
from edgeagent.topology.snapshot import Snapshot, link_table

__all__ = ["Topology", "TopologySettings"]

T = TypeVar("T")
Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

_EARTH_MEAN_KM = 6371.0088  # IUGG's mean radius: great circles err by at most 0.6 % against the ellipsoid


class TopologySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the network is made. ``moments`` is how many steps are kept."""

    isl: IslSettings = IslSettings()
    ground: GroundSettings = GroundSettings()
    step_s: float = 10.0
    moments: int = 8

    def __post_init__(self) -> None:
        if not 0.0 < self.step_s < math.inf or self.moments < 1:
            raise TopologyRefused(
                f"steps of {self.step_s} s, {self.moments} kept", hint="give a positive step, keep at least 1"
            )


class Topology:
    """The network of ``nodes`` at ``positions``, which answers in the order of ``nodes`` as given.

    ``grid`` are +grid's pairs, by id. Raises TopologyRefused where names repeat, or wires and pairs lead nowhere.
    """

    def __init__(
        self,
        nodes: Sequence[TopologyNode],
        positions: Positions,
        settings: TopologySettings = TopologySettings(),  # noqa: B008 - immutable
        *,
        wires: Iterable[Wire] = (),
        grid: Iterable[tuple[str, str]] | None = None,
        models: LinkModels = DEFAULT_MODELS,
    ) -> None:
        self._order = np.array(sorted(range(len(nodes)), key=lambda row: nodes[row].id), dtype=np.intp)
        self.nodes = tuple(nodes[row] for row in self._order)
        self.ids = tuple(node.id for node in self.nodes)
        self._rows = {id_: row for row, id_ in enumerate(self.ids)}
        if len(self._rows) != len(self.nodes):
            double = next(one for one, two in itertools.pairwise(self.ids) if one == two)
            raise TopologyRefused(
                f"two nodes are called {double!r:.60}", hint="ids are unique, names need not be"
            )
        self.settings = settings
        self._positions = positions
        self._models = models
        flying = np.array([node.kind == "satellite" for node in self.nodes], dtype=np.bool_)
        self._satellites, self._ground = np.flatnonzero(flying), np.flatnonzero(~flying)
        self._relays = np.array([node.relays for node in self.nodes], dtype=np.bool_)
        self._reach = np.array([node.range_km_max for node in self.nodes], dtype=np.float64)
        self._wires = [self._wire(wire) for wire in wires]
        self._pairs = None if grid is None else self._grid(grid)
        if settings.isl.protocol == "+grid" and self._pairs is None:
            raise TopologyRefused(
                "+grid needs the pairs of its grid", hint="make them with topology.plus_grid"
            )
        self._snapshots: OrderedDict[int, Snapshot] = OrderedDict()
        self._places: OrderedDict[float, Floats] = OrderedDict()

    def row(self, node_id: str) -> int:
        """The row of a node in snapshots. Raises NodeAbsent."""
        found = self._rows.get(node_id)
        if found is None:
            raise NodeAbsent(f"no node {node_id!r:.60} in the topology", hint="see Topology.ids")
        return found

    def at(self, utc_s: float) -> Snapshot:
        """The network at the beginning of the step that ``utc_s`` falls into."""
        if not math.isfinite(utc_s):
            raise TopologyRefused(f"{utc_s} is no time", hint="give UTC seconds since 1970")
        step = math.floor(utc_s / self.settings.step_s)
        return _kept(self._snapshots, step, self.settings.moments, lambda: self._build(step))

    def reachable(self, a: str, b: str, utc_s: float) -> bool:
        """Whether the predicted network has a route from ``a`` to ``b``. Raises NodeAbsent."""
        one, other = self.row(a), self.row(b)
        return self.at(utc_s).reachable(one, other)

    def latency_ms(self, a: str, b: str, utc_s: float) -> float:
        """One way over the fastest route; infinity where there is none. Raises NodeAbsent."""
        one, other = self.row(a), self.row(b)
        return float(self.at(utc_s).tree(one).distance[other])

    def path(self, a: str, b: str, utc_s: float) -> Route | None:
        """The fastest route, link by link, or None. Raises NodeAbsent."""
        one, other = self.row(a), self.row(b)
        snapshot = self.at(utc_s)
        tree = snapshot.tree(one)
        nodes = tree.path_to(other)
        if not nodes:
            return None
        links, hops = snapshot.links, []
        for i, j in itertools.pairwise(nodes):
            link = links.find(i, j)
            hops.append(
                Hop(
                    a=self.ids[i],
                    b=self.ids[j],
                    kind=LinkKind(int(links.kind[link])),
                    length_km=float(links.length_km[link]),
                    latency_ms=float(links.latency_ms[link]),
                    bandwidth_mbit_s=float(links.bandwidth_mbit_s[link]),
                )
            )
        return Route(
            nodes=tuple(self.ids[i] for i in nodes), hops=tuple(hops), latency_ms=float(tree.distance[other])
        )

    def within(
        self, a: str, bound_ms: float, utc_s: float, *, count_max: int | None = None
    ) -> list[tuple[str, float]]:
        """The nearest nodes by latency, at most ``bound_ms`` away, and their latencies. Raises NodeAbsent."""
        nodes, distances = self.at(utc_s).graph.within(self.row(a), bound_ms, count_max=count_max)
        return [(self.ids[i], ms) for i, ms in zip(nodes.tolist(), distances.tolist(), strict=True)]

    def first_route(self, a: str, b: str, times_s: Iterable[float]) -> float | None:
        """The first of ``times_s`` at which a route exists: until then a peer is occluded. None: at none of them."""
        one, other = self.row(a), self.row(b)
        return next((utc_s for utc_s in times_s if self.at(utc_s).reachable(one, other)), None)

    def _build(self, step: int) -> Snapshot:
        utc_s = step * self.settings.step_s
        places = self._places_at(utc_s)
        flying, below = self._satellites, self._ground
        isl = isl_links(places[flying], self.settings.isl, reach_km=self._reach[flying], pairs=self._pairs)
        chosen = self._ground_links(places, utc_s)
        parts = [
            (LinkKind.ISL, flying[isl.a], flying[isl.b], isl.length_km),
            (LinkKind.GROUND, below[chosen.station], flying[chosen.satellite], chosen.range_km),
        ]
        present = ~np.isnan(places[:, 0])
        for kind in (LinkKind.FIBRE, LinkKind.LAN):
            laid = [wire for wire in self._wires if wire[0] == kind and present[wire[1]] and present[wire[2]]]
            one, other = (np.array([wire[end] for wire in laid], dtype=np.intp) for end in (1, 2))
            lengths = [
                _great_circle_km(places[i], places[j]) if given is None else given for _, i, j, given in laid
            ]
            parts.append((kind, one, other, np.array(lengths, dtype=np.float64)))
        return Snapshot(utc_s, places, link_table(parts, self._models), self._relays)

    def _ground_links(self, places: Floats, utc_s: float) -> Sightings:
        settings = self.settings.ground
        flying = self._satellites
        seen = sightings(self._stations(places), places[flying])
        if settings.policy == "nearest":
            return choose(seen, settings)
        looks = range(1, math.floor(settings.look_ahead_s / settings.look_every_s) + 1)
        watched = np.unique(seen.satellite)
        later = []
        for look in looks:
            then = self._places_at(utc_s + look * settings.look_every_s)
            found = sightings(self._stations(then), then[flying[watched]])
            later.append(Sightings(found.station, watched[found.satellite], found.range_km))
        return choose(seen, settings, seen_s(seen, later, settings.look_every_s))

    def _stations(self, places: Floats) -> Stations:
        nodes = [self.nodes[row] for row in self._ground]
        return stations_of(
            places[self._ground],
            [node.mask_deg for node in nodes],
            range_km_max=self._reach[self._ground],
            horizons={row: node.horizon for row, node in enumerate(nodes) if node.horizon},
        )

    def _places_at(self, utc_s: float) -> Floats:
        looks = self.settings.ground.look_ahead_s / self.settings.ground.look_every_s
        keep = 1 if self.settings.ground.policy == "nearest" else math.ceil(looks) + 1

        def compute() -> Floats:
            places = positions_array(self._positions(utc_s))
            if len(places) != len(self.nodes):
                raise TopologyRefused(
                    f"{len(places)} positions for {len(self.nodes)} nodes",
                    hint="give one a node, NaN if absent",
                )
            return places[self._order]

        return _kept(self._places, utc_s, keep, compute)

    def _wire(self, wire: Wire) -> tuple[LinkKind, int, int, float | None]:
        one, other = self.row(wire.a), self.row(wire.b)
        if one == other or "satellite" in {self.nodes[one].kind, self.nodes[other].kind}:
            raise TopologyRefused(
                f"a wire from {wire.a!r:.60} to {wire.b!r:.60}", hint="wires join two ground nodes"
            )
        return wire.kind, one, other, wire.distance_km

    def _grid(self, grid: Iterable[tuple[str, str]]) -> Ints:
        number = {int(row): index for index, row in enumerate(self._satellites)}
        pairs = []
        for a, b in grid:
            one, other = number.get(self.row(a)), number.get(self.row(b))
            if one is None or other is None or one == other:
                raise TopologyRefused(
                    f"{a!r:.60} and {b!r:.60} are no pair of satellites", hint="correct the grid"
                )
            pairs.append((min(one, other), max(one, other)))
        return np.array(pairs, dtype=np.int32).reshape(-1, 2)


_K = TypeVar("_K")


def _kept(memory: OrderedDict[_K, T], key: _K, count: int, compute: Callable[[], T]) -> T:
    """What is known under ``key``, or computed now; the ``count`` used last are kept."""
    if key in memory:
        memory.move_to_end(key)
        return memory[key]
    found = memory[key] = compute()
    while len(memory) > count:
        memory.popitem(last=False)
    return found


def _great_circle_km(a: Floats, b: Floats) -> float:
    """Along the surface, between the points below (or above) two places."""
    cross = float(np.linalg.norm(np.cross(a, b)))
    return _EARTH_MEAN_KM * math.atan2(cross, float(a @ b))
