"""Makes wildfire cases of any size, season and region, by the rules of HyperDrive's scenario 01 (arXiv:2410.16026).

A Walker shell of satellites on SGP4 orbits (550 km, 53 degrees, epoch 2020-01-01), edge nodes in a region that burns,
ground stations anywhere; five drones, one after the other, start the chain ingest -> extract-frames -> object-det ->
prepare-ds, whose third task needs the data of an earth-observation satellite that passes over the drone.
"""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sgp4.api import WGS84, Satrec, SatrecArray

from edgeagent.model.errors import BadRequest
from edgeagent.orbit.frames import teme_to_ecef
from edgeagent.orbit.geodetic import geodetic_of
from edgeagent.orbit.sidereal import julian, sidereal_angle
from edgeagent.simulator.wildfire_case import CASE_FORMAT, Case, case_of

__all__ = ["SIZES", "WildfireRecipe", "make_case"]

Floats = NDArray[np.float64]

SIZES = {1118: 14, 2236: 28, 3354: 42, 4472: 56}  # nodes in all: satellites a plane
_PLANES = 72
_START_UTC_S = 1_719_882_000.0  # 2024-07-02T01:00:00Z
_EARTH_KM = 6371.0
_SPEED_KM_MS = 17.31 / 29.5 * 299.792458  # the original's
_REACH_KM = 1123.2826 * 29.5 / 17.31  # of a terrestrial antenna: the original's bound, 1,914 km
_EO_RANGE_KM = 500.0
_DRONES = (
    (39.493917, -122.981303),
    (39.525713, -123.000053),
    (39.42, -122.92),
    (39.59, -122.99),
    (39.53, -123.10),
)
_DECISIONS = ((2, 4, 8), (10, 12, 16), (18, 20, 24), (26, 28, 32), (34, 36, 40))
_HEAT = [
    {
        "max_C": 75.0,
        "recommended_C": 65.0,
        "radiated_C_per_min": 0.1,
        "inc_C_per_cpu_min": rise,
        "mock_orbit_base_C": base,
    }
    for rise, base in ((0.5, 45.0), (2.0, 60.0), (1.0, 55.0))
]
_BOTH = ["arm64", "x86_64"]
_TASKS = {
    "ingest": {"milli_cpu": 1000, "memory_mib": 2048, "archs": ["arm64"]},
    "extract-frames": {
        "milli_cpu": 4000, "memory_mib": 2048, "archs": _BOTH, "max_pred_latency_ms": 100,
        "expected_exec_ms": {"arm64": 60_000, "x86_64": 50_000},
    },
    "object-det": {
        "milli_cpu": 4000, "memory_mib": 2048, "archs": _BOTH, "max_pred_latency_ms": 150,
        "expected_exec_ms": {"arm64": 600_000, "x86_64": 500_000},
        "data_source": "eo_satellite", "max_data_latency_ms": 175,
    },
    "prepare-ds": {
        "milli_cpu": 4000, "memory_mib": 4096, "archs": _BOTH, "max_pred_latency_ms": 100,
        "expected_exec_ms": {"arm64": 90_000, "x86_64": 80_000},
    },
}  # fmt: skip


class WildfireRecipe(msgspec.Struct, frozen=True, kw_only=True):
    """What a case is made of. Latitudes and longitudes in degrees; ``start_minute`` after 2024-07-02T01:00:00Z.

    The drones lie as in the original, moved by the difference between ``centre`` and its own.
    """

    sats_per_plane: int = 14
    seed: int = 1
    planes: int = _PLANES
    inclination_deg: float = 53.0
    edge_nodes: int | None = None  # None: 100 for every 14 satellites a plane, as in the original
    ground_stations: int | None = None
    start_minute: int = 0
    centre: tuple[float, float] = (39.51, -122.99)
    radius_deg: tuple[float, float] = (4.6, 4.8)

    def __post_init__(self) -> None:
        counts = (self.sats_per_plane, self.planes)
        if min(counts) < 3 or max(counts) > 2000 or not -60.0 <= self.centre[0] <= 60.0:
            raise BadRequest(
                f"a case of {self.planes} planes of {self.sats_per_plane} around {self.centre}",
                hint="give 3 to 2,000 of each, and a centre between 60 degrees south and north",
            )


