"""Heat and battery against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from edgeagent.placement.battery import charge_after, lowest_charge, net_w
from edgeagent.placement.body import Body
from edgeagent.placement.thermal import equilibrium_c, hottest_c, temperature_after_c

BODY = Body(heat_tau_s=600.0, heat_c_per_w=1.5, base_c=20.0, sun_c=10.0)


@pytest.mark.parametrize(
    ("watts", "light", "expected"), [(0.0, 0.0, 20.0), (20.0, 0.0, 50.0), (20.0, 1.0, 60.0), (4.0, 0.5, 31.0)]
)
def test_equilibrium(watts: float, light: float, expected: float) -> None:
    assert equilibrium_c(BODY, watts, light) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("now", "watts", "light", "seconds", "after", "hottest"),
    [
        # towards 50 C: the difference falls to 1/e every 600 s
        (20.0, 20.0, 0.0, 0.0, 20.0, 20.0),
        (20.0, 20.0, 0.0, 600.0, 38.964, 38.964),
        (20.0, 20.0, 0.0, 1200.0, 45.940, 45.940),
        (20.0, 20.0, 0.0, 1e6, 50.0, 50.0),
        (20.0, 20.0, 1.0, 600.0, 45.285, 45.285),
        # cooling: towards 20 C from 60 C
        (60.0, 0.0, 0.0, 600.0, 34.715, 60.0),
        (60.0, 0.0, 0.0, 600.0 * math.log(2.0), 40.0, 60.0),
        (60.0, 0.0, 0.0, -5.0, 60.0, 60.0),
    ],
)
def test_temperatures(
    now: float, watts: float, light: float, seconds: float, after: float, hottest: float
) -> None:
    assert temperature_after_c(BODY, now, watts, light, seconds) == pytest.approx(after, abs=1e-3)
    assert hottest_c(BODY, now, watts, light, seconds) == pytest.approx(hottest, abs=1e-3)


def test_two_stretches_are_one() -> None:
    half = temperature_after_c(BODY, 30.0, 15.0, 0.4, 300.0)
    assert temperature_after_c(BODY, half, 15.0, 0.4, 300.0) == pytest.approx(
        temperature_after_c(BODY, 30.0, 15.0, 0.4, 600.0)
    )


POWER = Body(battery_wh=40.0, solar_w=20.0, idle_w=5.0, busy_w=15.0)


@pytest.mark.parametrize(
    ("busy", "light", "expected"), [(0.0, 0.0, -5.0), (1.0, 0.0, -15.0), (0.5, 1.0, 10.0), (1.0, 1.0, 5.0)]
)
def test_what_is_gained(busy: float, light: float, expected: float) -> None:
    assert net_w(POWER, busy, light) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("share", "busy", "sunlit", "after", "lowest"),
    [
        (0.5, 0.0, [(3600.0, 0.0)], 0.375, 0.375),  # 5 Wh of 40
        (0.5, 1.0, [(3600.0, 0.0)], 0.125, 0.125),
        (0.5, 0.0, [(3600.0, 1.0)], 0.875, 0.5),
        (0.9, 0.0, [(3600.0, 1.0)], 1.0, 0.9),  # full is full
        (0.1, 1.0, [(3600.0, 0.0)], 0.0, 0.0),  # empty is empty
        (0.5, 0.0, [(1800.0, 0.0), (1800.0, 1.0)], 0.625, 0.4375),  # eclipse first
        (0.5, 0.0, [(1800.0, 1.0), (1800.0, 0.0)], 0.625, 0.5),
        (0.95, 0.0, [(1800.0, 1.0), (1800.0, 0.0)], 0.9375, 0.9375),  # what does not fit is lost
        (0.5, 1.0, [], 0.5, 0.5),
    ],
)
def test_charges(
    share: float, busy: float, sunlit: list[tuple[float, float]], after: float, lowest: float
) -> None:
    assert charge_after(POWER, share, busy, sunlit) == pytest.approx(after)
    assert lowest_charge(POWER, share, busy, sunlit) == pytest.approx(lowest)


def test_without_a_battery_nothing_is_drained() -> None:
    assert charge_after(Body(), 0.7, 1.0, [(1e6, 0.0)]) == 0.7
    assert lowest_charge(Body(), 0.7, 1.0, [(1e6, 0.0)]) == 0.7
