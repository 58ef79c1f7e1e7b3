"""The schedulers that placements are compared with: HyperDrive's own rules, and simple ones with and without latency.

HyperDrive (arXiv:2410.16026), re-implemented from its formulas: candidates in the vicinity of the predecessor, in the
order of their ids up to a cap; those with the resources and within the latency limits; the score is the mean of a
network score, relative to the best and the worst of the candidates, and a heat score; the best three are tried in
order.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgeagent.simulator.wildfire_play import Turn

__all__ = ["RIVALS", "geodesic_km"]

Floats = NDArray[np.float64]
_VICINITY = {"ground-station": (500.0, 120), "edge": (200.0, 120), "satellite": (2000.0, 60)}  # km, how many
_TRIES_MAX = 8  # nodes that the simple rules name, like ours; HyperDrive has 3 by its own rule


def geodesic_km(
    latitude_deg: float, longitude_deg: float, latitudes_deg: Floats, longitudes_deg: Floats
) -> Floats:
    """Along the WGS-84 ellipsoid from one place to others, by Vincenty's inverse formula (Survey Review 176, 1975).

    Good to 0.5 mm, but for places within half a degree of the antipode, where what it reaches after 50 rounds is given.
    """
    flattening, equator = 1.0 / 298.257223563, 6378.137
    polar = equator * (1.0 - flattening)
    u1 = math.atan((1.0 - flattening) * math.tan(math.radians(latitude_deg)))
    u2 = np.arctan((1.0 - flattening) * np.tan(np.radians(latitudes_deg)))
    apart = np.radians(longitudes_deg - longitude_deg)
    lam = apart.copy()
    for _ in range(50):
        across = np.cos(u2) * np.sin(lam)
        along = math.cos(u1) * np.sin(u2) - math.sin(u1) * np.cos(u2) * np.cos(lam)
        sine = np.hypot(across, along)
        cosine = math.sin(u1) * np.sin(u2) + math.cos(u1) * np.cos(u2) * np.cos(lam)
        sigma = np.arctan2(sine, cosine)
        safe = np.where(sine == 0.0, 1.0, sine)
        alpha = math.cos(u1) * np.cos(u2) * np.sin(lam) / safe
        alpha2 = 1.0 - alpha * alpha
        middle = np.where(
            alpha2 > 0.0, cosine - 2.0 * math.sin(u1) * np.sin(u2) / np.where(alpha2 > 0, alpha2, 1.0), 0.0
        )
        c = flattening / 16.0 * alpha2 * (4.0 + flattening * (4.0 - 3.0 * alpha2))
        turn = sigma + c * sine * (middle + c * cosine * (2.0 * middle * middle - 1.0))
        following = apart + (1.0 - c) * flattening * alpha * turn
        if np.abs(following - lam).max(initial=0.0) < 1e-12:
            break
        lam = following
    squared = alpha2 * (equator**2 - polar**2) / polar**2
    a = 1.0 + squared / 16384.0 * (4096.0 + squared * (-768.0 + squared * (320.0 - 175.0 * squared)))
    b = squared / 1024.0 * (256.0 + squared * (-128.0 + squared * (74.0 - 47.0 * squared)))
    last = b / 6.0 * middle * (4.0 * sine**2 - 3.0) * (4.0 * middle**2 - 3.0)
    delta = b * sine * (middle + b / 4.0 * (cosine * (2.0 * middle**2 - 1.0) - last))
    return np.asarray(polar * a * (sigma - delta))


def _fits(turn: Turn) -> NDArray[np.bool_]:
    """Architecture and resources."""
    demand = np.array([turn.task.milli_cpu, turn.task.memory_mib])
    return turn.architecture_fits & (turn.free >= demand).all(axis=1)


def _within_slo(turn: Turn) -> NDArray[np.bool_]:
    within = turn.from_predecessor_ms() <= turn.latency_ms_max
    data = turn.from_source_ms()
    return within if data is None else within & (data <= turn.data_ms_max)


def _hyperdrive(turn: Turn, _chance: random.Random) -> list[int]:
    latitude, longitude = turn.places_deg
    here = turn.predecessor
    away = geodesic_km(float(latitude[here]), float(longitude[here]), latitude, longitude)
    candidates: list[int] = []
    for kind, (radius_km, cap) in _VICINITY.items():
        near = np.flatnonzero(turn.of_kind(kind) & (away <= radius_km))
        candidates += near[:cap].tolist()
    fits = _fits(turn) & _within_slo(turn)
    eligible = np.array([node for node in candidates if fits[node]], dtype=np.intp)
    if not len(eligible):
        return []
    data = turn.from_source_ms()
    ways = turn.from_predecessor_ms()[eligible]
    worst = ways if data is None else np.maximum(ways, data[eligible])
    whole = np.rint(worst)
    low, high = whole.min(), whole.max()
    network = np.zeros(len(eligible)) if high == low else np.floor(100.0 * (high - whole) / (high - low))
    after, recommended, highest = (part[eligible] for part in turn.heat_c)
    with np.errstate(invalid="ignore"):
        middling = np.floor(100.0 * (1.0 - (after - recommended) / (highest - recommended)))
    heat = np.where(after <= recommended, 100.0, np.where(after > highest, 0.0, middling))
    score = np.floor((network + heat) / 2.0)
    return [int(node) for node in eligible[np.argsort(-score, kind="stable")][:3]]


def _first_fit(turn: Turn, _chance: random.Random) -> list[int]:
    return _in_order(turn)[:_TRIES_MAX]


def _in_order(turn: Turn) -> list[int]:
    fits = _fits(turn)
    rows: list[int] = []
    for kind in ("ground-station", "edge", "satellite"):
        rows += np.flatnonzero(turn.of_kind(kind) & fits).tolist()
    return rows


def _round_robin(turn: Turn, _chance: random.Random) -> list[int]:
    """From satellite 0 on, by id: the next one each time."""
    fits = np.flatnonzero(_fits(turn))
    at = int(np.searchsorted(fits, turn.number))
    return [int(one) for one in np.take(fits, range(at, at + _TRIES_MAX), mode="wrap")] if len(fits) else []


def _random(turn: Turn, chance: random.Random) -> list[int]:
    fits = np.flatnonzero(_fits(turn) & np.isfinite(turn.from_predecessor_ms()))
    return [int(chance.choice(fits)) for _ in range(_TRIES_MAX)] if len(fits) else []


def _least(turn: Turn, cost: Floats) -> list[int]:
    """The nodes of least cost among those that meet everything, the heat's recommendation included."""
    cool = turn.heat_c[0] <= turn.heat_c[1]
    good = _fits(turn) & _within_slo(turn) & cool & np.isfinite(cost)
    rows = np.flatnonzero(good)
    return [int(one) for one in rows[np.argsort(cost[rows], kind="stable")][:_TRIES_MAX]]


def _nearest(turn: Turn, _chance: random.Random) -> list[int]:
    return _least(turn, turn.from_predecessor_ms())


def _greedy(turn: Turn, _chance: random.Random) -> list[int]:
    """Least of the longer of both legs, then of their sum."""
    ways, data = turn.from_predecessor_ms(), turn.from_source_ms()
    return _least(turn, ways if data is None else np.maximum(ways, data) + 1e-3 * (ways + data))


RIVALS: dict[str, Callable[[Turn, random.Random], list[int]]] = {
    "hyperdrive": _hyperdrive,
    "nearest": _nearest,
    "greedy": _greedy,
    "first-fit": _first_fit,
    "round-robin": _round_robin,
    "random": _random,
}
