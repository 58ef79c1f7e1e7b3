"""The wildfire functions, each alone, against numpy; and that the committed modules are what their sources give."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeagent.demo.frame import BANDS, read_clusters, read_planes
from edgeagent.demo.plant import dn_of, plant, score
from edgeagent.demo.scene import DAY_OF_YEAR, SUN_ELEVATION_DEG, Scene, generate_scene
from edgeagent.model.errors import GuestTrap
from edgeagent.runtime.open_engine import open_engine
from tests.contract.calls import load

ROOT = Path(__file__).resolve().parents[3]
WILDFIRE = ROOT / "examples" / "wildfire"
Run = Any


@pytest.fixture(scope="module")
def run(compiled: Any) -> Iterator[Run]:
    """``run(name, body)``: the outcome of one function."""
    engine = open_engine("auto", workers=2, small_slots=8, large_slots=4)
    functions = {}

    def call(name: str, body: bytes) -> Any:
        if name not in functions:
            functions[name] = load(engine, compiled, (WILDFIRE / f"{name}.wasm").read_bytes())
        return functions[name].call(body)

    yield call
    engine.close()


def _output(run: Run, name: str, body: bytes) -> bytes:
    outcome = run(name, body)
    assert outcome.error is None, outcome.log
    return bytes(outcome.output)


def _reflectance(scene: Scene) -> Any:
    low = np.array([-6.2, -6.4, -5.0, -5.1, -1.0, -0.35])[:, None, None]
    high = np.array([191.6, 196.5, 152.9, 241.1, 31.06, 10.80])[:, None, None]
    sun = np.array([1997.0, 1812.0, 1533.0, 1039.0, 230.8, 84.90])[:, None, None]
    distance = 1 - 0.01672 * np.cos(np.radians(0.9856 * (DAY_OF_YEAR - 4)))
    radiance = (high - low) / 254 * (scene.planes.astype(float) - 1) + low
    value = np.pi * radiance * distance**2 / (sun * np.sin(np.radians(SUN_ELEVATION_DEG)))
    return np.where(scene.planes == 0, -1, np.maximum(value, 0))


def test_calibrate_and_index(run: Run) -> None:
    scene = generate_scene(64)
    scene.planes[:, :3] = 0
    calibrated = _output(run, "calibrate", scene.encode())
    expected = _reflectance(scene)
    assert np.allclose(read_planes(calibrated), expected, atol=1e-5)
    indexed = read_planes(_output(run, "index", calibrated))
    assert indexed.shape == (len(BANDS) + 2, 64, 64)
    red, nir, swir2 = expected[2], expected[3], expected[5]
    valid = scene.planes[0] > 0
    assert np.allclose(indexed[6][valid], ((nir - swir2) / (nir + swir2))[valid], atol=1e-3)
    assert np.allclose(indexed[7][valid], ((nir - red) / (nir + red))[valid], atol=1e-3)
    assert (indexed[6:, ~valid] == -2).all()


def _clusters(run: Run, scene: Scene) -> bytes:
    body = scene.encode()
    for name in ("calibrate", "index", "detect", "cluster"):
        body = _output(run, name, body)
    return body


def test_nothing_burns_in_the_scene_itself(run: Run) -> None:
    assert read_clusters(_clusters(run, generate_scene())) == []


@pytest.mark.parametrize("seed", range(20))
def test_every_planted_fire_is_found_and_nothing_else(run: Run, seed: int) -> None:
    scene, fires = plant(generate_scene(), seed)
    clusters = _clusters(run, scene)
    found = sorted((round(x, 1), round(y, 1), pixels) for x, y, pixels, _ in read_clusters(clusters))
    assert found == sorted((fire.x, fire.y, fire.side**2) for fire in fires)
    result, _ = score(fires, _output(run, "alert", clusters))
    assert result.ok


def test_touching_pixels_are_one_fire(run: Run) -> None:
    scene = generate_scene()
    for x, y in ((100, 100), (101, 101), (102, 100), (200, 50)):
        for band, value in ((3, 0.12), (4, 0.25), (5, 0.45)):
            scene.planes[band, y, x] = dn_of(band, value)
    assert sorted(pixels for _, _, pixels, _ in read_clusters(_clusters(run, scene))) == [1, 3]


def test_alert_projects_as_snyder_says(run: Run) -> None:
    """EPSG guidance note 7-2, Lambert conic conformal (2SP), applied forward to what the function gave."""
    scene, _ = plant(generate_scene(), 3)
    clusters = _clusters(run, scene)
    collection = json.loads(_output(run, "alert", clusters))
    g = scene.georeference
    flattening = 1 / g.inverse_flattening
    e = np.sqrt(flattening * (2 - flattening))

    def t(phi: float) -> float:
        s = e * np.sin(phi)
        return float(np.tan(np.pi / 4 - phi / 2) / ((1 - s) / (1 + s)) ** (e / 2))

    def m(phi: float) -> float:
        return float(np.cos(phi) / np.sqrt(1 - (e * np.sin(phi)) ** 2))

    one, two, zero = (np.radians(v) for v in (g.parallel_1_deg, g.parallel_2_deg, g.latitude_0_deg))
    n = (np.log(m(one)) - np.log(m(two))) / (np.log(t(one)) - np.log(t(two)))
    big_f = m(one) / (n * t(one) ** n)
    for feature, (x, y, _, _) in zip(collection["features"], read_clusters(clusters), strict=True):
        longitude, latitude = np.radians(feature["geometry"]["coordinates"])
        r, r0 = (g.semi_major_m * big_f * t(phi) ** n for phi in (latitude, zero))
        theta = n * (longitude - np.radians(g.longitude_0_deg))
        easting = g.easting_0_m + r * np.sin(theta)
        northing = g.northing_0_m + r0 - r * np.cos(theta)
        assert abs(easting - (g.origin_x_m + x * g.pixel_m)) < 0.5, "within the rounding of six decimals"
        assert abs(northing - (g.origin_y_m - y * g.pixel_m)) < 0.5


@pytest.mark.parametrize("name", ["calibrate", "index", "detect", "cluster", "alert"])
def test_malformed_frames_end_with_a_reason(run: Run, name: str) -> None:
    good = generate_scene(32).encode()
    for body in (b"", b"EFRM", bytes(160), good[:-1], good + b"x", good[:4] + b"\x63" + good[5:]):
        outcome = run(name, body)
        assert isinstance(outcome.error, GuestTrap)
        assert outcome.log[0][0] == 4
        assert outcome.log[0][1]


def test_the_modules_are_what_the_sources_give(tmp_path: Path) -> None:
    if not (shutil.which("clang") and shutil.which("wasm-ld") and Path("/usr/lib/wasm32-wasi").exists()):
        pytest.skip("no wasm toolchain (clang, lld, wasi-libc)")
    version = subprocess.run(["clang", "--version"], capture_output=True, text=True, check=True).stdout
    if "version 14." not in version:
        pytest.skip("the modules were built with clang 14; other versions give other bytes")
    for folder in ("examples", "sdk"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    committed = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.wasm")}
    subprocess.run(
        ["make", "-s", "-f", "examples/guests.mk", "guests"], cwd=tmp_path, check=True, capture_output=True
    )
    for path, data in committed.items():
        assert (tmp_path / path).read_bytes() == data, path
