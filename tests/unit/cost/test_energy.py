"""Joules and their price: sums by hand, and what a battery and the sun make of it."""

from __future__ import annotations

import datetime
import itertools

import pytest

from edgeagent.cost.draws import CoresMeter, DrawMeter
from edgeagent.cost.energy import (
    DRAWS,
    ENERGY_PRICES,
    Supply,
    draw_of,
    energy_price_of,
    energy_usd,
    joules,
    usd_per_kwh_now,
)
from edgeagent.cost.prices import PRICES


def test_every_kind_has_a_draw_and_a_price_with_source_and_date() -> None:
    assert set(ENERGY_PRICES) == set(PRICES)
    for kind in PRICES:
        for line in (energy_price_of(kind), draw_of(kind)):
            assert line.source
            datetime.date.fromisoformat(line.date)
        assert 0.0 <= energy_price_of(kind).usd_per_kwh <= energy_price_of(kind).usd_per_kwh_stored
    assert all(0.0 < one.core_w < one.gpu_w for one in DRAWS.values())
    assert draw_of("toaster") is DRAWS["edge"]
    assert draw_of("satellite-rented") is DRAWS["satellite"]
    assert energy_price_of("") is ENERGY_PRICES["edge"]


def test_joules_and_dollars_by_hand() -> None:
    assert joules(15.0, 2000.0) == 30.0
    assert joules(-1.0, 2000.0) == joules(15.0, -1.0) == 0.0
    assert energy_usd(3.6e6, 0.12) == pytest.approx(0.12)  # a kilowatt-hour


def test_without_a_battery_it_comes_as_it_comes() -> None:
    price = ENERGY_PRICES["edge"]
    assert usd_per_kwh_now(price, Supply()) == (price.usd_per_kwh, "no battery is known")


def test_in_an_eclipse_it_comes_out_of_the_battery_whatever_that_holds() -> None:
    price = ENERGY_PRICES["satellite"]
    assert usd_per_kwh_now(price, Supply(sunlit=True)) == (price.usd_per_kwh, "in the sun")
    assert usd_per_kwh_now(price, Supply(sunlit=False)) == (price.usd_per_kwh_stored, "in an eclipse")


def test_a_satellite_pays_more_in_an_eclipse_and_the_more_the_emptier_its_battery() -> None:
    price = ENERGY_PRICES["satellite"]
    full = usd_per_kwh_now(price, Supply(1.0, 0.4, True))
    assert full == (price.usd_per_kwh, "in the sun, the battery at 100%")
    dark = usd_per_kwh_now(price, Supply(1.0, 0.4, False))
    assert dark == (price.usd_per_kwh_stored, "in an eclipse, the battery at 100%")
    for sunlit in (True, False):
        costs = [usd_per_kwh_now(price, Supply(one / 20, 0.4, sunlit))[0] for one in range(20, -1, -1)]
        assert all(later >= earlier for earlier, later in itertools.pairwise(costs))
        assert costs[-1] == pytest.approx(10.0 * costs[0])
    assert usd_per_kwh_now(price, Supply(0.7, 0.4, False))[0] == pytest.approx(2.0 * price.usd_per_kwh_stored)


def test_a_reserve_of_all_and_shares_that_cannot_be_are_bounded() -> None:
    price = ENERGY_PRICES["edge"]
    for supply in (Supply(0.5, 1.0), Supply(-1.0, 0.3), Supply(2.0, 0.3)):
        told = usd_per_kwh_now(price, supply)[0]
        assert price.usd_per_kwh_stored <= told <= 10.0 * price.usd_per_kwh_stored * (1 + 1e-9)
    assert "out of the battery, at 50%" in usd_per_kwh_now(price, Supply(0.5))[1]


def test_a_gpu_s_draw_is_what_it_takes_more_than_idle_by_how_busy_it_is() -> None:
    meter = DrawMeter()
    for _ in range(3):
        meter.look(100.0, 0.5)  # nothing is known of its idling yet
    assert meter.over_idle_w is None
    for _ in range(3):
        meter.look(30.0, 0.0)
    assert meter.over_idle_w is None
    for _ in range(3):
        meter.look(80.0, 0.5)
    assert meter.over_idle_w == pytest.approx(100.0)
    for _ in range(100):
        meter.look(None, 0.9)
        meter.look(50.0, None)
        meter.look(40.0, 0.1)  # too little to divide by
        meter.look(20.0, 0.9)  # less than idle: no news of the other
    assert meter.over_idle_w == pytest.approx(100.0)


def test_a_gpu_s_draw_follows_a_new_power_limit() -> None:
    meter = DrawMeter()
    for power_w in (100.0, 200.0):
        for _ in range(80):
            meter.look(20.0, 0.01)
            meter.look(20.0 + power_w, 1.0)
        assert meter.over_idle_w == pytest.approx(power_w, rel=1e-3)
    assert meter.idle_w == pytest.approx(20.0)


def test_a_kernel_keeps_the_fewest_cores_busy_that_were_seen_lately() -> None:
    meter = CoresMeter(4)
    assert meter.of("matmul") == 1.0
    for cpu_s in (3.9, 3.0, 9.0):  # others ran beside it
        meter.ran("matmul", 1.0, cpu_s)
    meter.ran("matmul", 0.0, 1.0)
    meter.ran("sum", 1.0, 0.2)
    assert (meter.of("matmul"), meter.of("sum")) == (3.0, 1.0)
    for _ in range(8):
        meter.ran("matmul", 0.5, 4.0)
    assert meter.of("matmul") == 4.0  # there are no more
    for number in range(256):
        meter.ran(str(number), 1.0, 2.0)
    assert meter.of("matmul") == 1.0
