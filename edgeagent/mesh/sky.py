"""Where the members are: their places as gossip brings them, and the contact table that is made of them.

Places change seldom (new elements, a new node), the table all the time: it is made anew on a thread when places have
changed, extended step by step as time goes on, and swapped in whole. Until the first one is there nothing is predicted.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import msgspec
import numpy as np
import structlog

from edgeagent.gossip.records import Place, Record, Section
from edgeagent.mesh.predicted import ContactTable, make_table
from edgeagent.model.decoding import UNDECODABLE
from edgeagent.orbit.eclipse import sunlit_share
from edgeagent.orbit.errors import OrbitFault
from edgeagent.orbit.nodes import GroundNode, Node, Satellite
from edgeagent.orbit.sun import sun_ecef_km
from edgeagent.orbit.wire import decode_elements
from edgeagent.topology.errors import TopologyRefused
from edgeagent.topology.protocols import IslSettings
from edgeagent.topology.topology import TopologySettings

__all__ = ["PLACES", "Sky", "SkySettings", "eclipse_in_s", "node_of", "sunlit"]

log = structlog.get_logger("mesh")

_STEPS_AT_ONCE = 64
_EVERY_S = 5.0
_SHADOW_STEP_S = 10.0

PLACES = (Section.PLACE, Section.EPHEMERIS)  # the sections that say where a member is

_places = msgspec.msgpack.Decoder(Place)


class SkySettings(msgspec.Struct, frozen=True, kw_only=True):
    """How links are predicted; the same on every node, or their predictions differ."""

    isl: str = "nearest"
    ground_network: bool = True
    horizon_s: float = 3 * 3600.0
    step_s: float = 10.0
    mask_deg: float = 10.0


def node_of(name: str, record: Record, mask_deg: float) -> Node | None:
    """What a record of one of PLACES says; None where it says nothing. Raises OrbitFault or msgspec's errors."""
    place = _places.decode(record.payload)
    if place.elements:
        return Satellite(name, decode_elements(place.elements))
    if place.latitude_deg is None or place.longitude_deg is None:
        return None
    return GroundNode(
        id=name,
        latitude_deg=place.latitude_deg,
        longitude_deg=place.longitude_deg,
        height_m=place.height_m or 0.0,
        mask_deg=mask_deg,
    )


def _best(own: Node | None, ephemeris: Node | None) -> Node | None:
    """Newer elements win; who says that it stands on the ground does so."""
    if isinstance(own, Satellite) and isinstance(ephemeris, Satellite):
        return max(own, ephemeris, key=lambda one: one.elements.epoch_us)
    return ephemeris if own is None else own


def sunlit(node: Node | None, utc_s: float) -> bool | None:
    """Whether a satellite has more sun than shadow; None for what is none, or has no position."""
    if not isinstance(node, Satellite):
        return None
    where = node.positions_km([utc_s])[0]
    if np.isnan(where).any():
        return None
    return bool(np.asarray(sunlit_share(where, sun_ecef_km(utc_s))).reshape(-1)[0] > 0.5)


def eclipse_in_s(node: Node | None, utc_s: float, ahead_s: float) -> float | None:
    """Seconds until a satellite has more shadow than sun, 0 while it has, to 10 s; None: not within ``ahead_s``, or
    not known.
    """
    if not isinstance(node, Satellite):
        return None
    times_s = np.arange(utc_s, utc_s + ahead_s + _SHADOW_STEP_S, _SHADOW_STEP_S)
    where = node.positions_km(times_s)
    for row, at_s in enumerate(times_s.tolist()):
        if np.isnan(where[row]).any():
            return None
        if np.asarray(sunlit_share(where[row], sun_ecef_km(at_s))).reshape(-1)[0] <= 0.5:
            return float(at_s - utc_s)
    return None


