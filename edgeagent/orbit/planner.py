"""Makes contact plans, and extends them as time goes: each advance computes only what was not known before.

Rules:
1. Time is cut at the whole minutes of the ephemeris' grid. A pair is known from some grid point on; advancing adds the
   minutes up to the horizon and forgets windows that are over.
2. A node that is new, or whose elements or masks changed, makes its pairs unknown: they are computed anew from now on.
3. When the clock jumps back before what is known, or beyond it, everything is computed anew.
4. What is computed in pieces is what is computed at once, to the bit: windows that meet at a grid point are one.
5. Satellites whose elements are stale by the age policy, or have no position, are in contact with nobody.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import msgspec

from edgeagent.orbit.age import DEFAULT_POLICY, AgePolicy
from edgeagent.orbit.ephemeris import GRID_S, Ephemeris
from edgeagent.orbit.errors import GeometryRefused, NodeUnknown
from edgeagent.orbit.margins import GroundMargins, Margins, SpaceMargins
from edgeagent.orbit.nodes import GroundNode, Node, Satellite
from edgeagent.orbit.plan import ContactPlan, Pair, Window, pair_of
from edgeagent.orbit.propagation import Ensemble
from edgeagent.orbit.sidereal import as_times
from edgeagent.orbit.windows import find_windows

__all__ = ["HORIZON_S_MAX", "PAIRS_MAX", "Planner", "contact_windows"]

HORIZON_S_MAX = 7 * 86_400.0
PAIRS_MAX = 250_000

_Spans = list[tuple[float, float]]


class Planner:
    """Watches pairs of nodes. ``pairs=None`` watches all pairs; else only those that are named."""

    def __init__(
        self,
        nodes: Iterable[Node] = (),
        *,
        pairs: Iterable[tuple[str, str]] | None = None,
        horizon_s: float = 3 * 3600.0,
        policy: AgePolicy | None = DEFAULT_POLICY,
    ) -> None:
        """Raises GeometryRefused for a horizon or a number of pairs out of bounds, NodeUnknown for strange pairs."""
        if not 0.0 < horizon_s <= HORIZON_S_MAX:
            raise GeometryRefused(
                f"a horizon of {horizon_s!r} s", hint=f"it is from above 0 to {HORIZON_S_MAX:.0f} s"
            )
        self.horizon_s = horizon_s
        self._policy = policy
        self._nodes: dict[str, Node] = {}
        self._all = pairs is None
        self._wanted: dict[Pair, None] = {}
        self._known: dict[Pair, _Spans] = {}
        self._since: dict[Pair, float] = {}  # where a pair's knowledge begins
        self._prepared: tuple[list[str], Ensemble] | None = (
            None  # of the last extension: making records takes time
        )
        self._first = self._last = 0  # grid points between which every pair in _known is known
        for node in nodes:
            self.put(node)
        for a, b in pairs or ():
            self.watch(a, b)

    def put(self, node: Node) -> None:
        """Add a node, or replace the one of its id; its contacts are computed anew at the next advance."""
        if self._all and node.id not in self._nodes:
            count = len(self._nodes) + 1
            if count * (count - 1) // 2 > PAIRS_MAX:
                raise GeometryRefused(
                    f"all pairs of {count} nodes are more than {PAIRS_MAX}", hint="name the pairs to watch"
                )
        self._nodes[node.id] = node
        self._forget(node.id)

    def remove(self, node_id: str) -> None:
        """Take a node and its pairs away. Raises NodeUnknown."""
        if self._nodes.pop(node_id, None) is None:
            raise NodeUnknown(f"the planner has no node {node_id!r:.80}", hint="it may be gone already")
        self._forget(node_id)
        self._wanted = {pair: None for pair in self._wanted if node_id not in pair}

    def watch(self, a: str, b: str) -> None:
        """Watch a pair. Raises NodeUnknown, and GeometryRefused past the bound."""
        for one in (a, b):
            if one not in self._nodes:
                raise NodeUnknown(f"the planner has no node {one!r:.80}", hint="put it in before its pairs")
        if a == b:
            raise NodeUnknown(f"{a!r:.80} is no pair with itself", hint="name two nodes")
        if len(self._wanted) >= PAIRS_MAX:
            raise GeometryRefused(f"more than {PAIRS_MAX} pairs", hint="watch fewer")
        self._wanted[pair_of(a, b)] = None

    def _forget(self, node_id: str) -> None:
        self._prepared = None
        for pair in [pair for pair in self._known if node_id in pair]:
            del self._known[pair], self._since[pair]

    def _watched(self) -> list[Pair]:
        pairs = itertools.combinations(sorted(self._nodes), 2) if self._all else self._wanted
        return [pair for pair in pairs if any(isinstance(self._nodes[one], Satellite) for one in pair)]

    def advance(self, utc_s: float) -> ContactPlan:
        """The plan from the minute of this moment to the horizon after it. Raises TimeRefused."""
        now, end = (float(moment) for moment in as_times([utc_s, utc_s + self.horizon_s]))
        first, last = math.floor(now / GRID_S), math.ceil(end / GRID_S)
        if not self._first <= first <= self._last:
            self._known.clear()
            self._since.clear()
        watched = self._watched()
        fresh = [pair for pair in watched if pair not in self._known]
        if len(watched) > len(fresh):
            old = [pair for pair in watched if pair in self._known]
            last = max(last, self._last)
            self._extend(old, self._last, last)
        for pair in fresh:
            self._known[pair], self._since[pair] = [], first * GRID_S
        self._extend(fresh, first, last)
        self._first, self._last = first, last
        return self._plan(watched)

    def _extend(self, pairs: Sequence[Pair], first: int, last: int) -> None:
        """Add the contacts between two grid points to what is known."""
        if not pairs or first >= last:
            return
        names = sorted({name for pair in pairs for name in pair})
        rows = {name: row for row, name in enumerate(names)}
        nodes = [self._nodes[name] for name in names]
        if self._prepared is None or self._prepared[0] != names:
            flying = [node.elements for node in nodes if isinstance(node, Satellite)]
            self._prepared = names, Ensemble(flying, policy=self._policy)
        ephemeris = Ephemeris(nodes, self._prepared[1], first, last)
        ground: list[Pair] = []
        space: list[Pair] = []
        for pair in pairs:
            flies = [isinstance(self._nodes[name], Satellite) for name in pair]
            if all(flies):
                space.append(pair)
            else:  # the station first
                ground.append((pair[1], pair[0]) if flies[0] else pair)
        for kind, chosen in ((GroundMargins, ground), (SpaceMargins, space)):
            if chosen:
                margins: Margins = kind(nodes, [(rows[a], rows[b]) for a, b in chosen])
                self._merge(chosen, margins, ephemeris)

    def _merge(self, pairs: Sequence[Pair], margins: Margins, ephemeris: Ephemeris) -> None:
        spans = find_windows(margins, ephemeris)
        rows = zip(spans.pair.tolist(), spans.start_s.tolist(), spans.end_s.tolist(), strict=True)
        for row, start_s, end_s in rows:
            known = self._known[pair_of(*pairs[row])]
            if known and known[-1][1] == start_s:  # met at a grid point, whose time is exact
                known[-1] = (known[-1][0], end_s)
            else:
                known.append((start_s, end_s))

    def _plan(self, watched: Sequence[Pair]) -> ContactPlan:
        start_s, end_s = self._first * GRID_S, self._last * GRID_S
        contacts: dict[Pair, tuple[Window, ...]] = {}
        for pair in watched:
            self._known[pair] = [span for span in self._known[pair] if span[1] > start_s]
            since = self._since[pair]
            contacts[pair] = tuple(
                Window(begin, until, *pair, cut_start=begin == since, cut_end=until == end_s)
                for begin, until in self._known[pair]
            )
        ground = frozenset(name for name, node in self._nodes.items() if isinstance(node, GroundNode))
        return ContactPlan(
            start_s=start_s, end_s=end_s, nodes=frozenset(self._nodes), ground=ground, contacts=contacts
        )


def contact_windows(
    a: Node, b: Node, start_s: float, end_s: float, *, policy: AgePolicy | None = DEFAULT_POLICY
) -> tuple[Window, ...]:
    """The contacts of two nodes within a span of at most ``HORIZON_S_MAX``, cut at its ends.

    Raises TimeRefused for times that are none, GeometryRefused for a span that is empty or too long, NodeUnknown for
    two nodes of one id. Two ground nodes have no contacts.
    """
    planner = Planner([a, b], horizon_s=end_s - start_s, policy=policy)
    windows = planner.advance(start_s).windows_of(a.id, b.id)
    return tuple(
        msgspec.structs.replace(
            window,
            start_s=max(window.start_s, start_s),
            end_s=min(window.end_s, end_s),
            cut_start=window.cut_start or window.start_s < start_s,
            cut_end=window.cut_end or window.end_s > end_s,
        )
        for window in windows
        if window.end_s > start_s and window.start_s < end_s
    )
