"""The baseline of the orbit benchmark: contacts of one pair, sampled call by call in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeagent.orbit.instants import DAY_S, UNIX_EPOCH_JD
from edgeagent.orbit.propagation import satrec_of
from edgeagent.orbit.sidereal import as_times, sidereal_angle

if TYPE_CHECKING:
    from edgeagent.orbit.nodes import Node

__all__ = ["loop_windows"]

STEP_S = 10.0
_CLEAR_KM = 6378.137 + 80.0
Vector = tuple[float, float, float]


def _places(node: Node, start_s: float) -> Callable[[float], Vector]:
    """The position in ECEF at a moment."""
    from edgeagent.orbit.nodes import Satellite

    if not isinstance(node, Satellite):
        x, y, z = node.position_km.tolist()
        return lambda _: (x, y, z)
    record = satrec_of(node.elements)
    angle = float(sidereal_angle(as_times(start_s))[0])

    def at(utc_s: float) -> Vector:
        day = math.floor(utc_s / DAY_S)
        _, (x, y, z), _ = record.sgp4(UNIX_EPOCH_JD + day, (utc_s - day * DAY_S) / DAY_S)
        turn = angle + 7.292115855e-5 * (utc_s - start_s)
        cos, sin = math.cos(turn), math.sin(turn)
        return cos * x + sin * y, cos * y - sin * x, z

    return at


def _seen(a: Node, b: Node, start_s: float) -> Callable[[float], bool]:
    from edgeagent.orbit.geodetic import up_of
    from edgeagent.orbit.nodes import GroundNode

    place_a, place_b = _places(a, start_s), _places(b, start_s)
    if isinstance(b, GroundNode):
        up: Vector = tuple(up_of(b.latitude_deg, b.longitude_deg).tolist())
        sin_mask = math.sin(math.radians(b.mask_deg))

        def above(utc_s: float) -> bool:
            (x, y, z), (u, v, w) = place_a(utc_s), place_b(utc_s)
            d = (x - u, y - v, z - w)
            return d[0] * up[0] + d[1] * up[1] + d[2] * up[2] >= sin_mask * math.hypot(*d)

        return above
    reach = min(a.range_km_max, b.range_km_max)

    def clear(utc_s: float) -> bool:
        (x, y, z), (u, v, w) = place_a(utc_s), place_b(utc_s)
        d = (u - x, v - y, w - z)
        length2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
        part = min(1.0, max(0.0, -(x * d[0] + y * d[1] + z * d[2]) / (length2 or 1.0)))
        nearest = math.hypot(x + part * d[0], y + part * d[1], z + part * d[2])
        return length2 <= reach * reach and nearest >= _CLEAR_KM

    return clear


def loop_windows(a: Node, b: Node, start_s: float, end_s: float) -> list[tuple[float, float]]:
    """Contacts of a satellite ``a`` and a node ``b``, edges to a second; those shorter than 10 s may be missing."""
    seen = _seen(a, b, start_s)
    edges = [start_s] if seen(start_s) else []
    known, moment = bool(edges), start_s
    while moment < end_s:
        after = min(moment + STEP_S, end_s)
        if seen(after) != known:
            low, high = moment, after
            while high - low > 1.0:
                middle = (low + high) / 2
                low, high = (middle, high) if seen(middle) == known else (low, middle)
            edges.append(high)
            known = not known
        moment = after
    if known:
        edges.append(end_s)
    return list(zip(edges[::2], edges[1::2], strict=True))
