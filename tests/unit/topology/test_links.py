"""Latency and bandwidth of links."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeagent.topology.errors import TopologyRefused
from edgeagent.topology.links import (
    DEFAULT_MODELS,
    LIGHT_KM_MS,
    LinkKind,
    LinkModel,
    bandwidth_mbit_s,
    fibre_route_km,
    latency_ms,
)


@pytest.mark.parametrize(
    ("kind", "distance_km", "expected_ms"),
    [
        (LinkKind.ISL, 0.0, 0.01),
        (LinkKind.ISL, 299.792458, 1.01),
        (LinkKind.GROUND, 550.0, 550.0 / 299.792458 + 0.01),
        (LinkKind.FIBRE, 100.0, 150.0 / 200.0 + 0.01),
        (LinkKind.FIBRE, 5000.0, 6250.0 / 200.0 + 0.01),
        (LinkKind.LAN, 0.2, 0.001 + 0.05),
    ],
)
def test_latency_is_propagation_and_one_hop(kind: LinkKind, distance_km: float, expected_ms: float) -> None:
    assert float(latency_ms(distance_km, kind)) == pytest.approx(expected_ms, abs=1e-12)


def test_latency_is_never_rounded_and_keeps_the_shape() -> None:
    found = latency_ms([[1000.0, 1000.1], [2000.0, 0.0]], LinkKind.ISL)
    assert found.shape == (2, 2)
    assert found[0, 1] - found[0, 0] == pytest.approx(0.1 / LIGHT_KM_MS)


def test_cables_are_longer_than_the_crow_flies() -> None:
    lengths = np.linspace(0.0, 3000.0, 301)
    routes = fibre_route_km(lengths)
    assert (np.diff(routes) >= 0.0).all()
    assert fibre_route_km([1000.0, 1100.0, 1200.0]).tolist() == [1500.0, 1500.0, 1500.0]
    assert (routes >= 1.25 * lengths).all()


def test_a_radio_carries_less_from_afar() -> None:
    rates = bandwidth_mbit_s([550.0, 1123.0, 2500.0], LinkKind.GROUND)
    assert rates == pytest.approx([758.6, 369.0, 112.6], rel=0.01)
    assert bandwidth_mbit_s(0.0, LinkKind.GROUND) < math.inf
    assert bandwidth_mbit_s([1.0, 5000.0], LinkKind.ISL).tolist() == [100_000.0, 100_000.0]


def test_a_radio_may_be_capped() -> None:
    models = {LinkKind.GROUND: LinkModel(channel_mhz=240.0, snr_db=9.0, at_km=550.0, bandwidth_mbit_s=500.0)}
    assert bandwidth_mbit_s([550.0, 1123.0], LinkKind.GROUND, models) == pytest.approx(
        [500.0, 369.0], rel=0.01
    )


def test_all_kinds_have_a_model() -> None:
    assert set(DEFAULT_MODELS) == set(LinkKind)


@pytest.mark.parametrize(
    "field", ["speed_km_ms", "bandwidth_mbit_s", "at_km", "processing_ms", "channel_mhz", "snr_db"]
)
@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_a_model_that_cannot_be_is_refused(field: str, value: float) -> None:
    if field == "snr_db" and not math.isnan(value):
        LinkModel(snr_db=value)  # below the noise, and fine
        return
    with pytest.raises(TopologyRefused, match=field):
        LinkModel(**{field: value})  # type: ignore[arg-type]
