"""Planted fires: physics, places, and that no seed can plant one that the published thresholds miss."""

from __future__ import annotations

import itertools
import math
from typing import Any

import msgspec
import numpy as np
import pytest

from edgeagent.demo import plant as planting
from edgeagent.demo.fetch import SCENE_FILES, cache_directory
from edgeagent.demo.plant import APART_PX, EDGE_PX, Score, burn, fuel, plant, score
from edgeagent.demo.scene import Scene, generate_scene, read_landsat
from edgeagent.demo.sensor import (
    ETM,
    SUN_ELEVATION_DEG,
    dn_to_radiance,
    planck,
    radiance_to_dn,
    reflectance_to_radiance,
)
from edgeagent.model.errors import Unavailable
from tests.unit.guests.guest import wildfire

SEEDS = 60
STEPS = ("calibrate", "index", "detect", "cluster", "alert")
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module", params=["generated", "landsat"])
def scene(request: pytest.FixtureRequest) -> Scene:
    if request.param == "generated":
        return generate_scene()
    paths = [cache_directory() / name for name in SCENE_FILES]
    if not all(path.exists() for path in paths):
        pytest.skip("the scene is not in the cache; make demo fetches it")
    return read_landsat(paths)


def test_every_seed_is_found_and_nothing_else(scene: Scene) -> None:
    for seed in range(SEEDS):
        planted, fires = plant(scene, seed)
        body = planted.encode()
        for name in STEPS:
            body = wildfire(name)(body)
        assert score(fires, body)[0] == Score(5, 5, 0, 0), seed


def test_no_fire_that_may_be_planted_can_be_missed(scene: Scene) -> None:
    """Each pixel that carries fuel, at the eight extremes of what the seed may choose.

    Every quantity that is compared grows or shrinks steadily with temperature, flames and char, so the extremes bound
    all that lies between them. The window's statistics are those of the scene without fires: pixels that burn are
    candidates, which the function leaves out.
    """
    places = fuel(scene)
    ratio_limit, swir2_limit = _limits(scene)
    for temperature_k, flames, charred in itertools.product(
        planting.TEMPERATURE_K, planting.FLAME_RADIANCE, planting.CHARRED
    ):
        numbers = burn(
            scene.planes, temperature_k, np.full(places.shape, flames), np.full(places.shape, charred)
        )
        assert (numbers[5] == 255).all(), "SWIR2 saturates"
        nir, swir1, swir2 = (_reflectance(numbers, band)[places] for band in (3, 4, 5))
        assert (swir2 / nir).min() > 1.9, "1.8 makes a candidate"
        assert (swir2 - nir).min() > 0.2, "0.17 makes a candidate"
        assert (swir2 / swir1).min() > 1.5, "1.4 confirms it"
        assert (swir2 / nir - ratio_limit[places]).min() > 0.3
        assert (swir2 - swir2_limit[places]).min() > 0.1


def _reflectance(planes: Array, band: int) -> Array:
    return np.asarray(dn_to_radiance(ETM[band], planes[band]) / reflectance_to_radiance(ETM[band]))


def _limits(scene: Scene) -> tuple[Array, Array]:
    """What SWIR2 / NIR and SWIR2 must exceed at each pixel: mean + max(3 sigma, margin) of its window."""
    red, nir, swir2 = (_reflectance(scene.planes, band) for band in (2, 3, 5))
    nir = np.maximum(nir, 0.01)
    land = (scene.planes > 0).all(axis=0) & ~((swir2 < 0.04) & (nir - red < 0.2 * (nir + red)))
    count = np.maximum(_windows(land.astype(float)), 1)
    limits = []
    for values, margin in ((swir2 / nir, 0.8), (swir2, 0.08)):
        mean = _windows(np.where(land, values, 0)) / count
        variance = _windows(np.where(land, values**2, 0)) / count - mean**2
        limits.append(mean + np.maximum(3 * np.sqrt(np.maximum(variance, 0)), margin))
    return limits[0], limits[1]


def _windows(values: Array) -> Array:
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    rows, columns = (np.arange(size) for size in values.shape)
    top, bottom = np.maximum(rows - 30, 0), np.minimum(rows + 31, values.shape[0])
    left, right = np.maximum(columns - 30, 0), np.minimum(columns + 31, values.shape[1])
    return np.asarray(
        sums[bottom][:, right] - sums[top][:, right] - sums[bottom][:, left] + sums[top][:, left]
    )


