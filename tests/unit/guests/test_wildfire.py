"""The wildfire functions, each alone, against numpy."""

from __future__ import annotations

import json
import struct

import msgspec
import numpy as np
import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.demo.frame import Georeference, encode_scene, read_clusters, read_planes
from edgeagent.demo.plant import plant
from edgeagent.demo.scene import NORTH_CAROLINA, Scene, generate_scene
from tests.unit.guests import reference
from tests.unit.guests.guest import wildfire

STEPS = ("calibrate", "index", "detect", "cluster", "alert")


def _chain(body: bytes, *names: str) -> bytes:
    for name in names:
        body = wildfire(name)(body)
    return body


def _restless(seed: int) -> Scene:
    """A scene full of pixels on either side of every threshold, and holes without data."""
    random = np.random.default_rng(seed)
    scene = generate_scene(96, seed)
    planes = scene.planes[:, :83].copy()
    odd = random.random(planes.shape[1:]) < 0.04
    for band, low, high in ((3, 20, 90), (4, 60, 200), (5, 100, 256)):
        planes[band][odd] = random.integers(low, high, odd.sum())
    planes[:, random.random(planes.shape[1:]) < 0.02] = 0
    planes[5, 60:, :20] = 0
    return msgspec.structs.replace(scene, planes=planes)


@pytest.mark.parametrize("seed", [1, 2])
def test_calibrate(seed: int) -> None:
    scene = _restless(seed)
    planes = read_planes(_chain(scene.encode(), "calibrate"))
    assert np.allclose(planes, reference.reflectance(scene), rtol=1e-5, atol=1e-7)


def test_calibrate_knows_every_digital_number() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (6, 2, 1))
    scene = Scene(source="generated", planes=ramp, georeference=NORTH_CAROLINA)
    planes = read_planes(_chain(scene.encode(), "calibrate"))
    assert np.allclose(planes, reference.reflectance(scene), rtol=1e-5, atol=1e-7)
    assert planes[5, 0, 255] == pytest.approx(0.509, abs=0.001), "where band 7 saturates on that day"