def _positions(recipe: WildfireRecipe, minutes: list[int]) -> tuple[Floats, Floats, Floats]:
    """(latitude, longitude in degrees, altitude in km), ``(satellites, minutes)``."""
    count = recipe.planes * recipe.sats_per_plane
    motion = math.sqrt(3.9860044e14 / (6_371_393.0 + 550_000.0) ** 3) * 60.0
    orbits = []
    for number in range(count):
        plane, slot = divmod(number, recipe.sats_per_plane)
        anomaly = (360.0 * slot / recipe.sats_per_plane + plane * 360.0 * 18.0 / count) % 360.0
        one = Satrec()
        one.sgp4init(
            WGS84, "i", number % 100_000, 25_568.0, 2.8098e-05, 6.969196665e-13, 0.0, 0.001, 0.0,
            math.radians(recipe.inclination_deg), math.radians(anomaly), motion,
            math.radians(360.0 * plane / recipe.planes),
        )  # fmt: skip
        orbits.append(one)
    times = _START_UTC_S + 60.0 * (np.array(minutes, dtype=np.float64) - 1.0 + recipe.start_minute)
    days, fractions = julian(times)
    errors, places, _ = SatrecArray(orbits).sgp4(days, fractions)
    if errors.any():
        raise BadRequest("orbits of the case decay before its start", hint="choose an earlier start")
    return geodetic_of(teme_to_ecef(places, sidereal_angle(times)))


def _sphere(latitude: Floats, longitude: Floats, altitude_km: Floats | float) -> Floats:
    phi, lam = np.radians(latitude), np.radians(longitude)
    radius = _EARTH_KM + altitude_km
    return np.stack(
        [radius * np.cos(phi) * np.cos(lam), radius * np.cos(phi) * np.sin(lam), radius * np.sin(phi)],
        axis=-1,
    )


def _terrestrial(recipe: WildfireRecipe, first: int, chance: random.Random) -> list[dict[str, Any]]:
    edges = recipe.edge_nodes if recipe.edge_nodes is not None else 100 * recipe.sats_per_plane // 14
    stations = (
        recipe.ground_stations if recipe.ground_stations is not None else 10 * recipe.sats_per_plane // 14
    )
    north, east = recipe.centre[0] - 39.51, recipe.centre[1] + 122.99
    places = [(latitude + north, longitude + east) for latitude, longitude in _DRONES]
    for _ in range(max(edges, len(_DRONES)) - len(_DRONES)):
        tall, wide = recipe.radius_deg
        places.append(
            (recipe.centre[0] + chance.uniform(-tall, tall), recipe.centre[1] + chance.uniform(-wide, wide))
        )
    nodes: list[dict[str, Any]] = []
    for latitude, longitude in places:
        big = chance.random() < 0.5
        size = {"milli_cpu": 4000, "memory_mib": 4096} if big else {"milli_cpu": 2000, "memory_mib": 2048}
        nodes.append({"kind": "edge", "lat": latitude, "lon": _wrapped(longitude), "arch": "arm64", **size})
    fixed = [(51.0, 4.5), (32.5, -106.6)]  # Belgium, New Mexico: the first two of the original
    for number in range(stations):
        sine = chance.uniform(-1.0, 1.0)
        anywhere = (math.degrees(math.asin(sine)), chance.uniform(-180.0, 180.0))
        latitude, longitude = fixed[number] if number < len(fixed) else anywhere
        size = {"milli_cpu": 32_000, "memory_mib": 32_768}
        nodes.append({"kind": "ground-station", "lat": latitude, "lon": longitude, "arch": "x86_64", **size})
    return [{"id": first + index, **node} for index, node in enumerate(nodes)]