def test_fires_keep_their_distance_and_leave_the_rest_alone(scene: Scene) -> None:
    planted, fires = plant(scene, 5)
    assert len(fires) == 5
    assert fires == sorted(fires, key=lambda fire: fire.y_px - fire.side_px / 2)
    for one, other in itertools.combinations(fires, 2):
        assert math.dist((one.x_px, one.y_px), (other.x_px, other.y_px)) > APART_PX
    changed = (planted.planes != scene.planes).any(axis=0)
    for fire in fires:
        top, left = (int(v - fire.side_px / 2) for v in (fire.y_px, fire.x_px))
        assert changed[top : top + fire.side_px, left : left + fire.side_px].all()
        assert min(top, left) >= EDGE_PX
    assert changed.sum() == sum(fire.side_px**2 for fire in fires)


def test_the_seed_decides_and_any_number_is_one(scene: Scene) -> None:
    assert plant(scene, 3)[1] == plant(scene, 3)[1] != plant(scene, 4)[1]
    for seed in (-1, 0, 2**64, 10**30):
        assert len(plant(scene, seed)[1]) == 5


def test_no_room() -> None:
    scene = generate_scene(64)
    water = msgspec.structs.replace(scene, planes=np.full_like(scene.planes, 20))
    with pytest.raises(Unavailable, match="no room for 5 fires"):
        plant(water, 1)


def test_flames_are_of_the_size_of_real_ones() -> None:
    for seed in range(20):
        for fire in plant(generate_scene(), seed)[1]:
            assert 700 <= fire.temperature_k <= 1000
            assert 2 < fire.flames_m2 / fire.side_px**2 < 60, "of the 812 m2 of a pixel"


def test_planck() -> None:
    """The law of Wien and that of Stefan and Boltzmann hold for it."""
    assert max(np.arange(1, 10, 0.01), key=lambda um: planck(um, 1000)) == pytest.approx(2.898, abs=0.01)
    total = sum(planck(um, 1000) for um in np.arange(0.2, 200, 0.01)) * 0.01 * math.pi
    assert total == pytest.approx(5.670374e-8 * 1000**4, rel=0.002)


def test_digital_numbers_there_and_back() -> None:
    numbers = np.arange(1, 256, dtype=np.uint8)
    for band in ETM:
        assert (radiance_to_dn(band, dn_to_radiance(band, numbers)) == numbers).all()
        assert radiance_to_dn(band, np.array([-100.0, 1e6])).tolist() == [1, 255]


def test_the_sun_stood_there() -> None:
    """Declination, equation of time and hour angle at 15:43 UTC on 2000-03-31, 35.73 N 78.69 W (Spencer, 1971)."""
    g = 2 * math.pi * 90 / 365
    declination = (
        0.006918 - 0.399912 * math.cos(g) + 0.070257 * math.sin(g) - 0.006758 * math.cos(2 * g)
        + 0.000907 * math.sin(2 * g)
    )  # fmt: skip
    minutes = 229.18 * (
        0.000075 + 0.001868 * math.cos(g) - 0.032077 * math.sin(g) - 0.014615 * math.cos(2 * g)
        - 0.040849 * math.sin(2 * g)
    )  # fmt: skip
    hour = math.radians(15 * (15 + 43 / 60 + minutes / 60 - 12) - 78.69)
    latitude = math.radians(35.73)
    sine = math.sin(latitude) * math.sin(declination) + math.cos(latitude) * math.cos(declination) * math.cos(
        hour
    )
    assert math.degrees(math.asin(sine)) == pytest.approx(SUN_ELEVATION_DEG, abs=0.5)


def _alerts(*places: tuple[float, float]) -> bytes:
    return msgspec.json.encode({"features": [{"properties": {"x_px": x, "y_px": y}} for x, y in places]})


def test_score() -> None:
    _, fires = plant(generate_scene(), 2)
    places = [(fire.x_px, fire.y_px) for fire in fires]
    assert score(fires, _alerts(*places))[0].ok
    assert score(fires, _alerts(*places[1:]))[0] == Score(5, 4, 1, 0)
    assert score(fires, _alerts(*places, (1.0, 1.0)))[0] == Score(5, 5, 0, 1)
    assert score(fires, _alerts(*places, places[0]))[0] == Score(5, 5, 0, 1), "one alert a fire"
    off = (places[0][0] + 3.1, places[0][1])
    assert score(fires, _alerts(off, *places[1:]))[0] == Score(5, 4, 1, 1)
    assert not score([], _alerts((1.0, 1.0)))[0].ok
    assert score(fires, _alerts())[0].document() == {"planted": 5, "found": 0, "missed": 5, "false": 0}