@pytest.mark.parametrize("seed", [1, 2])
def test_index(seed: int) -> None:
    calibrated = _chain(_restless(seed).encode(), "calibrate")
    planes = read_planes(calibrated)
    indexed = read_planes(_chain(calibrated, "index"))
    assert (indexed[:6] == planes).all()
    assert np.allclose(indexed[6:], reference.indices(planes), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_detect(seed: int) -> None:
    indexed = _chain(_restless(seed).encode(), "calibrate", "index")
    planes = read_planes(indexed)
    heat = read_planes(_chain(indexed, "detect"))[0]
    expected = reference.burning(planes)
    assert 0 < expected.sum() < (planes[5] >= 0.15).sum()
    assert ((heat > 0) == expected).all()
    assert (heat[expected] == planes[5][expected]).all()


def test_detect_has_no_opinion_where_there_is_no_background() -> None:
    scene = generate_scene(64)
    planes = np.zeros_like(scene.planes)
    planes[:, 30:34, 30:34] = np.array([60, 50, 40, 40, 90, 255])[:, None, None]
    lonely = msgspec.structs.replace(scene, planes=planes)
    assert not read_planes(_chain(lonely.encode(), "calibrate", "index", "detect")).any()


@pytest.mark.parametrize("share", [0.01, 0.2, 0.6, 1.0])
def test_cluster(share: float) -> None:
    random = np.random.default_rng(int(share * 100))
    indexed = bytearray(_chain(generate_scene(60).encode(), "calibrate", "index", "detect"))
    heat = np.where(random.random((60, 60)) < share, random.uniform(0.2, 0.5, (60, 60)), 0).astype(np.float32)
    indexed[160:] = heat.tobytes()
    found = read_clusters(_chain(bytes(indexed), "cluster"))
    expected = reference.fires(heat)
    assert [pixels for _, _, pixels, _ in found] == [pixels for _, _, pixels, _ in expected]
    assert np.allclose(found, expected, rtol=1e-6)


def _clusters(georeference: Georeference, *places: tuple[float, float]) -> bytes:
    """A frame of clusters with one burning pixel at each place."""
    scene = encode_scene(np.ones((6, 20, 20), np.uint8), georeference, day_of_year=91, sun_elevation_deg=50)
    header = bytearray(scene[:160])
    struct.pack_into("<H", header, 6, 5)
    struct.pack_into("<I", header, 24, len(places))
    return bytes(header) + b"".join(struct.pack("<ddIf", x, y, 1, 0.5) for x, y in places)


def test_alert_agrees_with_snyder_s_example() -> None:
    """Snyder (1987), page 296: Clarke 1866, parallels 33 and 45, origin 23 N 96 W; the point is 35 N 75 W."""
    example = Georeference(
        origin_x_m=1894410.9,
        origin_y_m=1564649.5,
        pixel_m=1.0,
        latitude_0_deg=23,
        longitude_0_deg=-96,
        parallel_1_deg=33,
        parallel_2_deg=45,
        easting_0_m=0,
        northing_0_m=0,
        semi_major_m=6378206.4,
        inverse_flattening=294.978698,
    )
    collection = json.loads(wildfire("alert")(_clusters(example, (0, 0))))
    assert collection["features"][0]["geometry"]["coordinates"] == pytest.approx([-75.0, 35.0], abs=1.1e-6)


@pytest.mark.parametrize("southern", [False, True])
def test_alert_is_the_inverse_of_the_projection(southern: bool) -> None:
    g = NORTH_CAROLINA
    if southern:
        g = msgspec.structs.replace(
            g, latitude_0_deg=-33.75, parallel_1_deg=-36.2, parallel_2_deg=-34.3, origin_y_m=-200000.0
        )
    places = [(0.5, 0.5), (19.25, 3.0), (20.0, 20.0)]
    for pixel_m in (28.5, 5000.0):
        g = msgspec.structs.replace(g, pixel_m=pixel_m)
        collection = json.loads(wildfire("alert")(_clusters(g, *places)))
        for feature, (x, y) in zip(collection["features"], places, strict=True):
            easting, northing = reference.forward(g, *feature["geometry"]["coordinates"])
            assert easting == pytest.approx(g.origin_x_m + x * g.pixel_m, abs=0.1), "six decimals are 0.1 m"
            assert northing == pytest.approx(g.origin_y_m - y * g.pixel_m, abs=0.1)
            assert feature["properties"] == {
                "x_px": x,
                "y_px": y,
                "pixels": 1,
                "area_m2": pytest.approx(pixel_m**2, abs=0.05),
                "swir2_max": 0.5,
            }


def test_alert_without_fires_is_an_empty_collection() -> None:
    assert json.loads(wildfire("alert")(_clusters(NORTH_CAROLINA))) == {
        "type": "FeatureCollection",
        "features": [],
    }


@pytest.mark.parametrize(
    ("changes", "place", "says"),
    [
        ({}, (21.0, 1.0), "outside the scene"),
        ({}, (float("nan"), 1.0), "outside the scene"),
        ({"inverse_flattening": 0.0}, (1.0, 1.0), "no usable georeference"),
        ({"semi_major_m": float("nan")}, (1.0, 1.0), "no usable georeference"),
        ({"longitude_0_deg": float("inf")}, (1.0, 1.0), "outside the map projection"),
    ],
)
def test_alert_refuses(changes: dict[str, float], place: tuple[float, float], says: str) -> None:
    guest = wildfire("alert")
    with pytest.raises(wasmtime.Trap):
        guest(_clusters(msgspec.structs.replace(NORTH_CAROLINA, **changes), place))
    assert says in guest.lines[0][1]


GOOD = generate_scene(32).encode()
BROKEN = {
    "not a frame": [b"", b"EFRM", bytes(160), b"\0" + GOOD[1:]],
    "unknown frame version": [GOOD[:4] + b"\x02\x00" + GOOD[6:]],
    "another kind of frame": [GOOD[:6] + b"\x63\x00" + GOOD[8:]],
    "bad frame size": [GOOD[:8] + bytes(4) + GOOD[12:], GOOD[:8] + b"\xff" * 4 + GOOD[12:]],
    "cut off or too long": [GOOD[:-1], GOOD + b"x", GOOD[:8] + b"\x21" + GOOD[9:]],
    "sun elevation or day of year": [GOOD[:28] + bytes(4) + GOOD[32:], GOOD[:32] + bytes(8) + GOOD[40:]],
}


@pytest.mark.parametrize("says", BROKEN)
def test_a_malformed_frame_ends_with_a_reason(says: str) -> None:
    guest = wildfire("calibrate")
    for body in BROKEN[says]:
        with pytest.raises(wasmtime.Trap, match="unreachable"):
            guest(body)
        assert guest.lines[0][0] == 4
        assert says in guest.lines[0][1]


FRAMES = {name: _chain(GOOD, *STEPS[:number]) for number, name in enumerate(STEPS)}


@given(
    name=st.sampled_from(STEPS),
    at=st.integers(0, 199),
    patch=st.binary(min_size=1, max_size=8),
    cut=st.integers(0, 60),
)
def test_no_input_gets_more_than_an_answer_or_a_reason(name: str, at: int, patch: bytes, cut: int) -> None:
    """Whole or cut, with any bytes anywhere in its header: a step answers, or it says why it does not."""
    body = FRAMES[name]
    body = (body[:at] + patch + body[at + len(patch) :])[: len(body) - cut]
    guest = wildfire(name)
    try:
        guest(body)
    except wasmtime.Trap:
        assert guest.lines
        assert guest.lines[0][0] == 4


def test_the_scene_itself_does_not_burn() -> None:
    assert read_clusters(_chain(generate_scene().encode(), *STEPS[:-1])) == []


def test_what_is_planted_comes_out_where_it_was_planted() -> None:
    scene, fires = plant(generate_scene(), 11)
    found = [
        (round(x, 2), round(y, 2), pixels)
        for x, y, pixels, _ in read_clusters(_chain(scene.encode(), *STEPS[:-1]))
    ]
    assert found == [(fire.x_px, fire.y_px, fire.side_px**2) for fire in fires]