class Sky:
    """A :class:`gossip.occlusion.Contacts`. On the loop's thread; what takes long runs beside it."""

    def __init__(self, settings: SkySettings, utc_s: Callable[[], float | None]) -> None:
        self.settings = settings
        self.nodes: dict[str, Node] = {}
        self.table: ContactTable | None = None
        self.refused = 0  # places that cannot be
        self._told: dict[str, dict[int, Node | None]] = {}
        self._distrusted: dict[str, int] = {}  # the epoch of the elements that measurements contradict
        self._utc_s = utc_s
        self._topology = TopologySettings(isl=IslSettings(protocol=settings.isl), step_s=settings.step_s)
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._keep_up())

    async def close(self) -> None:
        """Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def take(self, record: Record) -> None:
        """A member's place is new, or an operator knows it better."""
        try:
            node = node_of(record.name, record, self.settings.mask_deg)
        except (OrbitFault, *UNDECODABLE) as error:
            self.refused += 1
            log.warning("a member's place is refused", member=record.name, why=str(error)[:200])
            return
        told = self._told.setdefault(record.name, {})
        told[record.section] = node
        best = _best(told.get(Section.PLACE), told.get(Section.EPHEMERIS))
        if isinstance(best, Satellite) and best.elements.epoch_us <= self._distrusted.get(record.name, -1):
            return
        self._distrusted.pop(record.name, None)
        if best is None:
            self.nodes.pop(record.name, None)
        else:
            self.nodes[record.name] = best
        self._changed.set()

    def distrust(self, name: str) -> bool:
        """Measurements contradict the elements of a satellite: nothing is predicted of it until there are newer ones.
        Whether there were any to distrust.
        """
        node = self.nodes.get(name)
        if not isinstance(node, Satellite):
            return False
        self._distrusted[name] = node.elements.epoch_us
        del self.nodes[name]
        self._changed.set()
        return True

    def is_distrusted(self, name: str) -> bool:
        return name in self._distrusted

    def distance_km(self, a: str, b: str, utc_s: float) -> float | None:
        """Along the straight line; None where one of them has no position, or neither moves."""
        one, other = self.nodes.get(a), self.nodes.get(b)
        if one is None or other is None or not (isinstance(one, Satellite) or isinstance(other, Satellite)):
            return None
        distance_km = float(np.linalg.norm(one.positions_km([utc_s])[0] - other.positions_km([utc_s])[0]))
        return distance_km if math.isfinite(distance_km) else None

    def forget(self, name: str) -> None:
        self._told.pop(name, None)
        self._distrusted.pop(name, None)
        if self.nodes.pop(name, None) is not None:
            self._changed.set()

    def reachable(self, a: str, b: str, at_s: float) -> bool:
        return self.table is None or self.table.reachable(a, b, at_s)

    def predicts(self, a: str, b: str, at_s: float) -> bool:
        """Whether the table says anything about the two at this time."""
        return self.table is not None and self.table.covers(a, b, at_s)

    def returns_at_s(self, a: str, b: str, at_s: float) -> float | None:
        return at_s if self.table is None else self.table.returns_at_s(a, b, at_s)

    async def _keep_up(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_EVERY_S):
                    await self._changed.wait()
            except TimeoutError:
                await self._extend(self.table)
                continue
            self._changed.clear()
            await self._make()

    async def _make(self) -> None:
        try:
            table = await asyncio.to_thread(
                make_table, dict(self.nodes), self._topology, ground_network=self.settings.ground_network
            )
        except (OrbitFault, TopologyRefused) as error:
            log.warning("nothing can be predicted", why=error.message, hint=error.hint)
            self.table = None
            return
        await self._extend(table)
        self.table = table

    async def _extend(self, table: ContactTable | None) -> None:
        while table is not None and not self._changed.is_set():
            utc_s = self._utc_s()
            if utc_s is None:
                return
            if await asyncio.to_thread(
                table.extend, utc_s, self.settings.horizon_s, steps_max=_STEPS_AT_ONCE
            ):
                return
