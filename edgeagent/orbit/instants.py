"""Moments: UTC as integer microseconds (element sets) and as seconds (everything else) since 1970-01-01, POSIX style.

POSIX seconds leave leap seconds out, as SGP4's Julian dates do; 23:59:60 is read as 00:00:00 of the next day. A
double of UTC seconds resolves 0.24 us in this century, 2 mm of a satellite's way. TLE epochs (1e-8 day = 864 us) and
OMM epochs (1 us) are exact as integers.
"""

from __future__ import annotations

import datetime
import re

from edgeagent.orbit.errors import TimeRefused

__all__ = [
    "DAY_S",
    "DAY_US",
    "EARLIEST_US",
    "LATEST_US",
    "UNIX_EPOCH_JD",
    "format_utc",
    "julian_of_us",
    "parse_utc",
    "us_of_date",
]

DAY_S = 86_400
DAY_US = 86_400_000_000
UNIX_EPOCH_JD = 2_440_587.5  # Julian date of 1970-01-01T00:00Z

_EPOCH = datetime.date(1970, 1, 1)
EARLIEST_US = (datetime.date(1957, 1, 1) - _EPOCH).days * DAY_US  # no satellite is older
LATEST_US = (datetime.date(2100, 1, 1) - _EPOCH).days * DAY_US

# CCSDS 502.0-B, 7.5.10: calendar or day-of-year form, UTC, an optional fraction and an optional Z.
_UTC = re.compile(r"(\d{4})-(?:(\d{2})-(\d{2})|(\d{3}))T(\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,18}))?Z?", re.ASCII)
_FORMS = "use YYYY-MM-DDThh:mm:ss or YYYY-DDDThh:mm:ss, with or without a fraction or Z, in UTC"


def us_of_date(year: int, month: int, day: int) -> int:
    """Microseconds of midnight at the start of a day. Raises ValueError for a date that does not exist."""
    return (datetime.date(year, month, day) - _EPOCH).days * DAY_US


def _refuse(text: str, why: str) -> TimeRefused:
    return TimeRefused(f"{text[:40]!r} is not a time: {why}", hint=_FORMS)


def _midnight_us(text: str, year: str, month: str | None, day: str | None, ordinal: str | None) -> int:
    try:
        if month is not None and day is not None:
            return us_of_date(int(year), int(month), int(day))
        start = us_of_date(int(year), 1, 1)
    except ValueError as error:
        raise _refuse(text, str(error)) from None
    days = int(ordinal or "0")
    if not 1 <= days <= 365 + (us_of_date(int(year), 12, 31) - start == 365 * DAY_US):
        raise _refuse(text, f"{year} has no day {days}")
    return start + (days - 1) * DAY_US


def parse_utc(text: str) -> int:
    """A CCSDS or ISO 8601 UTC time as microseconds, rounded to the nearest. Raises TimeRefused.

    Accepts ``2024-10-21T08:00:00``, with a fraction of up to 18 digits, with ``Z``, and day-of-year dates
    (``2024-295T08:00:00``); years 1957 to 2099. Other offsets than Z are refused: element sets are in UTC.
    """
    match = _UTC.fullmatch(text.strip())
    if match is None:
        raise _refuse(text, "not in the form of CCSDS time codes")
    year, month, day, ordinal, hours, minutes, seconds, fraction = match.groups()
    leap = (hours, minutes, seconds) == ("23", "59", "60")
    if int(hours) > 23 or int(minutes) > 59 or (int(seconds) > 59 and not leap):
        raise _refuse(text, "hours go to 23, minutes and seconds to 59")
    moment = _midnight_us(text, year, month, day, ordinal)
    moment += (int(hours) * 3600 + int(minutes) * 60 + int(seconds)) * 1_000_000
    if fraction:
        scale: int = 10 ** len(fraction)
        moment += (int(fraction) * 2_000_000 + scale) // (2 * scale)
    if not EARLIEST_US <= moment < LATEST_US:
        raise _refuse(text, "years 1957 to 2099 are known")
    return moment


def format_utc(moment_us: int) -> str:
    """``2024-10-21T08:00:00.000000``: the form of an OMM's EPOCH; always UTC, never with a Z."""
    days, rest = divmod(moment_us, DAY_US)
    seconds, micros = divmod(rest, 1_000_000)
    date = _EPOCH + datetime.timedelta(days=days)
    hours, seconds = divmod(seconds, 3600)
    return f"{date.isoformat()}T{hours:02}:{seconds // 60:02}:{seconds % 60:02}.{micros:06}"


def julian_of_us(moment_us: int) -> tuple[float, float]:
    """The Julian date as (midnight, fraction of a day): together they lose no microsecond."""
    days, rest = divmod(moment_us, DAY_US)
    return UNIX_EPOCH_JD + days, rest / DAY_US
