"""Planting fires of known place and strength, and comparing what was found with what was planted.

The scene has no fire. A planted one is a block of 2 x 2 to 4 x 4 pixels whose reflectance is that of burning ground:
SWIR2 0.38 to 0.49 (where ETM+ band 7 saturates in this scene), SWIR1 1.7 times less, NIR 0.10 to 0.15. Real daytime
fires that Schroeder et al. (2016) call unambiguous have SWIR2 / NIR > 2.5 and SWIR2 - NIR > 0.3 or more; what is
planted has SWIR2 / NIR >= 2.5 and SWIR2 - NIR >= 0.23: of that class in the ratio, and above the candidate threshold of
0.17 in the difference, because ETM+ saturates below OLI.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import msgspec

from edgeagent.demo.scene import DAY_OF_YEAR, SUN_ELEVATION_DEG, Scene

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Fire", "Score", "dn_of", "plant", "score"]

COUNT = 5
EDGE_PX = 12
APART_PX = 24
MATCH_PX = 3.0
_NIR, _SWIR1, _SWIR2 = 3, 4, 5
# LMIN, LMAX, ESUN of the three bands, as in examples/wildfire/calibrate.c.
_CONSTANTS = {_NIR: (-5.1, 241.1, 1039.0), _SWIR1: (-1.0, 31.06, 230.8), _SWIR2: (-0.35, 10.80, 84.90)}


class Fire(msgspec.Struct, frozen=True):
    """Centre in pixels, side of the block, SWIR2 reflectance."""

    x: float
    y: float
    side: int
    swir2: float


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


def dn_of(band: int, reflectance: float) -> int:
    """The digital number that the sensor gives for a reflectance: calibrate.c, backwards."""
    low, high, sun = _CONSTANTS[band]
    distance = 1 - 0.01672 * math.cos(math.radians(0.9856 * (DAY_OF_YEAR - 4)))
    radiance = reflectance * sun * math.sin(math.radians(SUN_ELEVATION_DEG)) / (math.pi * distance**2)
    return max(1, min(255, round((radiance - low) * 254 / (high - low) + 1)))


def plant(scene: Scene, seed: int, count: int = COUNT) -> tuple[Scene, list[Fire]]:
    """A copy of the scene with ``count`` fires; the seed decides where, how large and how strong."""
    import numpy as np

    random = np.random.default_rng(seed & 0xFFFF_FFFF_FFFF_FFFF)
    planes = scene.planes.copy()
    has_data = (planes > 0).all(axis=0)
    fires: list[Fire] = []
    while len(fires) < count:
        side = int(random.integers(2, 5))
        height, width = has_data.shape
        left = int(random.integers(EDGE_PX, width - EDGE_PX - side))
        top = int(random.integers(EDGE_PX, height - EDGE_PX - side))
        swir2 = float(random.uniform(0.38, 0.49))
        nir = float(random.uniform(0.10, 0.15))
        x, y = left + side / 2, top + side / 2
        if not _has_room(has_data, fires, left, top, side):
            continue
        for band, value in ((_NIR, nir), (_SWIR1, swir2 / 1.7), (_SWIR2, swir2)):
            planes[band, top : top + side, left : left + side] = dn_of(band, value)
        fires.append(Fire(x, y, side, round(swir2, 3)))
    return msgspec.structs.replace(scene, planes=planes), fires


def _has_room(has_data: np.ndarray, fires: list[Fire], left: int, top: int, side: int) -> bool:
    around = has_data[top - EDGE_PX : top + side + EDGE_PX, left - EDGE_PX : left + side + EDGE_PX]
    apart = all(math.dist((left, top), (fire.x, fire.y)) > APART_PX for fire in fires)
    return bool(around.all()) and apart


def score(fires: list[Fire], geojson: bytes) -> tuple[Score, dict[str, Any]]:
    """Match each alert to the nearest planted fire within three pixels; one alert a fire."""
    collection: dict[str, Any] = json.loads(geojson)
    left = list(fires)
    false = 0
    for feature in collection["features"]:
        at = (feature["properties"]["x_px"], feature["properties"]["y_px"])
        near = min(left, key=lambda fire: math.dist(at, (fire.x, fire.y)), default=None)
        if near is not None and math.dist(at, (near.x, near.y)) <= MATCH_PX:
            left.remove(near)
        else:
            false += 1
    found = len(fires) - len(left)
    return Score(len(fires), found, len(left), false), collection
