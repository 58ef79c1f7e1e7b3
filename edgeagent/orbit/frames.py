"""From SGP4's frame (TEME) to the turning Earth (ECEF) and back: one turn about the pole by the sidereal angle.

The pole's own motion (polar motion, up to 15 m at the surface) is left out, as it is in most ephemeris software; what
remains is below 30 m in low orbits even where UT1 is taken from UTC.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeagent.orbit.sidereal import EARTH_RATE_RAD_S

__all__ = ["ecef_to_teme", "ecef_velocity", "teme_to_ecef", "turned"]

Floats = NDArray[np.float64]


def turned(vectors: Floats, angle_rad: Floats) -> Floats:
    """The coordinates of vectors ``(..., T, 3)`` in axes that are turned by ``angle_rad`` ``(T,)`` about z."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    out = np.empty_like(vectors)
    out[..., 0] = cos * vectors[..., 0] + sin * vectors[..., 1]
    out[..., 1] = cos * vectors[..., 1] - sin * vectors[..., 0]
    out[..., 2] = vectors[..., 2]
    return out


def teme_to_ecef(position_km: Floats, sidereal_rad: Floats) -> Floats:
    """TEME positions ``(..., T, 3)`` in ECEF, given :func:`sidereal.sidereal_angle` of their times ``(T,)``."""
    return turned(position_km, sidereal_rad)


def ecef_to_teme(position_km: Floats, sidereal_rad: Floats) -> Floats:
    """The inverse of :func:`teme_to_ecef`."""
    return turned(position_km, -sidereal_rad)


def ecef_velocity(velocity_km_s: Floats, ecef_km: Floats, sidereal_rad: Floats) -> Floats:
    """TEME velocities as seen from the turning Earth: turned, less the Earth's rate times the ECEF position; km/s."""
    out = turned(velocity_km_s, sidereal_rad)
    out[..., 0] += EARTH_RATE_RAD_S * ecef_km[..., 1]
    out[..., 1] -= EARTH_RATE_RAD_S * ecef_km[..., 0]
    return out
