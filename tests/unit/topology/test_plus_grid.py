"""+Grid: the pairs of Walker constellations, and those found in real ones."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.orbit.geodetic import EQUATOR_KM
from edgeagent.orbit.importer import read_elements
from edgeagent.orbit.propagation import Ensemble
from edgeagent.orbit.sight import clearance_km
from edgeagent.orbit.walker import walker
from edgeagent.topology.errors import TopologyRefused
from edgeagent.topology.graph import Graph
from edgeagent.topology.planes import MeanOrbits, mean_orbits, planes_of
from edgeagent.topology.plus_grid import plane_pairs, walker_pairs
from edgeagent.topology.points import points_of
from edgeagent.topology.protocols import IslSettings, grid_links, isl_links
from tests.unit.topology.shells import EPOCH_S, shared_data, shell, starlink

PLUS_GRID = IslSettings(protocol="+grid")


@pytest.mark.parametrize(("planes", "slots"), [(22, 72), (72, 22)])
@pytest.mark.parametrize("phasing", [0, 1, 11, 17, 21])
def test_every_satellite_has_four_links_none_of_them_long(planes: int, slots: int, phasing: int) -> None:
    places = shell(planes, slots, phasing)
    pairs = walker_pairs(total=planes * slots, planes=planes, phasing=phasing)
    assert len(pairs) == 2 * planes * slots
    links = isl_links(places, PLUS_GRID, pairs=pairs)
    assert len(links) == len(pairs)  # nothing is lost to the Earth
    assert (links.degrees(len(places)) == 4).all()
    # Side links join satellites whose phase differs by at most half a slot, over the border of the planes too.
    radius = EQUATOR_KM + 550.0
    half_slot, node = np.pi / slots, 2 * np.pi / planes
    ring = 2 * radius * np.sin(half_slot)
    across = [links.length_km[i] for i in range(len(links)) if links.a[i] // slots != links.b[i] // slots]
    assert max(across) <= 2 * radius * (np.sin(node / 2) + np.sin(half_slot / 2)) + 1e-6
    along = [links.length_km[i] for i in range(len(links)) if links.a[i] // slots == links.b[i] // slots]
    assert np.allclose(along, ring)


@pytest.mark.parametrize(("planes", "slots"), [(22, 72), (72, 22)])
def test_without_the_shift_the_border_would_be_crossed_aslant(planes: int, slots: int) -> None:
    """The defect of generated shells elsewhere: the last plane linked to the first slot by slot."""
    phasing = planes // 2
    places = shell(planes, slots, phasing)
    pairs = walker_pairs(total=planes * slots, planes=planes, phasing=phasing)
    border = [(a, b) for a, b in pairs.tolist() if a < slots and b >= (planes - 1) * slots]
    assert len(border) == slots
    right = max(np.linalg.norm(places[a] - places[b]) for a, b in border)
    naive = min(np.linalg.norm(places[s] - places[(planes - 1) * slots + s]) for s in range(slots))
    assert right < 0.8 * naive


def test_a_star_has_a_seam() -> None:
    pairs = walker_pairs(total=66, planes=6, phasing=2, kind="star")
    assert len(pairs) == 66 + 55
    assert not any(a // 11 == 0 and b // 11 == 5 for a, b in pairs.tolist())


@pytest.mark.parametrize(
    ("total", "planes", "expected"),
    [(1, 1, []), (2, 1, [(0, 1)]), (2, 2, [(0, 1)]), (3, 1, [(0, 1), (0, 2), (1, 2)])],
)
def test_small_grids_have_each_link_once(total: int, planes: int, expected: list[tuple[int, int]]) -> None:
    pairs = walker_pairs(total=total, planes=planes, phasing=0)
    assert [tuple(pair) for pair in pairs.tolist()] == expected


def test_rings_are_not_closed_through_the_earth() -> None:
    places = shell(3, 3)
    links = isl_links(places, PLUS_GRID, pairs=walker_pairs(total=9, planes=3, phasing=0))
    assert (clearance_km(places[links.a], places[links.b]) > EQUATOR_KM + 80.0).all()
    assert len(links) < 18


def test_links_that_are_too_long_or_absent_are_left_out() -> None:
    places = shell(6, 8)
    places[3] = np.nan
    pairs = walker_pairs(total=48, planes=6, phasing=0)
    links = grid_links(points_of(places, reach_km=6000.0), np.concatenate([pairs, pairs]))
    assert 3 not in links.a.tolist() + links.b.tolist()
    assert (links.length_km <= 6000.0).all()
    assert len(grid_links(points_of(places, air_km=None), pairs)) == len(pairs) - 4
    assert len(grid_links(points_of(places), np.empty((0, 2)))) == 0


@pytest.mark.parametrize(
    "shape",
    [
        {"total": 0, "planes": 1, "phasing": 0},
        {"total": 5, "planes": 2, "phasing": 0},
        {"total": 4, "planes": 2, "phasing": 2},
        {"total": 4, "planes": 2, "phasing": 0, "kind": "rosette"},
    ],
)
def test_constellations_that_cannot_be_are_refused(shape: dict[str, object]) -> None:
    with pytest.raises(TopologyRefused):
        walker_pairs(**shape)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("planes", "slots", "phasing", "kind"),
    [
        (22, 72, 7, "delta"),
        (72, 22, 17, "delta"),
        (6, 11, 2, "star"),
        (5, 8, 0, "delta"),
        (18, 4, 13, "delta"),
    ],
)
def test_planes_are_found_in_elements(
    planes: int, slots: int, phasing: int, kind: Literal["delta", "star"]
) -> None:
    """Shuffled and a day old, a Walker constellation has the planes and the pairs it was made with."""
    made = walker(
        total=planes * slots,
        planes=planes,
        phasing=phasing,
        inclination_deg=53.0 if kind == "delta" else 86.4,
        altitude_km=550.0,
        epoch_us=int((EPOCH_S - 86_400) * 1e6),
        kind=kind,
    )
    mixed = np.random.default_rng(7).permutation(len(made))
    orbits = mean_orbits([made[i] for i in mixed], EPOCH_S)
    found = planes_of(orbits)
    assert (found.shell == 0).all()
    assert found.plane.max() == planes - 1
    assert len(set(zip(found.plane.tolist(), (mixed // slots).tolist(), strict=True))) == planes
    named = {tuple(sorted(pair)) for pair in mixed[plane_pairs(orbits, found)].tolist()}
    wide = 360.0 / planes if kind == "delta" else 180.0 / planes
    expected = walker_pairs(total=len(made), planes=planes, phasing=phasing, kind=kind)
    if wide <= 60.0:
        assert named == {tuple(pair) for pair in expected.tolist()}
    else:  # planes too far apart to be neighbours
        assert named == {(a, b) for a, b in expected.tolist() if a // slots == b // slots}


def test_mean_orbits_drift_as_sgp4_does() -> None:
    """Argument of latitude after a day within a degree of the propagated position, node within a hundredth."""
    made = walker(
        total=40, planes=8, phasing=3, inclination_deg=53, altitude_km=550, epoch_us=int(EPOCH_S * 1e6)
    )
    later = EPOCH_S + 86_400.0
    states = Ensemble(made).propagate(later)
    orbits = mean_orbits(made, later)
    normal = np.cross(states.position_km[:, 0], states.velocity_km_s[:, 0])
    node = np.degrees(np.arctan2(normal[:, 0], -normal[:, 1]))
    assert np.abs((node - orbits.raan_deg + 180) % 360 - 180).max() < 0.05
    along = np.stack([np.cos(np.radians(node)), np.sin(np.radians(node)), np.zeros(40)], axis=1)
    across = np.cross(normal / np.linalg.norm(normal, axis=1, keepdims=True), along)
    place = states.position_km[:, 0]
    u = np.degrees(np.arctan2((place * across).sum(axis=1), (place * along).sum(axis=1)))
    assert np.abs((u - orbits.latitude_argument_deg + 180) % 360 - 180).max() < 1.0


@given(st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_any_satellites_have_planes_and_at_most_four_links(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    orbits = MeanOrbits(
        random.choice([53.0, 70.0, 97.6], count),
        random.choice([540.0, 550.0, 570.0], count) + random.normal(0, 0.5, count),
        random.uniform(0, 360, count),
        random.uniform(0, 360, count),
    )
    planes = planes_of(orbits, raan_gap_deg=5.0)
    pairs = plane_pairs(orbits, planes)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert np.bincount(pairs.ravel(), minlength=count).max(initial=0) <= 4
    assert (planes.shell[pairs[:, 0]] == planes.shell[pairs[:, 1]]).all()
    assert sorted(set(planes.plane.tolist())) == list(range(int(planes.plane.max(initial=-1)) + 1))


def test_a_real_constellation_has_a_grid() -> None:
    name = "starlink-2024-10-21.tle"
    orbits = mean_orbits(read_elements(shared_data(name), source=name), EPOCH_S)
    places = starlink(name, EPOCH_S)
    planes = planes_of(orbits)
    links = isl_links(places, PLUS_GRID, pairs=plane_pairs(orbits, planes))
    degrees = links.degrees(len(places))
    assert degrees.max() <= 4
    assert (degrees >= 3).mean() > 0.8  # planes are unequal, and some of their satellites elsewhere
    assert np.median(links.length_km) < 2000.0
    components = Graph(len(places), links.a, links.b, links.length_km).components
    assert np.bincount(components).max() > 1000
