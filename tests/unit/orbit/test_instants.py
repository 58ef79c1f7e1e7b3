"""Times: what is read, what is refused, and that nothing is lost on the way."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.orbit.errors import TimeRefused
from edgeagent.orbit.instants import EARLIEST_US, LATEST_US, format_utc, julian_of_us, parse_utc
from edgeagent.orbit.sidereal import as_times, julian
from tests.unit.orbit.samples import utc


@pytest.mark.parametrize(
    ("text", "utc_s"),
    [
        ("2024-10-21T08:00:00", utc(2024, 10, 21, 8)),
        ("2024-10-21T08:00:00Z", utc(2024, 10, 21, 8)),
        (" 2024-10-21T08:00:00.5 ", utc(2024, 10, 21, 8, 0, 0.5)),
        ("2024-10-21T08:00:00.250000Z", utc(2024, 10, 21, 8, 0, 0.25)),
        ("2024-295T08:00:00.25", utc(2024, 10, 21, 8, 0, 0.25)),
        ("2024-366T00:00:00", utc(2024, 12, 31)),
        ("2023-12-31T23:59:59.9999996", utc(2024, 1, 1)),
        ("2016-12-31T23:59:60.5", utc(2017, 1, 1, 0, 0, 0.5)),
        ("1957-01-01T00:00:00", utc(1957, 1, 1)),
    ],
)
def test_forms_of_a_time(text: str, utc_s: float) -> None:
    assert parse_utc(text) == round(utc_s * 1e6)


@pytest.mark.parametrize(
    "text",
    [
        "", "2024", "2024-10-21", "2024-10-21 08:00:00", "2024-10-21T08:00:00+00:00", "2024-02-30T00:00:00",
        "2023-366T00:00:00", "2024-367T00:00:00", "2024-000T00:00:00", "2024-13-01T00:00:00", "2024-10-21T24:00:00",
        "2024-10-21T08:60:00", "2024-10-21T08:00:60", "2024-10-21T08:00:00.", "2024-10-21T08:00", "0000-01-01T00:00:00",
        "1956-12-31T23:59:59", "2100-01-01T00:00:00", "2024-10-21T08:00:00.1234567890123456789",
        "２０２４-10-21T08:00:00", "2024-10-21T08:00:00ZZ", "24295.5",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(TimeRefused) as raised:
        parse_utc(text)
    assert raised.value.hint


@given(st.integers(EARLIEST_US, LATEST_US - 1))
def test_a_time_comes_back_from_its_text(moment_us: int) -> None:
    assert parse_utc(format_utc(moment_us)) == moment_us
    assert parse_utc(format_utc(moment_us) + "Z") == moment_us


@given(st.integers(EARLIEST_US, LATEST_US - 1))
def test_julian_dates_keep_the_microsecond(moment_us: int) -> None:
    day, fraction = julian_of_us(moment_us)
    assert 0.0 <= fraction < 1.0
    assert round((day - 2440587.5) * 86400e6 + fraction * 86400e6) == moment_us
    days, fractions = julian(as_times(moment_us / 1e6))
    assert (days[0] - day) * 86400 + (fractions[0] - fraction) * 86400 == pytest.approx(0, abs=5e-7)


def test_a_known_julian_date() -> None:
    day, fraction = julian_of_us(parse_utc("2000-01-01T12:00:00"))
    assert day + fraction == 2451545.0


@pytest.mark.parametrize(
    "times",
    [
        float("nan"),
        float("inf"),
        -1e12,
        4.2e9,
        [0.0, float("nan")],
        "now",
        None,
        [[1.0, 2.0]],
        ["a"],
        "5",
        [[1.0], [1.0, 2.0]],
        True,
        np.datetime64("2024-01-01"),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        1j,
    ],
)
def test_times_that_are_none(times: object) -> None:
    with pytest.raises(TimeRefused):
        as_times(times)  # type: ignore[arg-type]


def test_times_of_any_number() -> None:
    assert as_times(5).tolist() == [5.0]
    assert as_times([]).shape == (0,)
    assert as_times(np.arange(3)).dtype == np.float64
    now = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC).timestamp()
    assert as_times(now)[0] == utc(2024, 1, 1)
