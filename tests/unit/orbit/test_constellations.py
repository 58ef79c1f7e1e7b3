"""Synthetic orbits: they fly where they were meant to, and shells are what Walker's notation says."""

from __future__ import annotations

import gzip
import json
import math
from typing import Any

import numpy as np
import pytest

from edgeagent.orbit.elements import Elements
from edgeagent.orbit.errors import ElementsRefused, GeometryRefused
from edgeagent.orbit.geodetic import geodetic_of
from edgeagent.orbit.kepler import EARTH_RADIUS_KM, kepler_elements, kozai_mean_motion, mean_anomaly_of_true
from edgeagent.orbit.propagation import Ensemble, satrec_of
from edgeagent.orbit.walker import walker
from tests.unit.orbit.samples import shared_data, utc

EPOCH_US = int(utc(2024, 10, 21) * 1e6)


@pytest.mark.parametrize(
    ("axis", "eccentricity"),
    [(6700.0, 0.0), (6928.135, 0.0), (6928.135, 0.01), (7500.0, 0.01), (26_560.0, 0.0), (26_560.0, 0.7),
     (42_164.0, 0.7)],
)  # fmt: skip
@pytest.mark.parametrize("inclination", [0.0, 53.0, 63.4349, 97.6, 180.0])
def test_sgp4_flies_with_the_axis_that_was_asked_for(
    axis: float, eccentricity: float, inclination: float
) -> None:
    one = kepler_elements(
        epoch_us=EPOCH_US,
        semi_major_axis_km=axis,
        eccentricity=eccentricity,
        inclination_deg=inclination,
        name="a",
    )
    record = satrec_of(one)
    assert record.a * EARTH_RADIUS_KM == pytest.approx(axis, rel=1e-9)


def test_a_circular_orbit_stays_at_its_altitude() -> None:
    one = kepler_elements(epoch_us=EPOCH_US, altitude_km=550, inclination_deg=53, name="a")
    positions, error = Ensemble([one]).positions_teme_km(utc(2024, 10, 21) + np.arange(0, 6000, 10.0))
    assert not error.any()
    assert np.linalg.norm(positions[0], axis=1).mean() == pytest.approx(EARTH_RADIUS_KM + 550, abs=3)


@pytest.mark.parametrize("true", [0.0, 10.0, 90.0, 179.0, 180.0, 270.0, 359.0])
@pytest.mark.parametrize("eccentricity", [0.0, 0.3, 0.9])
def test_anomalies(true: float, eccentricity: float) -> None:
    mean = math.radians(mean_anomaly_of_true(true, eccentricity))
    eccentric = mean
    for _ in range(500):
        eccentric -= 0.3 * (eccentric - eccentricity * math.sin(eccentric) - mean)
    back = math.degrees(
        2 * math.atan2(
            math.sqrt(1 + eccentricity) * math.sin(eccentric / 2), math.sqrt(1 - eccentricity) * math.cos(eccentric / 2)
        )
    )  # fmt: skip
    assert (back - true + 180) % 360 - 180 == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {}, {"altitude_km": 1.0, "semi_major_axis_km": 7000.0}, {"semi_major_axis_km": 6000.0},
        {"altitude_km": float("nan")}, {"altitude_km": 500, "raan_deg": float("inf")}, {"altitude_km": -5},
        {"altitude_km": 500, "eccentricity": 1.0}, {"altitude_km": 500, "inclination_deg": float("nan")},
    ],
)  # fmt: skip
def test_orbits_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(GeometryRefused):
        kepler_elements(epoch_us=EPOCH_US, name="a", **wrong)
    with pytest.raises(ElementsRefused):
        kepler_elements(epoch_us=EPOCH_US, name="a", altitude_km=500, inclination_deg=181)


def test_angles_of_any_size() -> None:
    one = kepler_elements(epoch_us=EPOCH_US, altitude_km=500, raan_deg=-10, mean_anomaly_deg=730, name="a")
    assert (one.raan_deg, one.mean_anomaly_deg) == (350, 10)


