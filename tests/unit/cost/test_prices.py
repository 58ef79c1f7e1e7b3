"""The table is complete, dated and sourced, and sums are what its lines say."""

from __future__ import annotations

import datetime

import pytest

from edgeagent.cost.prices import GPU_PRICES, LINKS, PRICES, gpu_usd_s, price_usd


@pytest.mark.parametrize("kind", sorted(PRICES))
def test_each_line_has_a_source_and_a_date(kind: str) -> None:
    price = PRICES[kind]
    for line in (price, LINKS[price.link]):
        assert line.source
        assert datetime.date.fromisoformat(line.date).year >= 2025
    assert price.usd_per_cpu_s >= 0.0


def test_a_run_in_the_cloud_by_hand() -> None:
    # 2 s of a core at 2.4e-5, 2 s of half a GiB at 2.5e-6, a quarter of a GiB at 0.12.
    assert price_usd("cloud", 2000.0, 512.0, 2.0**28) == pytest.approx(4.8e-5 + 2.5e-6 + 0.03)


def test_an_unknown_kind_is_an_edge_node() -> None:
    assert price_usd("toaster", 1000.0, 64.0, 10.0) == price_usd("edge", 1000.0, 64.0, 10.0)


@pytest.mark.parametrize("kind", sorted(PRICES))
def test_more_never_costs_less(kind: str) -> None:
    base = price_usd(kind, 10.0, 64.0, 1000.0)
    assert price_usd(kind, 20.0, 64.0, 1000.0) >= base
    assert price_usd(kind, 10.0, 128.0, 1000.0) >= base
    assert price_usd(kind, 10.0, 64.0, 2000.0) >= base
    assert price_usd(kind, -5.0, -5.0, -5.0) == 0.0


def test_every_kind_has_a_priced_gpu_that_costs_more_than_a_core() -> None:
    assert set(GPU_PRICES) == set(PRICES)
    for kind, price in GPU_PRICES.items():
        datetime.date.fromisoformat(price.date)
        assert price.source
        assert gpu_usd_s(kind) >= PRICES[kind].usd_per_cpu_s
    assert gpu_usd_s("toaster") == gpu_usd_s("edge")
