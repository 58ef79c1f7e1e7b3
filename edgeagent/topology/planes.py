"""Orbital planes found from mean elements: shells by inclination and altitude, planes by node (RAAN).

Mean, not osculating elements: the Earth's flattening moves an osculating axis by up to 10 km in each turn, as much as
shells are apart. Nodes drift (J2), so elements of different epochs are brought to one moment first (Vallado,
Fundamentals of Astrodynamics, 9.3). Groups are split where sorted values leave a gap: nothing is assumed of the
number of planes. Satellites that are raising their orbits make small groups of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeagent.orbit.elements import Elements

__all__ = ["MeanOrbits", "Planes", "mean_orbits", "planes_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

_MU_KM3_S2 = 398_600.8  # WGS-72, as in SGP4
_EARTH_KM = 6378.135
_J2 = 1.082_616e-3
_DAY_S = 86_400.0


@dataclass(frozen=True, eq=False)
class MeanOrbits:
    """One number a satellite each: degrees (node and argument of latitude in 0..360) and km above the equator."""

    inclination_deg: Floats
    altitude_km: Floats
    raan_deg: Floats
    latitude_argument_deg: Floats


@dataclass(frozen=True, eq=False)
class Planes:
    """The shell and the plane of each satellite, numbered from 0; planes of a shell are numbered by their node."""

    shell: Ints
    plane: Ints


def mean_orbits(elements: Sequence[Elements], utc_s: float) -> MeanOrbits:
    """Where mean elements have drifted to at a moment: two-body motion and the secular part of J2."""
    table = np.array(
        [
            (
                one.inclination_deg,
                one.mean_motion_rev_day,
                one.eccentricity,
                one.raan_deg,
                one.arg_perigee_deg + one.mean_anomaly_deg,
                utc_s - one.epoch_s,
            )
            for one in elements
        ],
        dtype=np.float64,
    ).reshape(-1, 6)
    inclination, turns, eccentricity, raan, latitude, age_s = table.T
    motion = turns * 2.0 * math.pi / _DAY_S
    axis = (_MU_KM3_S2 / motion**2) ** (1 / 3)
    drift = 1.5 * _J2 * (_EARTH_KM / (axis * (1.0 - eccentricity**2))) ** 2 * motion
    cos = np.cos(np.radians(inclination))
    # A TLE's mean motion holds J2's part of the mean anomaly, not that of the perigee.
    along = motion + drift * (2.5 * cos**2 - 0.5)
    return MeanOrbits(
        inclination_deg=inclination,
        altitude_km=axis - _EARTH_KM,
        raan_deg=np.asarray((raan - np.degrees(drift * cos * age_s)) % 360.0),
        latitude_argument_deg=np.asarray((latitude + np.degrees(along * age_s)) % 360.0),
    )


def _groups(values: Floats, gap: float) -> Ints:
    """Numbers groups of close values by size of value."""
    order = np.argsort(values, kind="stable")
    steps = np.diff(values[order], prepend=values[order[:1]]) > gap
    labels = np.empty(len(values), dtype=np.int32)
    labels[order] = np.cumsum(steps)
    return labels


def _round_groups(degrees: Floats, gap: float) -> Ints:
    """The same on a circle, counted from the widest gap on."""
    order = np.argsort(degrees, kind="stable")
    ahead = np.roll(degrees[order], -1) - degrees[order]
    ahead[-1] += 360.0
    start = degrees[order[(int(np.argmax(ahead)) + 1) % len(order)]]
    labels = _groups((degrees - start) % 360.0, gap)
    # Count from the node nearest to 0, so that planes keep their numbers.
    means = np.array([_circular_mean(degrees[labels == label]) for label in range(int(labels.max()) + 1)])
    return np.argsort(np.argsort(means, kind="stable"), kind="stable").astype(np.int32)[labels]


def _circular_mean(degrees: Floats) -> float:
    angles = np.radians(degrees)
    mean = math.degrees(math.atan2(float(np.sin(angles).sum()), float(np.cos(angles).sum()))) % 360.0
    return 0.0 if mean > 360.0 - 1e-9 else mean


def planes_of(
    orbits: MeanOrbits,
    *,
    inclination_gap_deg: float = 0.3,
    altitude_gap_km: float = 3.0,
    raan_gap_deg: float = 1.0,
) -> Planes:
    """Groups satellites into shells and planes, split where sorted values are further apart than the gaps."""
    count = len(orbits.raan_deg)
    shell, plane = np.zeros(count, dtype=np.int32), np.zeros(count, dtype=np.int32)
    tilts = _groups(orbits.inclination_deg, inclination_gap_deg)
    shells = planes = 0
    for tilt in range(int(tilts.max(initial=-1)) + 1):
        tilted = np.flatnonzero(tilts == tilt)
        heights = _groups(orbits.altitude_km[tilted], altitude_gap_km)
        for height in range(int(heights.max()) + 1):
            members = tilted[heights == height]
            nodes = _round_groups(orbits.raan_deg[members], raan_gap_deg)
            shell[members] = shells
            plane[members] = nodes + planes
            shells += 1
            planes += int(nodes.max()) + 1
    return Planes(shell, plane)
