"""Is a satellite in the Earth's shadow: as a cylinder, and as cones with a penumbra.

All functions take positions ``(..., 3)`` and sun positions that broadcast to them, km, in one frame. The Earth is a
sphere of the equator's radius without air: entry and exit are within some ten seconds of the real ones, whose edge is
soft anyway.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeagent.orbit.geodetic import EQUATOR_KM

__all__ = ["SUN_RADIUS_KM", "eclipse_share", "in_cylinder", "sunlit_share"]

Floats = NDArray[np.float64]

SUN_RADIUS_KM = 695_700.0  # IAU 2015 resolution B3


def in_cylinder(position_km: ArrayLike, sun_km: ArrayLike, earth_km: float = EQUATOR_KM) -> NDArray[np.bool_]:
    """True behind the Earth within one Earth radius of the axis: ``r.s < 0`` and ``|r - (r.s) s| < R``."""
    r, sun = np.asarray(position_km, dtype=np.float64), np.asarray(sun_km, dtype=np.float64)
    towards = sun / np.sqrt((sun**2).sum(axis=-1, keepdims=True))
    along = (r * towards).sum(axis=-1)
    aside2 = (r**2).sum(axis=-1) - along**2
    return np.asarray((along < 0.0) & (aside2 < earth_km**2))


def sunlit_share(position_km: ArrayLike, sun_km: ArrayLike, earth_km: float = EQUATOR_KM) -> Floats:
    """How much of the sun's disc a satellite sees: 1 in light, 0 in the umbra, between in the penumbra.

    Two discs as seen from the satellite, one covering the other (Montenbruck & Gill, Satellite Orbits, 3.4.2); beyond
    the tip of the umbra the Earth covers a part of the sun (annular). NaN gives NaN.
    """
    r = np.asarray(position_km, dtype=np.float64)
    to_sun = np.asarray(sun_km, dtype=np.float64) - r
    distance = np.sqrt((r**2).sum(axis=-1))
    sun_distance = np.sqrt((to_sun**2).sum(axis=-1))
    sun = np.arcsin(np.clip(SUN_RADIUS_KM / sun_distance, 0.0, 1.0))
    earth = np.arcsin(np.clip(earth_km / distance, 0.0, 1.0))
    # The angle between the two centres, by its tangent: an arc cosine would lose the half of the digits near 0.
    cross = np.cross(-r, to_sun)
    apart = np.arctan2(np.sqrt((cross**2).sum(axis=-1)), (-r * to_sun).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        x = (apart**2 + sun**2 - earth**2) / (2 * apart)
        y = np.sqrt(np.maximum(sun**2 - x**2, 0.0))
        covered = (
            sun**2 * np.arccos(np.clip(x / sun, -1.0, 1.0))
            + earth**2 * np.arccos(np.clip((apart - x) / earth, -1.0, 1.0))
            - apart * y
        )
        share = 1.0 - covered / (np.pi * sun**2)
    share = np.where(apart >= sun + earth, 1.0, share)
    share = np.where(apart <= earth - sun, 0.0, share)
    share = np.where(apart <= sun - earth, 1.0 - (earth / sun) ** 2, share)
    return np.where(np.isnan(apart), np.nan, np.clip(share, 0.0, 1.0))


def eclipse_share(position_km: ArrayLike, sun_km: ArrayLike) -> Floats:
    """The share of the times ``T`` of positions ``(..., T, 3)`` without sun, penumbra counted by its depth."""
    return np.asarray(1.0 - sunlit_share(position_km, sun_km).mean(axis=-1))
