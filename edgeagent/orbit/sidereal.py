"""The angle between the frame of SGP4 (TEME) and the turning Earth: Greenwich mean sidereal time of 1982.

Aoki et al., The new definition of Universal Time, Astron. Astrophys. 105, 1982; the frame's use of it: Vallado et
al., Revisiting Spacetrack Report #3, AIAA 2006-6753, appendix C. The argument is UT1. UT1 - UTC is read from the
table in ``ut1_table`` (held at its ends: after 2026 it drifts off by some 50 ms a year, 25 m in a low orbit); whoever
knows better gives it.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeagent.orbit.errors import TimeRefused
from edgeagent.orbit.instants import DAY_S, EARLIEST_US, LATEST_US, UNIX_EPOCH_JD, us_of_date
from edgeagent.orbit.ut1_table import LEAP_SECONDS, UT1_MINUS_TAI_MS

__all__ = ["EARTH_RATE_RAD_S", "as_times", "julian", "sidereal_angle", "ut1_minus_utc_s"]

Floats = NDArray[np.float64]

EARTH_RATE_RAD_S = 7.292_115_146_7e-5  # IERS; with it the table's length of day is constant to 1e-8
_J2000_JD = 2_451_545.0
_EARLIEST_S, _LATEST_S = EARLIEST_US / 1e6, LATEST_US / 1e6


def as_times(utc_s: ArrayLike) -> Floats:
    """UTC seconds since 1970 as a vector; one number is a vector of one.

    Raises TimeRefused for what is not finite, outside 1957 to 2099, or not one-dimensional.
    """
    try:
        given = np.atleast_1d(np.asarray(utc_s))
    except ValueError:  # a ragged list
        given = np.array([None])
    # Not by a cast: it would take days of datetime64 for seconds, and read numbers out of text.
    if given.dtype.kind not in "iuf":
        raise TimeRefused("times must be numbers", hint="give UTC seconds since 1970")
    times = given.astype(np.float64)
    if times.ndim != 1:
        raise TimeRefused(f"times have {times.ndim} dimensions, not one", hint="flatten them")
    bad = ~((times >= _EARLIEST_S) & (times < _LATEST_S))
    if bad.any():
        first = float(times[bad][0])
        raise TimeRefused(f"{first!r} is no UTC second of 1957 to 2099", hint="give seconds since 1970-01-01")
    return times


def julian(times: Floats) -> tuple[Floats, Floats]:
    """Julian dates as (midnight, fraction of a day), of UTC seconds as :func:`as_times` gives them."""
    days = np.floor(times / DAY_S)
    return UNIX_EPOCH_JD + days, (times - days * DAY_S) / DAY_S


@functools.cache
def _tables() -> tuple[Floats, Floats, Floats, Floats]:
    """(times, UT1 - TAI) and (times, TAI - UTC), seconds."""
    dates = [us_of_date(year, month, 1) / 1e6 for year in UT1_MINUS_TAI_MS for month in range(1, 13)]
    values = [ms / 1e3 for row in UT1_MINUS_TAI_MS.values() for ms in row]
    leaps = [us_of_date(year, month, 1) / 1e6 for year, month, _ in LEAP_SECONDS]
    return (
        np.array(dates),
        np.array(values),
        np.array(leaps),
        np.array([row[2] for row in LEAP_SECONDS], float),
    )


def ut1_minus_utc_s(times: Floats) -> Floats:
    """UT1 - UTC by the table, seconds; zero before 1973."""
    dates, values, leaps, offsets = _tables()
    atomic = offsets[np.maximum(np.searchsorted(leaps, times, side="right") - 1, 0)]
    return np.where(times < dates[0], 0.0, np.interp(times, dates, values) + atomic)


def sidereal_angle(times: Floats, *, dut1_s: float | None = None) -> Floats:
    """Greenwich mean sidereal time, radians in 0..2 pi; ``dut1_s`` is UT1 - UTC where the caller knows it."""
    offset = ut1_minus_utc_s(times) if dut1_s is None else dut1_s
    ut1 = times + offset
    days = np.floor(ut1 / DAY_S)
    second_of_day = ut1 - days * DAY_S
    centuries = ((UNIX_EPOCH_JD - _J2000_JD + days) + second_of_day / DAY_S) / 36_525.0
    # The day's own turn is kept apart from the slow terms, so that no digits are lost.
    slow = 67_310.548_41 + centuries * (8_640_184.812_866 + centuries * (0.093_104 - 6.2e-6 * centuries))
    # The 876600 h a century of the formula are one turn a day, counted from noon as J2000 is: half a day at midnight.
    turns = (DAY_S / 2 + second_of_day + slow) % DAY_S / DAY_S
    return np.asarray(turns * 2 * np.pi)
