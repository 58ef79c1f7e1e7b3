"""Many satellites at once: masks, guards, ages; one at a time: typed errors; the catalogue over both."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import numpy as np
import pytest

from edgeagent.orbit.catalogue import Catalogue
from edgeagent.orbit.errors import ElementsStale, NodeUnknown, PropagationFailed, TimeRefused
from edgeagent.orbit.geodetic import geodetic_of
from edgeagent.orbit.importer import read_elements
from edgeagent.orbit.kepler import kepler_elements
from edgeagent.orbit.propagation import RADIUS_MIN_KM, Ensemble, propagate_one
from tests.unit.orbit.samples import elements, lines, shared_data, utc

DAY_S = 86_400.0


def test_shapes() -> None:
    ensemble = Ensemble([elements(name) for name in lines], policy=None)
    for times in ([], [1.2e9], 1.2e9 + np.arange(7.0)):
        count = len(np.atleast_1d(times))
        states = ensemble.propagate(times)
        assert states.position_km.shape == states.velocity_km_s.shape == (4, count, 3)
        assert states.error.shape == states.good.shape == (4, count)
    assert Ensemble([]).propagate(0.0).position_km.shape == (0, 1, 3)
    assert ensemble.ages_s(1.2e9).shape == (4,)


def test_one_and_many_are_the_same() -> None:
    ensemble = Ensemble([elements(name) for name in lines])
    for row, name in enumerate(lines):
        moment = elements(name).epoch_s + 3600
        position, velocity = propagate_one(elements(name), moment)
        states = ensemble.propagate(moment)
        assert position.tolist() == states.position_km[row, 0].tolist()
        assert velocity.tolist() == states.velocity_km_s[row, 0].tolist()


def test_a_stale_satellite_is_masked_and_the_others_are_not() -> None:
    iss, old = (
        elements("iss"),
        msgspec.structs.replace(elements("iss"), epoch_us=elements("iss").epoch_us - 10**13),
    )
    times = iss.epoch_s + np.array([0.0, 6.9, 7.1, -7.1]) * DAY_S
    states = Ensemble([iss, old]).propagate(times)
    assert states.error.tolist() == [[0, 0, 8, 8], [8, 8, 8, 8]]
    assert np.isnan(states.position_km[1]).all()
    assert np.isfinite(states.position_km[0, :2]).all()
    free = Ensemble([iss, old], policy=None).propagate(times)
    assert free.error[0].tolist() == [0, 0, 0, 0]


def test_errors_of_a_single_one() -> None:
    iss = elements("iss")
    with pytest.raises(ElementsStale, match="ISS"):
        propagate_one(iss, iss.epoch_s + 10 * DAY_S)
    assert propagate_one(iss, iss.epoch_s + 10 * DAY_S, policy=None)
    with pytest.raises(TimeRefused):
        propagate_one(iss, float("nan"))


@pytest.mark.parametrize(
    ("changes", "days", "code"),
    [({"bstar_per_er": 0.05}, 7.0, {1, 6, 7}), ({"mean_motion_rev_day": 17.2}, 0.0, {6, 7})],
)
def test_a_satellite_that_has_decayed(changes: dict[str, float], days: float, code: set[int]) -> None:
    falling = msgspec.structs.replace(elements("iss"), **changes)
    moment = falling.epoch_s + days * DAY_S
    states = Ensemble([falling, elements("iss")]).propagate(moment)
    assert int(states.error[0, 0]) in code
    assert np.isnan(states.position_km[0, 0]).all()
    assert states.error[1, 0] == 0
    with pytest.raises(PropagationFailed) as raised:
        propagate_one(falling, moment)
    assert raised.value.details["code"] == states.error[0, 0]
    assert "ISS" in raised.value.message


def test_the_guard_lets_real_orbits_through() -> None:
    """Far apogees are real; what is far beyond the apogee is not."""
    far = kepler_elements(
        epoch_us=0, semi_major_axis_km=80_000, eccentricity=0.8, inclination_deg=28, name="far"
    )
    times = np.arange(0, 2.5 * DAY_S, 600.0)
    states = Ensemble([far]).propagate(times)
    radius = np.linalg.norm(states.position_km[0], axis=1)
    assert states.good.all()
    assert radius.max() > 130_000
    low = kepler_elements(epoch_us=0, altitude_km=90, name="low")
    assert Ensemble([low]).propagate(0.0).error[0, 0] == 7
    assert RADIUS_MIN_KM - 6378 == 100


def test_old_elements_never_give_positions_that_cannot_be() -> None:
    """SGP4 returns radii up to 8e11 km with code 0 for elements that are long out of date."""
    text = shared_data("starlink-2022-09-14.tle").read_text(encoding="ascii")
    ensemble = Ensemble(read_elements(text), policy=None)
    positions, error = ensemble.positions_teme_km(utc(2023, 7, 1))
    radius = np.linalg.norm(positions[:, 0], axis=1)
    assert set(np.unique(error)) > {0, 7}
    assert (np.isnan(radius) == (error[:, 0] != 0)).all()
    assert 6478 <= np.nanmin(radius) <= np.nanmax(radius) < 60_000


@pytest.mark.parametrize(
    ("name", "moment", "count", "codes", "inclinations"),
    [
        (
            "starlink-2024-10-21.tle", utc(2024, 10, 21, 8), 6469, {0: 6468, 6: 1},
            {53: 3820, 43: 2019, 70: 398, 97: 0, 98: 232},
        ),
        ("starlink-2022-09-14.tle", utc(2022, 9, 14, 14), 3023, {0: 3021, 7: 2}, {53: 2771, 98: 201, 70: 51}),
    ],
)  # fmt: skip
def test_real_catalogues_whole(
    name: str, moment: float, count: int, codes: dict[int, int], inclinations: dict[int, int]
) -> None:
    found = read_elements(shared_data(name).read_bytes(), source=name)
    catalogue = Catalogue(found)
    assert len(found) == len(catalogue) == count
    assert not catalogue.superseded
    states = catalogue.ensemble.propagate(moment)
    assert dict(zip(*np.unique(states.error, return_counts=True), strict=True)) == codes
    rounded = np.round([one.inclination_deg for one in found])
    assert {key: int((rounded == key).sum()) for key in inclinations} == inclinations
    _, _, height = geodetic_of(states.in_ecef().position_km[:, 0])
    assert np.nanmin(height) > 100
    assert np.nanmax(height) < 620


def test_the_catalogue_keeps_the_newest() -> None:
    iss = elements("iss")
    newer = msgspec.structs.replace(iss, epoch_us=iss.epoch_us + 10**10)
    catalogue = Catalogue([iss, elements("geo"), newer])
    assert list(catalogue) == [newer, elements("geo")]
    assert catalogue.superseded == (iss,)
    assert catalogue.by_norad_id(25544) == newer
    assert catalogue.index("norad:28626") == 1
    assert "norad:25544" in catalogue
    assert "norad:1" not in catalogue
    with pytest.raises(NodeUnknown, match="norad:1"):
        catalogue.get("norad:1")
    more = catalogue.updated([elements("polar"), iss])
    assert [one.name for one in more] == ["ISS", "GEO", "POLAR"]
    assert more.by_norad_id(25544) == newer
    assert len(catalogue) == 2


def test_the_catalogue_tells_ages() -> None:
    iss = elements("iss")
    catalogue = Catalogue([iss])
    assert catalogue.notes(iss.epoch_s) == []
    (note,) = catalogue.notes(iss.epoch_s + 3 * DAY_S)
    assert "3.0 days old" in note


NUMPY_FREE = ("elements", "wire", "age", "importer", "instants", "kepler", "walker", "plan", "errors")


@pytest.mark.parametrize(
    "module", [*(f"edgeagent.orbit.{name}" for name in NUMPY_FREE), "edgeagent.cli.main"]
)
def test_who_needs_no_positions_does_not_pay_for_numpy(module: str) -> None:
    code = f"import {module}, sys; raise SystemExit('numpy' in sys.modules or 'sgp4' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