@pytest.mark.parametrize(("planes", "per_plane"), [(72, 22), (22, 72), (1, 5), (5, 1)])
def test_a_shell_is_spread_evenly(planes: int, per_plane: int) -> None:
    total, phasing = planes * per_plane, planes // 2
    shell = walker(
        total=total, planes=planes, phasing=phasing, inclination_deg=53, altitude_km=550, epoch_us=EPOCH_US
    )
    assert len({one.norad_id for one in shell}) == len({one.name for one in shell}) == total
    for index, one in enumerate(shell):
        plane, slot = divmod(index, per_plane)
        assert one.raan_deg == pytest.approx(360 * plane / planes)
        wanted = (360 * slot / per_plane + 360 * phasing * plane / total) % 360
        assert one.mean_anomaly_deg == pytest.approx(wanted)


def test_phasing_closes_over_the_last_plane() -> None:
    """From the last plane to the first the step is the same as between all others, up to whole slots."""
    shell = walker(total=66, planes=6, phasing=2, inclination_deg=53, altitude_km=780, epoch_us=EPOCH_US)
    first, last = shell[0], shell[55]
    step = (first.mean_anomaly_deg - last.mean_anomaly_deg) % (360 / 11)
    assert step == pytest.approx(360 * 2 / 66)


def test_a_star_spreads_over_half_a_turn() -> None:
    shell = walker(
        total=66, planes=6, phasing=2, inclination_deg=86.4, altitude_km=780, epoch_us=EPOCH_US, kind="star"
    )
    assert [one.raan_deg for one in shell[::11]] == pytest.approx([0, 30, 60, 90, 120, 150])


@pytest.mark.parametrize(
    "wrong",
    [{"total": 10, "planes": 3}, {"total": 0}, {"planes": 0}, {"phasing": 2}, {"phasing": -1}, {"kind": "x"}],
)
def test_shells_that_cannot_be(wrong: dict[str, Any]) -> None:
    good: dict[str, Any] = {"total": 4, "planes": 2, "phasing": 0}
    with pytest.raises(GeometryRefused):
        walker(**{**good, **wrong}, inclination_deg=53, altitude_km=550, epoch_us=EPOCH_US)


def test_the_positions_of_a_published_case() -> None:
    """HyperDrive's 1,008 satellites of 2024-07-02, whose latitudes, longitudes and altitudes are known."""
    with gzip.open(shared_data("wildfire-1118.json.gz")) as file:
        case = json.load(file)
    orbits, slots = case["orbits"], case["orbits"]["sats_per_plane"]
    count = orbits["planes"] * slots
    motion = math.sqrt(3.9860044e14 / (6371393 + 550000) ** 3) * 86_400 / (2 * math.pi)
    shell = [
        Elements(
            epoch_us=int(utc(2020, 1, 1) * 1e6),
            mean_motion_rev_day=motion,
            eccentricity=orbits["sgp4"]["ecc"],
            inclination_deg=orbits["inclination_deg"],
            raan_deg=360 * plane / orbits["planes"],
            arg_perigee_deg=0.0,
            mean_anomaly_deg=(360 * slot / slots + plane * 360 * 18 / count) % 360,
            bstar_per_er=orbits["sgp4"]["bstar"],
            norad_id=plane * slots + slot,
        )
        for plane in range(orbits["planes"])
        for slot in range(slots)
    ]
    ensemble = Ensemble(shell, gravity="wgs84", policy=None)
    for minute, snapshot in case["snapshots"].items():
        positions, error = ensemble.positions_ecef_km(utc(2024, 7, 2, 1) + 60 * (int(minute) - 1))
        latitude, longitude, height = geodetic_of(positions[:, 0])
        assert not error.any()
        assert np.abs(latitude - np.array(snapshot["sat_lat_e4"]) / 1e4).max() < 2e-3
        apart = (longitude - np.array(snapshot["sat_lon_e4"]) / 1e4 + 180) % 360 - 180
        assert np.abs(apart).max() < 5e-3
        assert np.abs(height - np.array(snapshot["sat_alt_m"]) / 1e3).max() < 0.1


def test_kozai_and_brouwer_agree_where_j2_vanishes() -> None:
    inclination = math.degrees(math.acos(math.sqrt(1 / 3)))
    two_body = math.sqrt(398_600.8 / 7000**3) * 86_400 / (2 * math.pi)
    assert kozai_mean_motion(7000, 0, inclination) == pytest.approx(two_body, rel=1e-9)
