"""Where the sun is: the low-precision formula of the Astronomical Almanac (C5), to 0.01 degree from 1950 to 2050.

As in Vallado, Fundamentals of Astrodynamics and Applications, algorithm 29. The axes are the mean equator and equinox
of date; TEME differs from them by the nutation, 0.005 degree at most, which is within the formula's own error.
Terrestrial time is taken as UTC (69 s: 0.001 degree).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeagent.orbit.frames import teme_to_ecef
from edgeagent.orbit.instants import DAY_S, UNIX_EPOCH_JD
from edgeagent.orbit.sidereal import as_times, sidereal_angle

__all__ = ["AU_KM", "sun_ecef_km", "sun_teme_km"]

Floats = NDArray[np.float64]

AU_KM = 149_597_870.7
_J2000_JD = 2_451_545.0


def sun_teme_km(utc_s: ArrayLike) -> Floats:
    """The sun's position ``(T, 3)`` from the Earth's centre in TEME, km. Raises TimeRefused."""
    days = as_times(utc_s) / DAY_S + (UNIX_EPOCH_JD - _J2000_JD)
    centuries = days / 36_525.0
    longitude = np.radians((280.460 + 36_000.771 * centuries) % 360.0)
    anomaly = np.radians((357.529_109_2 + 35_999.050_34 * centuries) % 360.0)
    ecliptic = longitude + np.radians(1.914_666_471 * np.sin(anomaly) + 0.019_994_643 * np.sin(2 * anomaly))
    distance = AU_KM * (1.000_140_612 - 0.016_708_617 * np.cos(anomaly) - 0.000_139_589 * np.cos(2 * anomaly))
    obliquity = np.radians(23.439_291 - 0.013_004_2 * centuries)
    sin = np.sin(ecliptic)
    unit = np.stack([np.cos(ecliptic), np.cos(obliquity) * sin, np.sin(obliquity) * sin], axis=-1)
    return np.asarray(unit * distance[:, np.newaxis])


def sun_ecef_km(utc_s: ArrayLike) -> Floats:
    """The sun's position ``(T, 3)`` in ECEF, km. Raises TimeRefused."""
    times = as_times(utc_s)
    return teme_to_ecef(sun_teme_km(times), sidereal_angle(times))
