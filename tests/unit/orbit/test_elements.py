"""Element sets: what may be in them, which of several counts, how old they may be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edgeagent.orbit.age import DEFAULT_POLICY, AgeLimits, AgePolicy, Freshness, Regime, age_s, regime_of
from edgeagent.orbit.elements import Elements, newest
from edgeagent.orbit.errors import ElementsRefused, ElementsStale
from edgeagent.orbit.kepler import kepler_elements
from tests.unit.orbit.samples import elements

ISS = elements("iss")


def _with(**changes: Any) -> Elements:
    return msgspec.structs.replace(ISS, **changes)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mean_motion_rev_day", 0.0), ("mean_motion_rev_day", -1.0), ("mean_motion_rev_day", 21.0),
        ("mean_motion_rev_day", float("nan")), ("mean_motion_rev_day", float("inf")), ("eccentricity", -0.1),
        ("eccentricity", 1.0), ("eccentricity", float("nan")), ("inclination_deg", 180.1), ("inclination_deg", -1.0),
        ("raan_deg", 361.0), ("raan_deg", -0.1), ("arg_perigee_deg", float("-inf")), ("mean_anomaly_deg", 400.0),
        ("bstar_per_er", float("nan")), ("mean_motion_dot_rev_day2", 1e9), ("mean_motion_ddot_rev_day3", 1e9),
        ("epoch_us", -(10**16)), ("epoch_us", 10**16), ("norad_id", -1), ("norad_id", 10**9), ("element_set", -1),
        ("rev_at_epoch", 2**32), ("ephemeris_type", 4), ("ephemeris_type", 1), ("ephemeris_type", 17),
        ("name", "a\nb"), ("name", "x" * 129), ("name", "\ud800"), ("object_id", "é" * 17), ("source", "\0"),
        ("classification", ""), ("classification", "UU"), ("classification", "é"), ("classification", "1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_named(field: str, value: Any) -> None:
    with pytest.raises(ElementsRefused, match=field) as raised:
        _with(**{field: value})
    assert raised.value.details["field"] == field
    assert raised.value.hint


def test_an_object_needs_some_identity() -> None:
    with pytest.raises(ElementsRefused, match="neither"):
        _with(norad_id=None, object_id="", name="")
    assert _with(norad_id=None).key == "id:1998-067A"
    assert _with(norad_id=None, object_id="").key == "name:ISS"
    assert _with(norad_id=123_456_789).key == "norad:123456789"
    assert _with(name="").label == "norad:25544"


def test_the_newest_set_of_an_object_counts() -> None:
    old, new = _with(epoch_us=ISS.epoch_us - 1), _with(epoch_us=ISS.epoch_us + 1)
    other = _with(norad_id=999_999_999)
    assert newest([ISS, other, new, old]) == ([new, other], [ISS, old])
    again = _with(element_set=7)  # of the same epoch the later in the list
    assert newest([ISS, again]) == ([again], [ISS])
    assert newest([]) == ([], [])


@pytest.mark.parametrize(
    ("name", "regime"),
    [("iss", Regime.DRAG), ("molniya", Regime.HEO), ("geo", Regime.GEO), ("polar", Regime.LEO)],
)
def test_regimes(name: str, regime: Regime) -> None:
    assert regime_of(elements(name)) is regime


def test_a_navigation_satellite_is_in_a_middle_orbit() -> None:
    gps = kepler_elements(epoch_us=0, semi_major_axis_km=26_560, inclination_deg=55, name="gps")
    assert regime_of(gps) is Regime.MEO


def test_age_is_told_warned_about_and_refused() -> None:
    day = 86_400.0
    assert DEFAULT_POLICY.check(ISS, ISS.epoch_s + day) is Freshness.FRESH
    assert DEFAULT_POLICY.check(ISS, ISS.epoch_s - 2 * day) is Freshness.AGED
    assert age_s(ISS, ISS.epoch_s - 2 * day) == -2 * day
    assert "2.0 days old" in DEFAULT_POLICY.note(ISS, ISS.epoch_s + 2 * day)
    assert "1.0 days ahead" in DEFAULT_POLICY.note(ISS, ISS.epoch_s - day)
    with pytest.raises(ElementsStale, match=r"8.0 days old.*refused from 7") as raised:
        DEFAULT_POLICY.check(ISS, ISS.epoch_s + 8 * day)
    assert raised.value.details == {"age_s": 8 * day, "limit_s": 7 * day}


def test_a_policy_of_ones_own() -> None:
    policy = AgePolicy({Regime.DRAG: AgeLimits(10.0, 20.0)})
    assert policy.verdict(ISS, ISS.epoch_s + 8 * 86_400) is Freshness.FRESH
    geo = elements("geo")
    assert policy.limits_of(geo) == DEFAULT_POLICY.limits_of(geo)
