"""Contact windows against brute force: the same nodes sampled every quarter of a second straight from SGP4.

The oracle shares neither the grid nor the interpolation, the margins or the search with what it judges.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edgeagent.orbit.elements import Elements
from edgeagent.orbit.ephemeris import Ephemeris
from edgeagent.orbit.kepler import kepler_elements
from edgeagent.orbit.margins import GroundMargins, SpaceMargins
from edgeagent.orbit.nodes import GroundNode, Node, Satellite
from edgeagent.orbit.plan import ContactPlan
from edgeagent.orbit.planner import Planner
from edgeagent.orbit.propagation import Ensemble
from edgeagent.orbit.sight import in_sight
from edgeagent.orbit.windows import RESOLUTION_S, find_windows
from tests.unit.orbit.samples import elements, utc

START = utc(2024, 10, 21, 8)
STEP_S = 0.25


def truth(a: Node, b: Node, start: float, end: float) -> list[tuple[float, float]]:
    """Contacts by brute force; edges to a quarter of a second, ends of the span as they fall."""
    times = np.arange(start, end + STEP_S / 2, STEP_S)
    seen: NDArray[np.bool_]
    if isinstance(a, Satellite) and isinstance(b, Satellite):
        reach = min(a.range_km_max, b.range_km_max)
        seen = in_sight(a.positions_km(times), b.positions_km(times), range_km_max=reach)
    else:
        station, satellite = (a, b) if isinstance(a, GroundNode) else (b, a)
        assert isinstance(station, GroundNode)
        look = station.look(satellite.positions_km(times))
        seen = (look.elevation_deg >= station.mask_at(look.azimuth_deg)) & (
            look.range_km <= station.range_km_max
        )
    edges = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]]).astype(int)))
    return [(times[i], times[min(j, len(times) - 1)]) for i, j in zip(edges[::2], edges[1::2], strict=True)]


def agree(plan: ContactPlan, a: Node, b: Node) -> int:
    """Every contact and every gap of a second is the same in both; returns how many contacts there are."""
    ours = [(w.start_s, w.end_s) for w in plan.windows_of(a.id, b.id)]
    theirs = truth(a, b, plan.start_s, plan.end_s)
    samples = np.arange(plan.start_s, plan.end_s, STEP_S)

    def state(windows: list[tuple[float, float]]) -> NDArray[np.bool_]:
        found = np.zeros(len(samples), dtype=np.bool_)
        for begin, until in windows:
            found |= (samples >= begin) & (samples < until)
        return found

    wrong = state(ours) != state(theirs)
    runs = np.flatnonzero(np.diff(np.concatenate([[False], wrong, [False]]).astype(int)))
    longest = (runs[1::2] - runs[::2]).max(initial=0) * STEP_S
    assert longest <= RESOLUTION_S + STEP_S, (longest, ours, theirs)
    for begin, until in theirs:
        if until - begin > 2.0:
            assert any(abs(begin - x) < 2 * STEP_S for x, _ in ours), (begin, ours)
            assert any(abs(until - y) < 2 * STEP_S for _, y in ours), (until, ours)
    return len(theirs)


def orbit(seed: int, name: str, **changes: float) -> Elements:
    """A random low orbit without drag."""
    rng = np.random.default_rng(seed)
    values: dict[str, Any] = {
        "altitude_km": rng.uniform(350, 1400),
        "inclination_deg": rng.uniform(0, 110),
        "raan_deg": rng.uniform(0, 360),
        "mean_anomaly_deg": rng.uniform(0, 360),
        **changes,
    }
    return kepler_elements(epoch_us=int(START * 1e6), name=name, **values)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mask", [0.0, 25.0, 60.0, 85.0])
def test_ground_contacts(seed: int, mask: float) -> None:
    rng = np.random.default_rng(seed)
    satellites = [Satellite(f"s{n}", orbit(100 * seed + n, f"s{n}", altitude_km=1200.0)) for n in range(6)]
    station = GroundNode(
        id="g", latitude_deg=rng.uniform(-90, 90), longitude_deg=rng.uniform(-180, 180), mask_deg=mask
    )
    plan = Planner([station, *satellites], horizon_s=5 * 3600).advance(START)
    assert sum(agree(plan, station, satellite) for satellite in satellites) >= (mask == 0)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("reach", [100.0, 600.0, 3000.0, math.inf])
def test_contacts_between_satellites(seed: int, reach: float) -> None:
    nodes = [
        Satellite(f"s{n}", orbit(7 * seed + n, f"s{n}", altitude_km=550.0 + n), range_km_max=reach)
        for n in range(4)
    ]
    plan = Planner(nodes, horizon_s=3 * 3600).advance(START)
    count = sum(agree(plan, a, b) for n, a in enumerate(nodes) for b in nodes[:n])
    assert count >= (reach > 3000)


def test_crossings_of_a_few_seconds_are_found() -> None:
    """Two circular orbits of one height that cross at right angles: in reach for some seconds, twice a turn."""
    a = Satellite(
        "a", orbit(0, "a", altitude_km=600.0, inclination_deg=0.0, raan_deg=0.0, mean_anomaly_deg=0.0)
    )
    durations = []
    for reach in (8.0, 12.0, 20.0, 60.0):
        b = Satellite(
            "b",
            orbit(0, "b", altitude_km=600.0, inclination_deg=90.0, raan_deg=0.0, mean_anomaly_deg=0.0),
            range_km_max=reach,
        )
        plan = Planner([a, b], horizon_s=3 * 3600).advance(START)
        agree(plan, a, b)
        durations += [window.duration_s for window in plan.windows]
    assert len(durations) >= 3
    assert min(durations) < 3.0


@pytest.mark.parametrize("peak", [0.05, 0.3, 1.0])
def test_grazing_passes(peak: float) -> None:
    """A mask just below the top of a pass: a contact of seconds in an orbit seen for minutes."""
    one = Satellite("s", orbit(3, "s", altitude_km=600.0, inclination_deg=60.0))
    times = START + np.arange(0, 12 * 3600, 1.0)
    bare = GroundNode(id="g", latitude_deg=40, longitude_deg=10)
    elevation = bare.look(one.positions_km(times)).elevation_deg
    tops = [e for e in elevation[1:-1][np.diff(np.sign(np.diff(elevation))) < 0] if e > 1]
    assert tops
    for top in tops:
        station = msgspec.structs.replace(bare, mask_deg=float(top) - peak)
        plan = Planner([station, one], horizon_s=12 * 3600).advance(START)
        assert agree(plan, station, one) >= 1


@pytest.mark.parametrize(
    "horizon",
    [
        ((0.0, 5.0), (90.0, 45.0), (180.0, 5.0), (270.0, 60.0)),
        tuple((float(azimuth), 10.0 + 30.0 * (azimuth // 20 % 2)) for azimuth in range(0, 360, 5)),
        ((100.0, 0.0), (100.001, 80.0), (102.0, 80.0), (102.001, 0.0)),
    ],
)
@pytest.mark.parametrize("latitude", [-90.0, 35.0, 90.0])
def test_horizons_by_azimuth(horizon: tuple[tuple[float, float], ...], latitude: float) -> None:
    """Mountains and masts: contacts that break off and come back within one pass."""
    station = GroundNode(id="g", latitude_deg=latitude, longitude_deg=179.9, horizon=horizon, mask_deg=3.0)
    satellites = [Satellite(f"s{n}", orbit(n, f"s{n}", inclination_deg=85.0 + n)) for n in range(3)]
    plan = Planner([station, *satellites], horizon_s=4 * 3600).advance(START)
    assert sum(agree(plan, station, satellite) for satellite in satellites) > 1


def test_a_range_limits_ground_contacts() -> None:
    station = GroundNode(id="g", latitude_deg=50, longitude_deg=0, mask_deg=5, range_km_max=1700)
    one = Satellite("s", orbit(3, "s", altitude_km=600.0, inclination_deg=60.0))
    plan = Planner([station, one], horizon_s=24 * 3600).advance(START)
    assert agree(plan, station, one) >= 1


def test_a_geostationary_satellite_is_always_or_never_there() -> None:
    geo = kepler_elements(epoch_us=int(START * 1e6), semi_major_axis_km=42_164.17, name="geo")
    below = Satellite("s", geo).positions_km(START)[0]
    longitude = float(np.degrees(np.arctan2(below[1], below[0])))
    there = GroundNode(id="there", latitude_deg=20, longitude_deg=longitude + 20, mask_deg=10)
    away = GroundNode(id="away", latitude_deg=20, longitude_deg=longitude + 170, mask_deg=10)
    plan = Planner([there, away, Satellite("s", geo)], horizon_s=86_400).advance(START)
    (window,) = plan.windows
    assert (window.a, window.b, window.start_s, window.end_s) == ("s", "there", plan.start_s, plan.end_s)
    assert window.cut_start
    assert window.cut_end
    assert plan.windows_of("away", "s") == ()


def test_between_molniya_geo_and_low_orbits() -> None:
    start = elements("molniya").epoch_s + 60
    names = ["molniya", "geo", "polar"]
    sets = [msgspec.structs.replace(elements(name), epoch_us=elements("molniya").epoch_us) for name in names]
    nodes = [Satellite(name, one) for name, one in zip(names, sets, strict=True)]
    plan = Planner(nodes, horizon_s=8 * 3600).advance(start)
    assert sum(agree(plan, a, b) for n, a in enumerate(nodes) for b in nodes[:n]) > 5


def test_a_satellite_that_decays_drops_out() -> None:
    """Positions end in the middle of the span: so does the contact, at the grid point before."""
    falling = msgspec.structs.replace(elements("iss"), bstar_per_er=0.09)
    times = falling.epoch_s + np.arange(0, 4 * 86_400, 60.0)
    good = Ensemble([falling], policy=None).propagate(times).good[0]
    assert good[0]
    assert not good.all()
    dies = float(times[np.flatnonzero(~good)[0]])
    fellow = msgspec.structs.replace(elements("iss"), name="fellow", norad_id=1)
    station = GroundNode(id="g", latitude_deg=0, longitude_deg=0)
    nodes: list[Node] = [Satellite("f", falling), Satellite("e", fellow), station]
    plan = Planner(nodes, horizon_s=21 * 3600, policy=None).advance(dies - 20 * 3600)
    assert all(
        window.end_s <= math.ceil(dies / 60) * 60 for window in plan.windows if "f" in {window.a, window.b}
    )
    assert any("f" in {window.a, window.b} for window in plan.windows)
    last_good = math.floor((dies - 1e-3) / 60) * 60
    assert not plan.in_contact("f", "e", last_good + 60)


def test_contact_is_cut_where_positions_begin_and_end() -> None:
    """A satellite whose elements turn stale in the middle, always in sight of its twin."""
    one = kepler_elements(epoch_us=int(START * 1e6), altitude_km=600, inclination_deg=50, name="a")
    twin = kepler_elements(
        epoch_us=int(START * 1e6), altitude_km=600, inclination_deg=50, mean_anomaly_deg=5, name="b"
    )
    ends = START + 14 * 86_400
    plan = Planner([Satellite("a", one), Satellite("b", twin)], horizon_s=7200).advance(ends - 3600)
    (window,) = plan.windows
    assert window.end_s == math.floor(ends / 60) * 60
    assert not window.cut_end


def test_no_pairs_and_no_time() -> None:
    one = Satellite("s", orbit(1, "s"))
    station = GroundNode(id="g", latitude_deg=0, longitude_deg=0)
    first = int(START // 60)
    for last in (first, first + 1):
        ephemeris = Ephemeris([station, one], Ensemble([one.elements]), first, last)
        for margins in (GroundMargins([station, one], []), SpaceMargins([station, one], [])):
            assert len(find_windows(margins, ephemeris).pair) == 0
        assert len(find_windows(GroundMargins([station, one], [(0, 1)]), ephemeris).pair) in {0, 1}


def test_large_jobs_are_cut_into_bounded_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [Satellite(f"s{n}", orbit(n, f"s{n}"), range_km_max=4000) for n in range(12)]
    whole = Planner(nodes).advance(START).windows
    monkeypatch.setattr("edgeagent.orbit.windows._SAMPLES_MAX", 500)
    assert Planner(nodes).advance(START).windows == whole
    assert len(whole) > 20
