"""The protocols: both paths agree, the tree is the tree, and nobody links through the Earth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from edgeagent.orbit.geodetic import EQUATOR_KM
from edgeagent.orbit.sight import AIR_KM, clearance_km, in_sight
from edgeagent.topology.edges import Edges
from edgeagent.topology.errors import TopologyRefused
from edgeagent.topology.kernels import kernels
from edgeagent.topology.points import Points, points_of
from edgeagent.topology.protocols import PROTOCOLS, IslSettings, grid_links, isl_links, protocol_links
from tests.unit.topology.shells import EPOCH_S, Floats, clouds, raw_positions, same, shell, starlink

SEARCHED = [name for name in PROTOCOLS if name not in {"+grid", "bent_pipe"}]
PATHS = [pytest.param(True, id="pure"), pytest.param(False, id="native", marks=pytest.mark.native)]


@pytest.fixture(params=PATHS)
def pure_only(request: pytest.FixtureRequest) -> bool:
    if not request.param and kernels is None:
        pytest.skip("the extension is not built")
    return bool(request.param)


def _all_pairs(points: Points) -> Edges:
    """Every pair that may be linked, by orbit's test of sight."""
    a, b = np.triu_indices(len(points), 1)
    both = points.present[a] & points.present[b]
    a, b = a[both].astype(np.int32), b[both].astype(np.int32)
    length = np.sqrt(((points.xyz[a] - points.xyz[b]) ** 2).sum(axis=1))
    good = length <= np.minimum(points.reach_km[a], points.reach_km[b])
    if points.clear_km > -np.inf:
        good &= in_sight(points.xyz[a], points.xyz[b], air_km=points.clear_km - EQUATOR_KM)
    return Edges(a[good], b[good], length[good])


def _check(points: Points, links: Edges) -> None:
    """What holds for the links of every protocol."""
    assert (links.a < links.b).all()
    order = np.lexsort((links.b, links.a))
    assert (order == np.arange(len(links))).all()
    assert len(np.unique(np.stack([links.a, links.b]), axis=1).T) == len(links)
    ends = points.xyz[links.a], points.xyz[links.b]
    assert np.isfinite(ends).all()
    assert np.allclose(np.linalg.norm(ends[0] - ends[1], axis=1), links.length_km, rtol=1e-14)
    assert (links.length_km <= np.minimum(points.reach_km[links.a], points.reach_km[links.b]) + 1e-9).all()
    assert (clearance_km(*ends) > points.clear_km).all()


@pytest.mark.native
@pytest.mark.skipif(kernels is None, reason="the extension is not built")
@given(
    clouds(),
    st.sampled_from(SEARCHED),
    st.integers(1, 6),
    st.sampled_from([0.0, 1000.0, 2126.0, 5000.0, np.inf]),
    st.sampled_from([None, -100.0, 80.0]),
)
def test_both_paths_give_the_same_links(
    places: Floats, protocol: str, neighbours: int, reach_km: float, air_km: float | None
) -> None:
    points = points_of(places, reach_km=reach_km, air_km=air_km)
    native = protocol_links(points, protocol, neighbours)
    assert same(native, protocol_links(points, protocol, neighbours, pure_only=True))
    _check(points, native)


@given(clouds(), st.integers(0, 2**32 - 1))
def test_the_tree_weighs_what_scipy_says(places: Floats, seed: int) -> None:
    reach = np.random.default_rng(seed).uniform(500.0, 6000.0, len(places))
    points = points_of(places, reach_km=reach)
    pairs = _all_pairs(points)
    links = protocol_links(points, "mst")
    size = max(len(points), 1)
    # scipy takes a stored zero for no link, so duplicates get a hair's breadth.
    graph = csr_matrix((pairs.length_km + 1e-7, (pairs.a, pairs.b)), shape=(size, size))
    tree = minimum_spanning_tree(graph)
    assert len(links) == tree.nnz
    assert links.total_km == pytest.approx(tree.sum() - 1e-7 * tree.nnz, rel=1e-9, abs=1e-4)
    parts = connected_components(graph, directed=False)[0]
    assert size - len(links) == parts


