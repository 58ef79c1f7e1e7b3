"""What a station sees: azimuth, elevation and slant range of a position, and how fast the range grows.

The vertical is the ellipsoid's normal. Refraction (0.5 degree at the horizon, 0.1 at 10 degrees) and light time (2 ms
from a low orbit, 20 m of its way) are left out: the first depends on weather, the second is below what elements are
good for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeagent.orbit.geodetic import ecef_of, up_of

__all__ = ["Look", "look_at", "range_rate_km_s", "slant_range_max_km"]

Floats = NDArray[np.float64]


class Look(NamedTuple):
    """Azimuth from north over east in 0..360 degrees, elevation in -90..90 degrees, slant range in km."""

    azimuth_deg: Floats
    elevation_deg: Floats
    range_km: Floats


def look_at(latitude_deg: float, longitude_deg: float, height_km: float, target_ecef_km: ArrayLike) -> Look:
    """Look angles from a station to positions ``(..., 3)``, ECEF km.

    At a pole north is where the meridian of the station's longitude points; in the zenith the azimuth is 0.
    """
    up = up_of(latitude_deg, longitude_deg)
    lat, lon = np.radians(latitude_deg), np.radians(longitude_deg)
    east = np.array([-np.sin(lon), np.cos(lon), 0.0])
    north = np.array([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
    away = np.asarray(target_ecef_km, dtype=np.float64) - ecef_of(latitude_deg, longitude_deg, height_km)
    horizontal = np.hypot(away @ east, away @ north)
    azimuth = np.degrees(np.arctan2(away @ east, away @ north)) % 360.0
    azimuth = np.where(azimuth >= 360.0, 0.0, azimuth)
    elevation = np.degrees(np.arctan2(away @ up, horizontal))
    return Look(azimuth, elevation, np.sqrt((away**2).sum(axis=-1)))


def range_rate_km_s(away_km: ArrayLike, relative_km_s: ArrayLike) -> Floats:
    """How fast a distance grows: the part of the relative velocity along the line; both ``(..., 3)`` in one frame."""
    away = np.asarray(away_km, dtype=np.float64)
    distance = np.sqrt((away**2).sum(axis=-1))
    return np.asarray((away * np.asarray(relative_km_s)).sum(axis=-1) / distance)


def slant_range_max_km(altitude_km: float, elevation_deg: float, earth_km: float = 6378.137) -> float:
    """The longest slant range at which a satellite stands at an elevation or above, over a sphere.

    ``-R sin e + sqrt(R^2 sin^2 e + 2 R h + h^2)``; 1,123 km for 550 km and 25 degrees.
    """
    sin = float(np.sin(np.radians(elevation_deg)))
    return float(
        -earth_km * sin + np.sqrt((earth_km * sin) ** 2 + 2 * earth_km * altitude_km + altitude_km**2)
    )
