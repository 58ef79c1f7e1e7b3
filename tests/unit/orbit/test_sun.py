"""The sun's place against almanacs, and shadows against geometry done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgeagent.orbit.eclipse import SUN_RADIUS_KM, eclipse_share, in_cylinder, sunlit_share
from edgeagent.orbit.geodetic import EQUATOR_KM, geodetic_of
from edgeagent.orbit.kepler import kepler_elements
from edgeagent.orbit.propagation import Ensemble
from edgeagent.orbit.sun import AU_KM, sun_ecef_km, sun_teme_km
from tests.unit.orbit.samples import utc

SUN = np.array([AU_KM, 0.0, 0.0])


def _equatorial(utc_s: float) -> tuple[float, float, float]:
    """Right ascension and declination in degrees, distance in astronomical units."""
    x, y, z = sun_teme_km(utc_s)[0]
    distance = float(np.sqrt(x * x + y * y + z * z))
    return (
        float(np.degrees(np.arctan2(y, x)) % 360),
        float(np.degrees(np.arcsin(z / distance))),
        distance / AU_KM,
    )


def test_the_textbook() -> None:
    # Vallado, example 5-1: 2006-04-02 00:00 UTC, (146186212, 28788976, 12481064) km.
    sun = sun_teme_km(utc(2006, 4, 2))[0]
    assert sun == pytest.approx([146_186_212, 28_788_976, 12_481_064], abs=3e3)


def test_another_textbook() -> None:
    # Meeus, Astronomical Algorithms, example 25.a: 1992-10-13 0h TD, apparent place 198.38082, -7.78507; 0.99766 au.
    ascension, declination, distance = _equatorial(utc(1992, 10, 13) - 58.3)
    assert ascension == pytest.approx(198.38082, abs=0.01)
    assert declination == pytest.approx(-7.78507, abs=0.01)
    assert distance == pytest.approx(0.99766, abs=1e-4)


@pytest.mark.parametrize(
    ("utc_s", "declination"),
    [
        (utc(2024, 3, 20, 3, 6), 0.0), (utc(2024, 6, 20, 20, 51), 23.44), (utc(2024, 9, 22, 12, 44), 0.0),
        (utc(2024, 12, 21, 9, 21), -23.44), (utc(2000, 3, 20, 7, 35), 0.0), (utc(2035, 3, 20, 19, 2), 0.0),
    ],
)  # fmt: skip
def test_seasons(utc_s: float, declination: float) -> None:
    assert _equatorial(utc_s)[1] == pytest.approx(declination, abs=0.01)


def test_noon_is_where_the_sun_is() -> None:
    # 2024-04-15 and 2024-09-01: the equation of time is 0 within a few seconds, so it is noon at Greenwich at 12:00.
    for moment in (utc(2024, 4, 15, 12), utc(2024, 9, 1, 12)):
        _, longitude, _ = geodetic_of(sun_ecef_km(moment)[0])
        assert float(longitude) == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize(
    ("position", "dark"),
    [
        ((-7000, 0, 0), True), ((7000, 0, 0), False), ((-7000, EQUATOR_KM - 1, 0), True),
        ((-7000, EQUATOR_KM + 1, 0), False), ((0, 7000, 0), False), ((-42_164, 0, 6000), True), ((np.nan, 0, 0), False),
    ],
)  # fmt: skip
def test_the_cylinder(position: tuple[float, float, float], dark: bool) -> None:
    assert bool(in_cylinder(position, SUN)) is dark


def test_umbra_penumbra_and_light() -> None:
    behind = -7000.0
    # Edges of the cones at this distance behind the Earth's centre (similar triangles).
    umbra = EQUATOR_KM - (SUN_RADIUS_KM - EQUATOR_KM) / AU_KM * -behind
    penumbra = EQUATOR_KM + (SUN_RADIUS_KM + EQUATOR_KM) / AU_KM * -behind
    assert float(sunlit_share([behind, umbra - 3, 0], SUN)) == 0.0
    assert float(sunlit_share([behind, penumbra + 3, 0], SUN)) == 1.0
    share = sunlit_share(np.array([[behind, y, 0.0] for y in np.linspace(umbra, penumbra, 41)]), SUN)
    assert (np.diff(share) > 0).all()
    assert share[20] == pytest.approx(0.5, abs=0.02)
    assert share[0] == pytest.approx(0.0, abs=0.01)
    assert share[-1] == pytest.approx(1.0, abs=0.01)


def test_beyond_the_tip_of_the_umbra_the_eclipse_is_annular() -> None:
    tip = EQUATOR_KM * AU_KM / (SUN_RADIUS_KM - EQUATOR_KM)  # 1.38 million km
    assert float(sunlit_share([-tip * 0.98, 0, 0], SUN)) == 0.0
    share = float(sunlit_share([-tip * 2, 0, 0], SUN))
    earth, sun = np.arcsin(EQUATOR_KM / (tip * 2)), np.arcsin(SUN_RADIUS_KM / (AU_KM + tip * 2))
    assert share == pytest.approx(1 - (earth / sun) ** 2, abs=1e-6)


def test_before_the_sun_and_nowhere() -> None:
    assert float(sunlit_share([7000, 0, 0], SUN)) == 1.0
    assert np.isnan(float(sunlit_share([np.nan] * 3, SUN)))


def test_the_share_of_an_orbit() -> None:
    """At the equinox an equatorial orbit of radius r is dark for asin(R / r) / pi of its time."""
    start = utc(2024, 3, 20, 3)
    one = kepler_elements(epoch_us=int(start * 1e6), altitude_km=550, name="a")
    times = start + np.arange(0.0, 86_400 / one.mean_motion_rev_day, 5.0)
    positions, _ = Ensemble([one]).positions_teme_km(times)
    sun = sun_teme_km(times)
    wanted = np.arcsin(EQUATOR_KM / np.linalg.norm(positions[0], axis=1).mean()) / np.pi
    assert eclipse_share(positions, sun)[0] == pytest.approx(wanted, abs=2e-3)
    assert in_cylinder(positions, sun).mean() == pytest.approx(wanted, abs=2e-3)