@given(clouds(), st.integers(1, 6), st.sampled_from(["nearest", "pst", "pst_loop", "pst_smart_loop"]))
def test_nobody_has_more_links_than_terminals(places: Floats, neighbours: int, protocol: str) -> None:
    links = protocol_links(points_of(places, reach_km=4000.0), protocol, neighbours)
    assert links.degrees(len(places)).max(initial=0) <= neighbours


@given(clouds(), st.integers(1, 6))
def test_nearest_is_stable(places: Floats, neighbours: int) -> None:
    """Who lacks one of its nearest has it taken by shorter links, at one end or the other."""
    points = points_of(places, reach_km=4000.0)
    links = protocol_links(points, "nearest", neighbours)
    longest: dict[int, list[float]] = {}
    for a, b, length in zip(links.a.tolist(), links.b.tolist(), links.length_km.tolist(), strict=True):
        longest.setdefault(a, []).append(length)
        longest.setdefault(b, []).append(length)
    linked = set(zip(links.a.tolist(), links.b.tolist(), strict=True))
    for i in np.flatnonzero(points.present).tolist():
        rows, d2 = points.nearest(i, neighbours)
        for j, length in zip(rows.tolist(), np.sqrt(d2).tolist(), strict=True):
            if (min(i, j), max(i, j)) not in linked:
                full = [longest[end] for end in (i, j) if len(longest.get(end, [])) == neighbours]
                assert any(max(lengths) <= length for lengths in full)


@given(clouds(), st.integers(2, 6), st.sampled_from(["mst", "pst"]))
def test_loops_are_added_to_the_tree_where_links_are_few(places: Floats, neighbours: int, kind: str) -> None:
    points = points_of(places, reach_km=4000.0)
    tree = protocol_links(points, kind, neighbours)
    trunk = set(zip(tree.a.tolist(), tree.b.tolist(), strict=True))
    before = tree.degrees(len(places))
    for name, poor in (("loop", (before > 0) & (before < neighbours - 1)), ("smart_loop", before == 1)):
        links = protocol_links(points, f"{kind}_{name}", neighbours)
        pairs = set(zip(links.a.tolist(), links.b.tolist(), strict=True))
        assert trunk <= pairs
        assert len(pairs) - len(trunk) <= int(poor.sum())
        after = links.degrees(len(places))
        assert all(after[i] <= neighbours for i in range(len(places)) if after[i] > before[i])
        assert all(poor[a] or poor[b] for a, b in pairs - trunk)


@pytest.mark.parametrize("protocol", SEARCHED)
@pytest.mark.parametrize(
    "places",
    [
        np.empty((0, 3)),
        np.full((1, 3), 7000.0),
        np.full((3, 3), np.nan),
        [[7000.0, 0.0, 0.0], [np.nan, 0.0, 0.0]],
        [[7000.0, 0.0, 0.0], [-7000.0, 0.0, 0.0]],  # through the Earth
        [[6400.0, 0.0, 0.0], [6401.0, 0.0, 0.0]],  # in the air
    ],
    ids=["none", "one", "absent", "one-absent", "opposite", "falling"],
)
def test_who_is_alone_has_no_links(protocol: str, places: Floats, *, pure_only: bool) -> None:
    assert len(protocol_links(points_of(places), protocol, pure_only=pure_only)) == 0


@pytest.mark.parametrize("protocol", SEARCHED)
def test_two_link_once_and_duplicates_at_no_distance(protocol: str, *, pure_only: bool) -> None:
    two = protocol_links(points_of([[7000.0, 0, 0], [7000.0, 300.0, 400.0]]), protocol, pure_only=pure_only)
    assert (two.a.tolist(), two.b.tolist(), two.length_km.tolist()) == ([0], [1], [500.0])
    four = protocol_links(points_of(np.full((30, 3), 5000.0)), protocol, pure_only=pure_only)
    assert four.length_km.max() == 0.0


def test_ties_go_to_the_lower_number(*, pure_only: bool) -> None:
    square = [[7000.0, y, z] for y, z in ((0, 0), (0, 100), (100, 100), (100, 0))]
    tree = protocol_links(points_of(square), "mst", pure_only=pure_only)
    assert list(zip(tree.a.tolist(), tree.b.tolist(), strict=True)) == [(0, 1), (0, 3), (1, 2)]


