"""Planting fires of known place and strength, and comparing what was found with what was planted.

The scene has no fire. A planted one is a block of 2 x 2 to 4 x 4 pixels, each seen by the sensor as a mixture:

- 50 to 80 % of it is charred (reflectance 0.05 to 0.10), the rest is what the scene shows there;
- flames of 700 to 1000 K add a black body's radiance in every band, so much of it that SWIR2 gets 11 to 15
  W/(m2 sr um). That is 2 to 60 m2 of flame in a pixel of 812 m2.

The sum becomes digital numbers as the sensor makes them. SWIR2 saturates (at 10.80, reflectance 0.51), SWIR1 rises by
0.03 to 0.12, NIR hardly at all. So SWIR2 > 0.5 as in the class that Schroeder et al. (2016) call unambiguous, from
fires that are small as real ones go; ``examples/wildfire/README.md`` says more. They burn where there is fuel:
NDVI >= 0.3, NIR <= 0.45 and SWIR1 <= 0.30, which leaves out lush lawns and bright bare ground: there a sensor that
saturates so early cannot show a small fire.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import msgspec

from edgeagent.demo.scene import Scene
from edgeagent.demo.sensor import ETM, dn_to_radiance, planck, radiance_to_dn, reflectance_to_radiance
from edgeagent.model.errors import Unavailable

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Fire", "Score", "burn", "fuel", "plant", "score"]

COUNT = 5
EDGE_PX = 12
APART_PX = 24
MATCH_PX = 3.0
TRIES = 20_000
TEMPERATURE_K = (700.0, 1000.0)
FLAME_RADIANCE = (11.0, 15.0)
CHARRED = (0.5, 0.8)
CHAR = (0.05, 0.05, 0.06, 0.08, 0.10, 0.10)
NDVI_MIN, NIR_MAX, SWIR1_MAX = 0.3, 0.45, 0.30
_RED, _NIR, _SWIR1, _SWIR2 = 2, 3, 4, 5


class Fire(msgspec.Struct, frozen=True, kw_only=True):
    """Centre and side of the block in pixels; temperature of the flames, and how much of them there is in all."""

    x_px: float
    y_px: float
    side_px: int
    temperature_k: float
    flames_m2: float


class Score(msgspec.Struct, frozen=True):
    planted: int
    found: int
    missed: int
    false: int

    @property
    def ok(self) -> bool:
        return self.found == self.planted and self.false == 0

    def document(self) -> dict[str, int]:
        return {"planted": self.planted, "found": self.found, "missed": self.missed, "false": self.false}


def fuel(scene: Scene) -> np.ndarray:
    """Where fires may be planted, pixel by pixel."""
    import numpy as np

    red, nir, swir1 = (
        dn_to_radiance(ETM[band], scene.planes[band]) / reflectance_to_radiance(ETM[band])
        for band in (_RED, _NIR, _SWIR1)
    )
    grows = nir - red >= NDVI_MIN * np.maximum(nir + red, 1e-6)
    places: np.ndarray = _has_data(scene) & grows & (nir <= NIR_MAX) & (swir1 <= SWIR1_MAX)
    return places


def _has_data(scene: Scene) -> np.ndarray:
    data: np.ndarray = (scene.planes > 0).all(axis=0)
    return data


def burn(
    block: np.ndarray, temperature_k: float, flame_radiance: np.ndarray, charred: np.ndarray
) -> np.ndarray:
    """Digital numbers (6, ...) of the same pixels when they burn; flames by their radiance in SWIR2."""
    import numpy as np

    share = flame_radiance / planck(ETM[_SWIR2].um, temperature_k)
    burning = np.empty_like(block)
    for number, band in enumerate(ETM):
        ground = (1 - charred) * dn_to_radiance(band, block[number])
        ground += charred * CHAR[number] * reflectance_to_radiance(band)
        burning[number] = radiance_to_dn(band, ground + share * planck(band.um, temperature_k))
    return burning


def plant(scene: Scene, seed: int, count: int = COUNT) -> tuple[Scene, list[Fire]]:
    """A copy of the scene with ``count`` fires from north to south; the seed says where, how large and how strong.

    Raises Unavailable when the scene has no room for so many.
    """
    import numpy as np

    random = np.random.default_rng(seed & 0xFFFF_FFFF_FFFF_FFFF)
    planes = scene.planes.copy()
    has_data, has_fuel = _has_data(scene), fuel(scene)
    height, width = has_data.shape
    fires: list[Fire] = []
    for _ in range(TRIES):
        if len(fires) == count:
            fires.sort(key=lambda fire: (fire.y_px - fire.side_px / 2, fire.x_px - fire.side_px / 2))
            return msgspec.structs.replace(scene, planes=planes), fires
        side = int(random.integers(2, 5))
        left = int(random.integers(EDGE_PX, width - EDGE_PX - side))
        top = int(random.integers(EDGE_PX, height - EDGE_PX - side))
        block = (slice(top, top + side), slice(left, left + side))
        around = (slice(top - EDGE_PX, top + side + EDGE_PX), slice(left - EDGE_PX, left + side + EDGE_PX))
        x, y = left + side / 2, top + side / 2
        apart = all(math.dist((x, y), (fire.x_px, fire.y_px)) > APART_PX for fire in fires)
        if not (apart and has_fuel[block].all() and has_data[around].all()):
            continue
        temperature_k = float(random.uniform(*TEMPERATURE_K))
        radiance = random.uniform(*FLAME_RADIANCE, size=(side, side))
        charred = random.uniform(*CHARRED, size=(side, side))
        planes[:, *block] = burn(planes[:, *block], temperature_k, radiance, charred)
        flames_m2 = (
            float(radiance.sum()) / planck(ETM[_SWIR2].um, temperature_k) * scene.georeference.pixel_m**2
        )
        fires.append(
            Fire(
                x_px=x,
                y_px=y,
                side_px=side,
                temperature_k=round(temperature_k, 1),
                flames_m2=round(flames_m2, 1),
            )
        )
    raise Unavailable(f"the scene has no room for {count} fires")


def score(fires: list[Fire], geojson: bytes) -> tuple[Score, dict[str, Any]]:
    """Match each alert to the nearest planted fire within three pixels; one alert a fire."""
    collection: dict[str, Any] = json.loads(geojson)
    left = list(fires)
    false = 0
    for feature in collection["features"]:
        at = (feature["properties"]["x_px"], feature["properties"]["y_px"])
        near = min(left, key=lambda fire: math.dist(at, (fire.x_px, fire.y_px)), default=None)
        if near is not None and math.dist(at, (near.x_px, near.y_px)) <= MATCH_PX:
            left.remove(near)
        else:
            false += 1
    found = len(fires) - len(left)
    return Score(len(fires), found, len(left), false), collection