def _wrapped(longitude: float) -> float:
    return (longitude + 180.0) % 360.0 - 180.0


def _arc_km(latitude: Floats, longitude: Floats, place: tuple[float, float]) -> Floats:
    """Along the surface of the sphere."""
    there = _sphere(latitude, longitude, -_EARTH_KM + 1.0)
    here = _sphere(np.array(place[0]), np.array(place[1]), -_EARTH_KM + 1.0)
    return np.asarray(_EARTH_KM * np.arccos(np.clip(there @ here, -1.0, 1.0)))


def _eo_satellite(latitude: Floats, longitude: Floats, place: tuple[float, float]) -> int:
    """The last of the first ten, by id, within 500 km of the drone; the nearest where there is none."""
    arc = _arc_km(latitude, longitude, place)
    near = np.flatnonzero(arc <= _EO_RANGE_KM)[:10]
    return int(near[-1]) if len(near) else int(arc.argmin())


def _ground_links(satellites: Floats, ground: Floats, first: int) -> list[tuple[int, int, float]]:
    """Of each terrestrial node its nearest satellite within reach."""
    links = []
    for index, place in enumerate(ground):
        distance = np.linalg.norm(satellites - place, axis=1)
        nearest = int(distance.argmin())
        if distance[nearest] < _REACH_KM:
            links.append((first + index, nearest, round(float(distance[nearest]) / _SPEED_KM_MS, 4)))
    return links


def make_case(recipe: WildfireRecipe) -> Case:
    """The case; the same recipe gives the same one. Raises BadRequest for recipes that cannot be."""
    chance = random.Random(recipe.seed)
    count = recipe.planes * recipe.sats_per_plane
    terrestrial = _terrestrial(recipe, count, chance)
    minutes = sorted({t for times in _DECISIONS for t in times})
    latitude, longitude, altitude = _positions(recipe, minutes)
    ground = _sphere(
        np.array([one["lat"] for one in terrestrial]), np.array([one["lon"] for one in terrestrial]), 0.0
    )
    snapshots = {}
    for column, t in enumerate(minutes):
        places = _sphere(latitude[:, column], longitude[:, column], altitude[:, column])
        snapshots[str(t)] = {
            "sat_lat_e4": np.rint(latitude[:, column] * 1e4).astype(int).tolist(),
            "sat_lon_e4": np.rint(longitude[:, column] * 1e4).astype(int).tolist(),
            "sat_alt_m": np.rint(altitude[:, column] * 1e3).astype(int).tolist(),
            "ground_links": _ground_links(places, ground, count),
        }
    names = list(_TASKS)[1:]
    instances = []
    for wf, times in enumerate(_DECISIONS):
        drone = terrestrial[wf]
        column = minutes.index(times[0])
        eo = _eo_satellite(latitude[:, column], longitude[:, column], (drone["lat"], drone["lon"]))
        instances.append(
            {
                "wf": wf, "ingest_node": drone["id"], "eo_satellite": eo,
                "decision_times": dict(zip(names, times, strict=True)),
            }
        )  # fmt: skip
    return case_of(
        {
            "format": CASE_FORMAT,
            "nodes_total": count + len(terrestrial),
            "orbits": {"planes": recipe.planes, "sats_per_plane": recipe.sats_per_plane},
            "link_model": {"signal_speed_km_per_ms": _SPEED_KM_MS, "earth_radius_km": _EARTH_KM},
            "nodes": {
                "satellites": {
                    "count": count, "arch": "arm64", "milli_cpu": 4000, "memory_mib": 4096,
                    "heat_class": "".join(chance.choice("012") for _ in range(count)), "heat_classes": _HEAT,
                },
                "terrestrial": terrestrial,
            },
            "workflow": {"chain": list(_TASKS), "tasks": _TASKS},
            "instances": instances,
            "snapshots": snapshots,
        }
    )  # fmt: skip
