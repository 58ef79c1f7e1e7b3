"""skyfield as the oracle: positions, look angles, passes. Its time scale comes with its own Earth rotation data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skyfield.api import EarthSatellite, load, wgs84
from skyfield.framelib import itrs
from skyfield.sgp4lib import TEME

from edgeagent.orbit.ephemeris import Ephemeris
from edgeagent.orbit.geodetic import geodetic_of
from edgeagent.orbit.nodes import GroundNode, Satellite
from edgeagent.orbit.planner import Planner
from edgeagent.orbit.propagation import Ensemble
from edgeagent.orbit.sidereal import sidereal_angle
from edgeagent.orbit.tle import elements_of_lines
from tests.unit.orbit.samples import elements, lines, shared_data, utc

SCALE = load.timescale(builtin=True)
DAY_S = 86400.0


def _moments(utc_s: NDArray[np.float64]) -> Any:
    days = np.floor(
        np.asarray(utc_s) / DAY_S
    )  # seconds of a whole day: skyfield counts leap seconds in longer ones
    return SCALE.utc(1970, 1, 1 + days, 0, 0, np.asarray(utc_s) - days * DAY_S)


def _times(name: str, count: int = 60) -> NDArray[np.float64]:
    """Moments over two days after the epoch."""
    return elements(name).epoch_s + np.linspace(0.0, 2 * DAY_S, count)


@pytest.mark.parametrize("name", list(lines))
def test_positions_in_the_turning_frame(name: str) -> None:
    times = _times(name)
    ours, error = Ensemble([elements(name)]).positions_ecef_km(times)
    theirs = EarthSatellite(*lines[name], ts=SCALE).at(_moments(times)).frame_xyz(itrs).km.T
    assert not error.any()
    apart_m = np.linalg.norm(ours[0] - theirs, axis=1).max() * 1e3
    assert apart_m < 30.0, apart_m


@pytest.mark.parametrize("name", list(lines))
def test_with_ut1_given_positions_agree_to_a_metre(name: str) -> None:
    times = _times(name, 5)
    theirs = EarthSatellite(*lines[name], ts=SCALE).at(_moments(times)).frame_xyz(itrs).km.T
    for at, moment in enumerate(times):
        dut1 = float(_moments(np.array([moment])).dut1[0])
        ours, _ = Ensemble([elements(name)]).positions_ecef_km(moment, dut1_s=dut1)
        assert np.linalg.norm(ours[0, 0] - theirs[at]) < 1e-3


def test_without_any_ut1_a_low_orbit_of_2019_is_within_100_metres() -> None:
    times = _times("iss")
    ours, _ = Ensemble([elements("iss")]).positions_ecef_km(times, dut1_s=0.0)
    theirs = EarthSatellite(*lines["iss"], ts=SCALE).at(_moments(times)).frame_xyz(itrs).km.T
    assert np.linalg.norm(ours[0] - theirs, axis=1).max() < 0.1  # UT1 - UTC was -0.17 s


def test_velocities_in_the_turning_frame() -> None:
    times = _times("molniya")
    ours = Ensemble([elements("molniya")]).propagate(times).in_ecef()
    _, theirs = EarthSatellite(*lines["molniya"], ts=SCALE).at(_moments(times)).frame_xyz_and_velocity(itrs)
    assert np.abs(ours.velocity_km_s[0] - theirs.km_per_s.T).max() < 1e-4


def test_the_sidereal_angle() -> None:
    times = np.linspace(0.0, 1.8e9, 400)
    moments = _moments(times)
    ours = sidereal_angle(times, dut1_s=0.0)
    theirs = TEME.rotation_at(moments)
    assert theirs.shape == (3, 3, 400)
    exact = moments.dut1
    known = times > 1e8  # from 1973 on UT1 is known to both
    with_table = sidereal_angle(times)
    with_theirs = np.array(
        [sidereal_angle(np.array([t]), dut1_s=float(d))[0] for t, d in zip(times, exact, strict=True)]
    )
    apart_s = np.abs(np.angle(np.exp(1j * (with_table - with_theirs)))) / 7.292e-5
    assert apart_s[known].max() < 0.007
    assert ((ours >= 0) & (ours < 2 * np.pi)).all()


@pytest.mark.parametrize(
    ("latitude", "longitude", "height_m"),
    [(0.0, 0.0, 0.0), (48.2, 16.4, 180.0), (-77.8, 166.7, 10.0), (90.0, 0.0, 2800.0), (-90.0, 45.0, 2835.0),
     (12.0, 179.9999, 0.0), (12.0, -180.0, 0.0), (-33.0, -70.0, 2400.0), (27.988, 86.925, 8848.0)],
)  # fmt: skip
@pytest.mark.parametrize("name", list(lines))
def test_look_angles(name: str, latitude: float, longitude: float, height_m: float) -> None:
    times = _times(name, 25)
    station = GroundNode(id="g", latitude_deg=latitude, longitude_deg=longitude, height_m=height_m)
    positions, _ = Ensemble([elements(name)]).positions_ecef_km(times)
    look = station.look(positions[0])
    place = wgs84.latlon(latitude, longitude, elevation_m=height_m)
    altitude, azimuth, distance = (EarthSatellite(*lines[name], ts=SCALE) - place).at(_moments(times)).altaz()
    assert np.abs(look.elevation_deg - altitude.degrees).max() < 1e-3
    apart = (look.azimuth_deg - azimuth.degrees + 180) % 360 - 180
    assert (np.abs(apart) * np.cos(np.radians(altitude.degrees))).max() < 2e-3
    assert np.abs(look.range_km - distance.km).max() < 0.05


def test_geodetic_coordinates() -> None:
    times = _times("polar", 200)
    positions, _ = Ensemble([elements("polar")]).positions_ecef_km(times)
    latitude, longitude, height = geodetic_of(positions[0])
    below = wgs84.geographic_position_of(EarthSatellite(*lines["polar"], ts=SCALE).at(_moments(times)))
    assert np.abs(latitude - below.latitude.degrees).max() < 1e-3
    apart = (longitude - below.longitude.degrees + 180) % 360 - 180
    assert (np.abs(apart) * np.cos(np.radians(latitude))).max() < 1e-3
    assert np.abs(height - below.elevation.km).max() < 0.01


def _theirs(name: str, station: GroundNode, begin: float, end: float) -> list[tuple[float, float]]:
    """The passes by skyfield's elevation: sampled every 10 s, each edge bisected to a millisecond.

    (Its own find_events goes to half a second, and leaves out passes of eccentric orbits.)
    """
    place = wgs84.latlon(station.latitude_deg, station.longitude_deg, elevation_m=station.height_m)
    seen = EarthSatellite(*lines[name], ts=SCALE) - place

    def over(utc_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        altitude, _, _ = seen.at(_moments(utc_s)).altaz()
        return np.asarray(altitude.degrees >= station.mask_deg)

    times = np.arange(begin, end, 10.0)
    state = over(times)
    changes = np.flatnonzero(state[1:] != state[:-1])
    low, high, before = times[changes], times[changes + 1], state[changes]
    for _ in range(14):
        middle = (low + high) / 2
        still = over(middle) == before
        low, high = np.where(still, middle, low), np.where(still, high, middle)
    edges = high[1:] if state[0] else high
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=False))


@pytest.mark.parametrize(
    ("name", "station"),
    [
        ("iss", GroundNode(id="g", latitude_deg=48.2, longitude_deg=16.4, height_m=180, mask_deg=10)),
        ("iss", GroundNode(id="g", latitude_deg=-33.0, longitude_deg=-70.0, height_m=2400, mask_deg=0)),
        ("iss", GroundNode(id="g", latitude_deg=12.0, longitude_deg=180.0, mask_deg=25)),
        ("polar", GroundNode(id="g", latitude_deg=90.0, longitude_deg=0.0, mask_deg=5)),
        ("polar", GroundNode(id="g", latitude_deg=-90.0, longitude_deg=0.0, height_m=2835, mask_deg=30)),
        ("polar", GroundNode(id="g", latitude_deg=0.0, longitude_deg=-179.99, mask_deg=20)),
        ("molniya", GroundNode(id="g", latitude_deg=60.0, longitude_deg=30.0, mask_deg=10)),
        ("molniya", GroundNode(id="g", latitude_deg=-20.0, longitude_deg=140.0, mask_deg=0)),
    ],
)
def test_rise_and_set(name: str, station: GroundNode) -> None:
    begin = elements(name).epoch_s + 600
    plan = Planner([station, Satellite("s", elements(name))], horizon_s=2 * DAY_S).advance(begin)
    windows = [w for w in plan.windows_of("g", "s") if not w.cut_start and not w.cut_end]
    theirs = _theirs(name, station, plan.start_s, plan.end_s)
    assert len(windows) == len(theirs) >= 2
    for ours, (rises, sets) in zip(windows, theirs, strict=True):
        assert abs(ours.start_s - rises) < 0.1
        assert abs(ours.end_s - sets) < 0.1


@pytest.mark.parametrize("name", list(lines))
def test_between_grid_points_positions_are_those_of_sgp4(name: str) -> None:
    one = elements(name)
    node, ensemble = Satellite("s", one), Ensemble([one])
    first = int(one.epoch_s // 60)
    ephemeris = Ephemeris([node], ensemble, first, first + 1440)
    seconds = np.linspace(0.0, 86_399.0, 5000)
    between, speed = ephemeris.at(np.zeros(5000, np.intp), seconds)
    exact = ensemble.propagate(first * 60.0 + seconds).in_ecef()
    assert np.linalg.norm(between - exact.position_km[0], axis=1).max() < 0.01
    assert np.linalg.norm(speed - exact.velocity_km_s[0], axis=1).max() < 5e-3


def test_fifty_real_satellites_seen_from_one_station() -> None:
    path = shared_data("starlink-2024-10-21.tle")
    rows = path.read_text(encoding="ascii").splitlines()
    triples = [rows[at : at + 3] for at in range(0, len(rows), 3)][:: len(rows) // 150]
    times = utc(2024, 10, 21, 8) + np.linspace(0.0, 5400.0, 20)
    moments, place = _moments(times), wgs84.latlon(47.0, 15.4, elevation_m=353)
    station = GroundNode(id="g", latitude_deg=47.0, longitude_deg=15.4, height_m=353)
    positions, error = Ensemble([elements_of_lines(a, b, name=n) for n, a, b in triples]).positions_ecef_km(
        times
    )
    assert not error.any()
    for row, (name, one, two) in enumerate(triples):
        theirs = EarthSatellite(one, two, name, SCALE)
        apart = np.linalg.norm(positions[row] - theirs.at(moments).frame_xyz(itrs).km.T, axis=1)
        altitude, _, distance = (theirs - place).at(moments).altaz()
        look = station.look(positions[row])
        assert apart.max() < 0.030
        assert np.abs(look.elevation_deg - altitude.degrees).max() < 1e-3
        assert np.abs(look.range_km - distance.km).max() < 0.030
    assert len(triples) >= 50
