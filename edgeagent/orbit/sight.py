"""Do two satellites see each other: their segment against the Earth and the air that a beam must not touch.

The segment, not the infinite line: of pairs whose line hits the Earth behind one of them, the line test would refuse
all. The Earth is a sphere of the equator's radius, which errs by up to 21 km on the safe side over the poles; the 80
km of air are the value of Celestial (Pfandzelter & Bermbach, Middleware 2022).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeagent.orbit.geodetic import EQUATOR_KM

__all__ = ["AIR_KM", "clearance_km", "in_sight"]

Floats = NDArray[np.float64]

AIR_KM = 80.0


def clearance_km(a_km: ArrayLike, b_km: ArrayLike) -> Floats:
    """The least distance from the Earth's centre to the segments from ``a`` to ``b``: ``(..., 3)``, any one frame."""
    a = np.asarray(a_km, dtype=np.float64)
    along = np.asarray(b_km, dtype=np.float64) - a
    length2 = (along**2).sum(axis=-1)
    part = np.clip(-(a * along).sum(axis=-1) / np.where(length2 > 0.0, length2, 1.0), 0.0, 1.0)
    nearest = a + part[..., np.newaxis] * along
    return np.asarray(np.sqrt((nearest**2).sum(axis=-1)))


def in_sight(
    a_km: ArrayLike, b_km: ArrayLike, *, range_km_max: float = np.inf, air_km: float = AIR_KM
) -> NDArray[np.bool_]:
    """Whether the segment stays above the Earth and ``air_km`` of air and is at most ``range_km_max`` long."""
    a, b = np.asarray(a_km, dtype=np.float64), np.asarray(b_km, dtype=np.float64)
    near = ((a - b) ** 2).sum(axis=-1) <= range_km_max**2
    return np.asarray(near & (clearance_km(a, b) > EQUATOR_KM + air_km))