@pytest.mark.parametrize(
    ("name", "utc_s", "guarded_km", "raw_km"),
    [
        ("starlink-2024-10-21.tle", EPOCH_S, 1_316_939.7, 1_316_939.7),
        ("starlink-2022-09-14.tle", 1_663_164_000.0, 868_216.5, 869_324.0),
    ],
)
def test_trees_of_real_satellites_weigh_what_the_full_range_graph_gives(
    name: str, utc_s: float, guarded_km: float, raw_km: float, *, pure_only: bool
) -> None:
    for places, expected in ((starlink(name, utc_s), guarded_km), (raw_positions(name, utc_s), raw_km)):
        tree = protocol_links(points_of(places, reach_km=2126.0, air_km=None), "mst", pure_only=pure_only)
        assert round(tree.total_km, 1) == expected


@pytest.mark.native
@pytest.mark.skipif(kernels is None, reason="the extension is not built")
@pytest.mark.parametrize("protocol", SEARCHED)
def test_both_paths_agree_over_real_satellites(protocol: str) -> None:
    points = points_of(starlink("starlink-2022-09-14.tle", 1_663_164_000.0), reach_km=2126.0)
    native = protocol_links(points, protocol)
    assert same(native, protocol_links(points, protocol, pure_only=True))
    _check(points, native)


def test_the_order_of_satellites_changes_no_link_but_its_numbers() -> None:
    places = shell(12, 11, 5)
    mixed = np.random.default_rng(5).permutation(len(places))
    for protocol in ("nearest", "mst"):
        one = isl_links(places + 1e-3 * mixed[:, np.newaxis], IslSettings(protocol=protocol))
        other = isl_links((places + 1e-3 * mixed[:, np.newaxis])[mixed], IslSettings(protocol=protocol))
        named = {
            tuple(sorted(pair)) for pair in zip(mixed[other.a].tolist(), mixed[other.b].tolist(), strict=True)
        }
        assert named == set(zip(one.a.tolist(), one.b.tolist(), strict=True))


def test_single_satellites_may_reach_less_far() -> None:
    places = [[7000.0, 0.0, 0.0], [7000.0, 1000.0, 0.0], [7000.0, 2500.0, 0.0]]
    links = isl_links(places, IslSettings(), reach_km=[np.inf, np.inf, 1200.0])
    assert links.b.tolist() == [1]


def test_settings_know_their_ranges() -> None:
    assert IslSettings(protocol="mst_loop").reach_km == 2126.0
    assert IslSettings(protocol="nearest").reach_km == np.inf
    assert IslSettings(protocol="mst", range_km_max=5000.0).reach_km == 5000.0
    assert len(isl_links(shell(3, 8), IslSettings(protocol="bent_pipe"))) == 0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"protocol": "nearst"}, "did you mean nearest"),
        ({"protocol": "???"}, "there are: nearest"),
        ({"neighbours": 0}, "1 to 1024"),
        ({"range_km_max": -1.0}, "positive"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, object], match: str) -> None:
    with pytest.raises(TopologyRefused) as refused:
        IslSettings(**changes)  # type: ignore[arg-type]
    assert match in (refused.value.hint or "")


def test_arrays_that_cannot_be_are_refused() -> None:
    places = np.full((2, 3), 7000.0)
    for call in (
        lambda: points_of(np.zeros((2, 2))),
        lambda: points_of(places, reach_km=[1.0, 2.0, 3.0]),
        lambda: points_of(places, reach_km=-1.0),
        lambda: points_of(places, reach_km=np.nan),
        lambda: points_of(places, air_km=np.inf),
        lambda: isl_links(places, IslSettings(protocol="+grid")),
        lambda: grid_links(points_of(places), [[0, 2]]),
        lambda: grid_links(points_of(places), [[1, 0]]),
    ):
        with pytest.raises(TopologyRefused):
            call()


def test_positions_are_copied_and_the_far_away_are_absent() -> None:
    places = np.array([[7000.0, 0.0, 0.0], [1e9, 0.0, 0.0]])
    points = points_of(places)
    assert points.present.tolist() == [True, False]
    assert places[1, 0] == 1e9


def test_the_margin_is_that_of_orbit() -> None:
    assert points_of(np.empty((0, 3))).clear_km == EQUATOR_KM + AIR_KM
