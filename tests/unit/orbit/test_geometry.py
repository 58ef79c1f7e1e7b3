"""Geodetic coordinates, look angles, line of sight, masks: known values, poles, antimeridian, degenerate cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.orbit.errors import GeometryRefused
from edgeagent.orbit.frames import ecef_to_teme, ecef_velocity, teme_to_ecef
from edgeagent.orbit.geodetic import EQUATOR_KM, POLE_KM, ecef_of, geodetic_of, up_of
from edgeagent.orbit.look import look_at, range_rate_km_s, slant_range_max_km
from edgeagent.orbit.nodes import GroundNode, Located, Satellite
from edgeagent.orbit.sidereal import EARTH_RATE_RAD_S, sidereal_angle
from edgeagent.orbit.sight import AIR_KM, clearance_km, in_sight
from tests.unit.orbit.samples import elements, utc

R = EQUATOR_KM + AIR_KM


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-5000, 400_000))
def test_geodetic_both_ways(latitude: float, longitude: float, height: float) -> None:
    back = geodetic_of(ecef_of(latitude, longitude, height))
    assert back[0] == pytest.approx(latitude, abs=1e-9)
    assert back[2] == pytest.approx(height, abs=1e-6)
    apart = (float(back[1]) - longitude + 180) % 360 - 180
    assert abs(apart) * np.cos(np.radians(latitude)) < 1e-9


def test_known_places() -> None:
    assert ecef_of(0, 0).tolist() == [EQUATOR_KM, 0, 0]
    assert ecef_of(90, 123) == pytest.approx([0, 0, POLE_KM], abs=1e-9)
    assert ecef_of(-90, 0, 1) == pytest.approx([0, 0, -POLE_KM - 1], abs=1e-9)
    # Vallado, example 3-3: 34.352496 N, 46.4464 E, 5085.22 km at (6524.834, 6862.875, 6448.296) km.
    latitude, longitude, height = geodetic_of([6524.834, 6862.875, 6448.296])
    assert latitude == pytest.approx(34.352496, abs=1e-5)
    assert longitude == pytest.approx(46.4464, abs=1e-4)
    assert height == pytest.approx(5085.22, abs=1e-2)


def test_axis_centre_and_nothing() -> None:
    latitude, longitude, height = geodetic_of(np.array([[0, 0, 7000], [0, 0, -7000], [np.nan] * 3]))
    assert latitude[:2].tolist() == [90, -90]
    assert longitude[:2].tolist() == [0, 0]
    assert height[:2] == pytest.approx([7000 - POLE_KM] * 2, abs=1e-9)
    assert np.isnan([latitude[2], longitude[2], height[2]]).all()
    assert np.isfinite(geodetic_of([0.0, 0.0, 0.0])).all()


def test_arrays_of_any_shape() -> None:
    places = ecef_of(np.zeros((2, 3)), np.full((2, 3), -180.0), 100.0)
    assert places.shape == (2, 3, 3)
    assert geodetic_of(places)[2].shape == (2, 3)
    assert up_of([0, 90], 0).shape == (2, 3)


def test_frames_turn_back_and_forth() -> None:
    times = utc(2024, 1, 1) + np.arange(0.0, 1e5, 1e4)
    angle = sidereal_angle(times)
    inertial = np.random.default_rng(1).normal(size=(4, len(times), 3)) * 7000
    fixed = teme_to_ecef(inertial, angle)
    assert np.abs(ecef_to_teme(fixed, angle) - inertial).max() < 1e-9
    assert fixed[..., 2].tolist() == inertial[..., 2].tolist()
    still = ecef_velocity(np.zeros_like(inertial), fixed, angle)
    assert np.linalg.norm(still, axis=-1) == pytest.approx(
        EARTH_RATE_RAD_S * np.hypot(fixed[..., 0], fixed[..., 1])
    )


def test_sidereal_time_of_the_textbook() -> None:
    # Vallado, example 3-5: 1992-08-20 12:14 UT1 is 152.578788 degrees.
    angle = sidereal_angle(np.array([utc(1992, 8, 20, 12, 14)]), dut1_s=0.0)
    assert np.degrees(angle[0]) == pytest.approx(152.578788, abs=1e-6)


@pytest.mark.parametrize(
    ("latitude", "longitude", "target", "azimuth", "elevation"),
    [
        (0, 0, (0, 0, 500), None, 90), (0, 0, (0, 10, 0), 90, -5), (0, 179.5, (0, -179.5, 0), 90, None),
        (0, -179.5, (0, 179.5, 0), 270, None), (90, 0, (80, 0, 500), 180, None), (90, 0, (80, 90, 500), 90, None),
        (-90, 0, (-80, 0, 500), 0, None), (-90, 0, (-80, 90, 500), 90, None), (45, 7, (50, 7, 0), 0, None),
        (45, 7, (40, 7, 0), 180, None),
    ],
)  # fmt: skip
def test_directions(
    latitude: float, longitude: float, target: Any, azimuth: float | None, elevation: float | None
) -> None:
    look = look_at(latitude, longitude, 0.0, ecef_of(*target))
    if azimuth is not None:
        assert (float(look.azimuth_deg) - azimuth + 180) % 360 - 180 == pytest.approx(0, abs=1e-6)
        assert 0 <= float(look.azimuth_deg) < 360
    if elevation is not None:
        assert float(look.elevation_deg) == pytest.approx(elevation, abs=1e-6)


def test_ranges() -> None:
    assert slant_range_max_km(550, 25) == pytest.approx(1123, abs=1)
    assert slant_range_max_km(550, 90) == pytest.approx(550)
    assert float(look_at(0, 0, 0, [EQUATOR_KM + 550, 0, 0]).range_km) == pytest.approx(550)
    assert range_rate_km_s([3.0, 4.0, 0.0], [3.0, 4.0, 9.0]) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("a", "b", "seen"),
    [
        ((7000, 0, 0), (-7000, 0, 0), False),  # through the centre
        ((7000, 0, 0), (0, 7000, 0), False),  # 4950 km at the nearest
        ((7000, 0, 0), (7000, 500, 0), True),
        (
            (7000, 0, 0),
            (42_164, 0, 0),
            True,
        ),  # one above the other: the line hits the Earth, the segment does not
        ((7000, 0, 0), (7000, 0, 0), True),  # one place
        ((R - 1, 0, 0), (9000, 0, 0), False),  # in the air
        ((-9000, R + 0.001, 0), (9000, R + 0.001, 0), True),
        ((-9000, R - 0.001, 0), (9000, R - 0.001, 0), False),
        ((np.nan, 0, 0), (7000, 0, 0), False),
    ],
)
def test_line_of_sight(a: Any, b: Any, seen: bool) -> None:
    assert bool(in_sight(a, b)) is seen
    assert bool(in_sight(b, a)) is seen


def test_line_of_sight_with_a_range() -> None:
    a, b = np.array([[7000.0, 0, 0]] * 2), np.array([[7000.0, 500, 0], [7000.0, 501, 0]])
    assert in_sight(a, b, range_km_max=500).tolist() == [True, False]
    assert clearance_km([7000, -1000, 0], [7000, 1000, 0]) == pytest.approx(7000)


@given(st.lists(st.floats(-50_000, 50_000), min_size=6, max_size=6))
def test_clearance_is_the_least_of_many_points(numbers: list[float]) -> None:
    a, b = np.array(numbers[:3]), np.array(numbers[3:])
    points = a + np.linspace(0, 1, 2001)[:, np.newaxis] * (b - a)
    least = np.linalg.norm(points, axis=1).min()
    clear = float(clearance_km(a, b))
    assert clear <= least + 1e-6
    assert least - clear <= np.linalg.norm(b - a) / 4000 + 1e-6


@pytest.mark.parametrize(
    "changes",
    [
        {"latitude_deg": 91}, {"latitude_deg": float("nan")}, {"longitude_deg": 400}, {"height_m": 1e6},
        {"mask_deg": 91}, {"mask_deg": -11}, {"horizon": ((400.0, 1.0),)}, {"horizon": ((0.0, 91.0),)},
        {"range_km_max": 0}, {"range_km_max": float("nan")},
    ],
)  # fmt: skip
def test_stations_that_cannot_be(changes: dict[str, Any]) -> None:
    with pytest.raises(GeometryRefused, match="'g'"):
        GroundNode(**{"id": "g", "latitude_deg": 0, "longitude_deg": 0, **changes})


def test_a_horizon_is_read_round_north() -> None:
    node = GroundNode(
        id="g",
        latitude_deg=0,
        longitude_deg=0,
        mask_deg=5,
        horizon=((350.0, 20.0), (10.0, 40.0), (180.0, 0.0)),
    )
    assert node.mask_at([350, 0, 10, 180, 265, 359.999, 360]) == pytest.approx(
        [20, 30, 40, 5, 10, 30, 30], abs=1e-2
    )
    assert list(node.mask_range_deg) == [5, 40]
    plain = GroundNode(id="g", latitude_deg=0, longitude_deg=0, mask_deg=7)
    assert plain.mask_at([0.0, 90.0]).tolist() == [7, 7]
    assert list(plain.mask_range_deg) == [7, 7]
    one = GroundNode(id="g", latitude_deg=0, longitude_deg=0, horizon=((90.0, 12.0),))
    assert one.mask_at([0.0, 90.0, 271.0]).tolist() == [12, 12, 12]


def test_all_nodes_tell_where_they_are() -> None:
    satellite, station = (
        Satellite("s", elements("iss")),
        GroundNode(id="g", latitude_deg=10, longitude_deg=20),
    )
    times = elements("iss").epoch_s + np.arange(5.0)
    for node in (satellite, station):
        assert isinstance(node, Located)
        assert node.positions_km(times).shape == (5, 3)
        assert node.positions_km(times[0]).shape == (1, 3)
    assert station.positions_km(times)[3] == pytest.approx(ecef_of(10, 20))
    stale = satellite.positions_km(times + 30 * 86_400)
    assert np.isnan(stale).all()
    with pytest.raises(GeometryRefused, match="reaches"):
        Satellite("s", elements("iss"), range_km_max=-1.0)
