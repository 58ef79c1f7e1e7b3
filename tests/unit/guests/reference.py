"""What the wildfire functions compute, once more, slowly and in numpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeagent.demo.frame import Georeference
from edgeagent.demo.scene import Scene
from edgeagent.demo.sensor import ETM, dn_to_radiance, reflectance_to_radiance

__all__ = ["burning", "fires", "forward", "indices", "reflectance"]

Array = np.ndarray[Any, Any]


def reflectance(scene: Scene) -> Array:
    """Top of the atmosphere, not below 0; -1 where there is no data."""
    bands = [
        dn_to_radiance(band, plane) / reflectance_to_radiance(band)
        for band, plane in zip(ETM, scene.planes, strict=True)
    ]
    return np.where(scene.planes == 0, -1, np.maximum(bands, 0))


def indices(planes: Array) -> Array:
    """NBR and NDVI of planes of reflectance."""
    red, nir, swir2 = planes[2], planes[3], planes[5]
    valid = (red >= 0) & (nir >= 0) & (swir2 >= 0)
    ratios = [
        np.where(a + b > 1e-6, (a - b) / np.maximum(a + b, 1e-6), 0) for a, b in ((nir, swir2), (nir, red))
    ]
    return np.where(valid, ratios, -2)


def burning(planes: Array) -> Array:
    """Which pixels of a frame with indices burn: the rules of detect.c, each window summed by itself."""
    nir, swir1, swir2, nbr, ndvi = planes[3], planes[4], planes[5], planes[6], planes[7]
    candidate = (nbr > -1.5) & (nbr < np.float32(-0.8) / np.float32(2.8)) & (swir2 - nir > np.float32(0.17))
    land = (nbr > -1.5) & ~((swir2 < np.float32(0.04)) & (ndvi < np.float32(0.2)))
    background = land & ~candidate
    ratio = (swir2 / np.maximum(nir, np.float32(0.01))).astype(np.float64)
    fire = np.zeros(nir.shape, bool)
    hot = candidate & (swir2 >= np.float32(0.15)) & (swir2 >= np.float32(1.4) * swir1)
    for y, x in np.argwhere(hot):
        window = (slice(max(y - 30, 0), y + 31), slice(max(x - 30, 0), x + 31))
        here = background[window]
        if here.sum() < 25:
            continue
        ratios, levels = ratio[window][here], swir2[window][here].astype(np.float64)
        fire[y, x] = ratio[y, x] > ratios.mean() + max(3 * ratios.std(), 0.8) and (
            swir2[y, x] > levels.mean() + max(3 * levels.std(), 0.08)
        )
    return fire


def fires(heat: Array) -> list[tuple[float, float, int, float]]:
    """Groups of touching pixels: centre of mass, size, hottest; in the order of a scan."""
    left = {(int(y), int(x)) for y, x in np.argwhere(heat > 0)}
    found = []
    for start in sorted(left):
        if start not in left:
            continue
        left.remove(start)
        group = [start]
        for y, x in group:
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= around
            group.extend(around)
        weights = np.array([heat[place] for place in group], np.float64)
        centre = np.average(np.array(group, np.float64) + 0.5, axis=0, weights=weights)
        found.append((float(centre[1]), float(centre[0]), len(group), float(weights.max())))
    return found


def forward(g: Georeference, longitude_deg: float, latitude_deg: float) -> tuple[float, float]:
    """Lambert conformal conic: Snyder (1987), equations 14-15, 15-1 to 15-10; easting and northing in metres."""
    flattening = 1 / g.inverse_flattening
    e = math.sqrt(flattening * (2 - flattening))

    def t(phi: float) -> float:
        s = e * math.sin(phi)
        return math.tan(math.pi / 4 - phi / 2) / math.pow((1 - s) / (1 + s), e / 2)

    def m(phi: float) -> float:
        return math.cos(phi) / math.sqrt(1 - (e * math.sin(phi)) ** 2)

    one, two, zero = map(math.radians, (g.parallel_1_deg, g.parallel_2_deg, g.latitude_0_deg))
    n = (math.log(m(one)) - math.log(m(two))) / (math.log(t(one)) - math.log(t(two)))
    scale = g.semi_major_m * m(one) / (n * t(one) ** n)
    rho, rho_0 = scale * t(math.radians(latitude_deg)) ** n, scale * t(zero) ** n
    theta = n * math.radians(longitude_deg - g.longitude_0_deg)
    return g.easting_0_m + rho * math.sin(theta), g.northing_0_m + rho_0 - rho * math.cos(theta)
