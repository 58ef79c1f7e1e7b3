"""Bodies go through labels and come back; what is malformed has no limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.placement.body import LABEL_CHARACTERS_MAX, Body, body_of
from edgeagent.placement.errors import PlanRefused


def test_labels_read_as_they_are_written() -> None:
    body = Body(temperature_c_max=75.0, temperature_c_recommended=65.0, battery_wh=40.0, solar_w=8.0)
    assert body.labels() == ("heat:75,65,600,1.5,20,10", "power:40,0.3,8,5,15")
    assert body_of(("camera", *body.labels())) == body


def test_a_body_of_defaults_needs_no_labels() -> None:
    assert Body().labels() == ()
    assert body_of(("camera",)) == Body()


@pytest.mark.parametrize(
    "label",
    [
        "heat:",
        "heat:x,65",
        "heat:nan",
        "heat:75,65,0",
        "heat:75,65,600,1.5,20,10,7",
        "heat:75,65,600,-1",
        "power:0",
        "power:-4",
        "power:40,1.5",
        "power:40,0.3,8,20,10",
        "power:inf",
        "hat:75",
    ],
)
def test_malformed_labels_are_no_limits(label: str) -> None:
    assert body_of((label,)) == Body()


@pytest.mark.parametrize(
    "fields", [{"heat_tau_s": 0.0}, {"battery_wh": 0.0}, {"busy_w": 1.0}, {"sun_c": -1.0}]
)
def test_bodies_that_cannot_be_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(PlanRefused):
        Body(**fields)


_ANY = st.floats(0.0, 1e300, allow_subnormal=False)


@given(
    st.one_of(st.none(), st.floats(-1e300, 1e300)),
    st.floats(1e-300, 1e300),
    _ANY,
    _ANY,
    st.floats(1e-3, 1e9),
    st.floats(0.0, 0.99),
)
def test_any_body_fits_and_comes_back_nearly(
    hottest: float | None, tau: float, per_w: float, sun: float, battery: float, reserve: float
) -> None:
    body = Body(
        temperature_c_max=hottest,
        heat_tau_s=tau,
        heat_c_per_w=per_w,
        sun_c=sun,
        battery_wh=battery,
        battery_reserve=reserve,
    )
    labels = body.labels()
    assert len(labels) <= 2
    assert all(len(label) <= LABEL_CHARACTERS_MAX for label in labels)
    back = body_of(labels)
    for name in ("temperature_c_max", "heat_tau_s", "heat_c_per_w", "battery_wh", "battery_reserve"):
        told, meant = getattr(back, name), getattr(body, name)
        assert told == (None if meant is None else pytest.approx(meant, rel=0.06))
    assert body_of(back.labels()) == back
