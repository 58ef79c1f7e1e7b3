"""Landsat 7 ETM+ as the demo needs it: digital numbers to radiance and back, and the sun on the day of the scene.

Constants: Chander, Markham, Helder (2009), Remote Sensing of Environment 113, 893-903, table 4, the gains of
``examples/wildfire/calibrate.c``; a test holds the two together.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "DAY_OF_YEAR",
    "ETM",
    "SUN_ELEVATION_DEG",
    "Band",
    "dn_to_radiance",
    "planck",
    "radiance_to_dn",
    "reflectance_to_radiance",
]

# The files carry no metadata. Landsat 7 passed on 2000-03-31 at about 15:43 UTC: declination 4.2 deg and hour angle
# -24 deg at 35.7 N, 78.7 W give this elevation of the sun.
DAY_OF_YEAR = 91
SUN_ELEVATION_DEG = 51.5


class Band(msgspec.Struct, frozen=True):
    """Radiance at DN 1 and at DN 255 in W/(m2 sr um), solar irradiance in W/(m2 um), wavelength in um."""

    low: float
    high: float
    sun: float
    um: float


# In the order of frame.BANDS.
ETM = (
    Band(-6.2, 191.6, 1997.0, 0.48),
    Band(-6.4, 196.5, 1812.0, 0.56),
    Band(-5.0, 152.9, 1533.0, 0.66),
    Band(-5.1, 241.1, 1039.0, 0.835),
    Band(-1.0, 31.06, 230.8, 1.65),
    Band(-0.35, 10.80, 84.90, 2.22),
)


def reflectance_to_radiance(band: Band) -> float:
    """Radiance in W/(m2 sr um) of a surface that reflects all, on the day of the scene."""
    distance_au = 1 - 0.01672 * math.cos(math.radians(0.9856 * (DAY_OF_YEAR - 4)))
    return band.sun * math.sin(math.radians(SUN_ELEVATION_DEG)) / (math.pi * distance_au**2)


def dn_to_radiance(band: Band, dn: np.ndarray) -> np.ndarray:
    """Radiance in W/(m2 sr um) of digital numbers from 1 to 255."""
    import numpy as np

    return band.low + (dn.astype(np.float64) - 1) * (band.high - band.low) / 254


def radiance_to_dn(band: Band, radiance: np.ndarray) -> np.ndarray:
    """What the sensor says: rounded, and saturated at 255."""
    import numpy as np

    return np.clip(np.round((radiance - band.low) * 254 / (band.high - band.low) + 1), 1, 255).astype(
        np.uint8
    )


def planck(um: float, temperature_k: float) -> float:
    """Radiance of a black body in W/(m2 sr um)."""
    return 1.191043e8 / um**5 / math.expm1(14387.77 / (um * temperature_k))
