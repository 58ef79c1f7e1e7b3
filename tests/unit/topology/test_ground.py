"""Links from the ground: masks, antennas and policies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.orbit.errors import GeometryRefused
from edgeagent.orbit.geodetic import ecef_of
from edgeagent.orbit.look import look_at, slant_range_max_km
from edgeagent.topology.errors import TopologyRefused
from edgeagent.topology.ground import (
    GroundSettings,
    Sightings,
    choose,
    seen_s,
    sightings,
    stations_of,
)
from edgeagent.topology.kernels import kernels
from tests.unit.topology.shells import shell

PATHS = [True] if kernels is None else [True, False]
SATELLITES = shell(24, 22, 5)


def _equal(one: Sightings, other: Sightings) -> bool:
    return (
        np.array_equal(one.station, other.station)
        and np.array_equal(one.satellite, other.satellite)
        and np.array_equal(one.range_km, other.range_km)
    )


@given(st.integers(0, 8), st.integers(0, 2**32 - 1), st.sampled_from([-5.0, 0.0, 10.0, 25.0, 90.0]))
def test_who_is_seen_stands_above_the_mask(count: int, seed: int, mask_deg: float) -> None:
    random = np.random.default_rng(seed)
    latitude, longitude = random.uniform(-90, 90, count), random.uniform(-180, 180, count)
    height = random.uniform(-0.4, 5.0, count)
    targets = SATELLITES.copy()
    targets[random.random(len(targets)) < 0.1] = np.nan
    stations = stations_of(
        ecef_of(latitude, longitude, height), mask_deg, range_km_max=random.uniform(500, 3000, count)
    )
    seen = sightings(stations, targets, pure_only=True)
    if kernels is not None:
        assert _equal(seen, sightings(stations, targets))
    for row in range(count):
        look = look_at(latitude[row], longitude[row], height[row], targets)
        above = look.elevation_deg - mask_deg
        good = (above >= 0.0) & (look.range_km <= stations.range_km_max[row])
        sure = np.isnan(above) | (np.abs(above) > 1e-6)
        mine = np.zeros(len(targets), dtype=np.bool_)
        mine[seen.satellite[seen.station == row]] = True
        assert (mine == good)[sure].all()
        limit = slant_range_max_km(550.0, mask_deg, 6378.137 - 25.0)
        assert (seen.range_km[seen.station == row] <= limit + 60.0).all()


@pytest.mark.parametrize("pure_only", PATHS)
def test_stations_at_the_poles_and_the_antimeridian_see(*, pure_only: bool) -> None:
    places = ecef_of([90.0, -90.0, 0.0, 0.0], [0.0, 0.0, 180.0, -180.0], 0.0)
    overhead = places * (1.0 + 550.0 / np.linalg.norm(places, axis=1, keepdims=True))
    seen = sightings(stations_of(places, 89.0), overhead, pure_only=pure_only)
    pairs = set(zip(seen.station.tolist(), seen.satellite.tolist(), strict=True))
    assert pairs == {(0, 0), (1, 1), (2, 2), (2, 3), (3, 2), (3, 3)}
    assert seen.range_km == pytest.approx(550.0, abs=1e-6)


@pytest.mark.parametrize("pure_only", PATHS)
def test_who_is_not_there_sees_nobody(*, pure_only: bool) -> None:
    nowhere = np.full((1, 3), np.nan)
    here = ecef_of([0.0], [0.0], 0.0)
    for stations, targets in (
        (nowhere, SATELLITES),
        (here, nowhere),
        (np.empty((0, 3)), SATELLITES),
        (here, []),
    ):
        horizons = {0: ((0.0, 10.0),)} if len(stations) else {}
        seen = sightings(stations_of(stations, 5.0, horizons=horizons), targets, pure_only=pure_only)
        assert len(seen) == 0
        assert len(choose(seen, GroundSettings())) == 0


def test_mountains_in_the_north_hide_satellites_in_the_north() -> None:
    places = ecef_of([48.0, 48.0], [16.0, 16.0], 0.2)
    wall = {1: ((0.0, 60.0), (60.0, 60.0), (61.0, 0.0), (299.0, 0.0), (300.0, 60.0))}
    seen = sightings(stations_of(places, 5.0, horizons=wall), SATELLITES)
    free, hidden = (set(seen.satellite[seen.station == row].tolist()) for row in (0, 1))
    assert hidden < free
    look = look_at(48.0, 16.0, 0.2, SATELLITES)
    for satellite in free - hidden:
        assert look.elevation_deg[satellite] < 60.0
        assert not 61.0 < look.azimuth_deg[satellite] < 299.0
    for satellite in hidden:
        assert look.elevation_deg[satellite] >= 60.0 or 60.0 < look.azimuth_deg[satellite] < 300.0


def _seen(*rows: tuple[int, int, float]) -> Sightings:
    station, satellite, range_km = zip(*rows, strict=True)
    return Sightings(
        np.array(station, np.int32), np.array(satellite, np.int32), np.array(range_km, np.float64)
    )


def _pairs(seen: Sightings) -> list[tuple[int, int]]:
    return list(zip(seen.station.tolist(), seen.satellite.tolist(), strict=True))


SEEN = _seen((0, 0, 600.0), (0, 1, 700.0), (1, 0, 500.0), (1, 1, 900.0), (2, 0, 600.0), (2, 1, 950.0))


@pytest.mark.parametrize(
    ("per_station", "per_satellite", "expected"),
    [
        (1, 0, [(0, 0), (1, 0), (2, 0)]),
        (1, 1, [(0, 1), (1, 0)]),
        (2, 2, [(0, 0), (0, 1), (1, 0), (1, 1)]),
        (0, 0, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]),
        (0, 1, [(0, 1), (1, 0)]),
    ],
)
def test_antennas_are_given_out_nearest_first(
    per_station: int, per_satellite: int, expected: list[tuple[int, int]]
) -> None:
    assert (
        _pairs(choose(SEEN, GroundSettings(per_station=per_station, per_satellite=per_satellite))) == expected
    )


def test_the_longest_visible_is_preferred_to_the_nearest() -> None:
    settings = GroundSettings(policy="longest")
    remaining = np.array([60.0, 300.0, 300.0, 300.0, 0.0, 0.0])
    assert _pairs(choose(SEEN, settings, remaining)) == [(0, 1), (1, 0), (2, 0)]
    with pytest.raises(TopologyRefused, match="how long"):
        choose(SEEN, settings)


def test_sight_is_counted_until_it_is_first_lost() -> None:
    later = [
        _seen((0, 0, 1.0), (1, 1, 1.0)),
        _seen((1, 1, 1.0), (0, 5, 1.0)),
        _seen((0, 0, 1.0), (1, 1, 1.0)),
    ]
    found = dict(zip(_pairs(SEEN), seen_s(SEEN, later, 30.0).tolist(), strict=True))
    assert found == {(0, 0): 30.0, (0, 1): 0.0, (1, 0): 0.0, (1, 1): 90.0, (2, 0): 0.0, (2, 1): 0.0}


@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(0, 3))
def test_nobody_has_more_links_than_antennas(seed: int, per_station: int, per_satellite: int) -> None:
    random = np.random.default_rng(seed)
    stations = stations_of(ecef_of(random.uniform(-60, 60, 20), random.uniform(-180, 180, 20), 0.0), 10.0)
    seen = sightings(stations, SATELLITES)
    chosen = choose(seen, GroundSettings(per_station=per_station, per_satellite=per_satellite))
    at_station, at_satellite = np.bincount(chosen.station, minlength=20), np.bincount(chosen.satellite)
    assert at_station.max(initial=0) <= (per_station or math.inf)
    assert at_satellite.max(initial=0) <= (per_satellite or math.inf)
    linked = set(_pairs(chosen))
    assert linked <= set(_pairs(seen))
    for station, satellite in set(_pairs(seen)) - linked:  # who is refused, is refused by a full end
        full = [per_station and at_station[station] == per_station]
        full.append(
            per_satellite
            and np.bincount(chosen.satellite, minlength=satellite + 1)[satellite] == per_satellite
        )
        assert any(full)


def test_stations_and_settings_that_cannot_be_are_refused() -> None:
    place = ecef_of([0.0], [0.0], 0.0)
    for call in (
        lambda: stations_of(place, 91.0),
        lambda: stations_of(place, math.nan),
        lambda: stations_of(place, -11.0),
        lambda: stations_of(place, 0.0, range_km_max=-1.0),
        lambda: stations_of(np.zeros((1, 2)), 0.0),
        lambda: GroundSettings(per_station=-1),
        lambda: GroundSettings(policy="farthest"),  # type: ignore[arg-type]
        lambda: GroundSettings(look_every_s=0.0),
        lambda: GroundSettings(look_ahead_s=1.0, look_every_s=2.0),
        lambda: GroundSettings(look_ahead_s=1e9),
    ):
        with pytest.raises(TopologyRefused):
            call()
    with pytest.raises(GeometryRefused):
        stations_of(place, 0.0, horizons={0: ((400.0, 1.0),)})
