"""Element sets and places that the tests of this room share."""

from __future__ import annotations

import calendar
import datetime
from importlib.resources import files
from pathlib import Path

import pytest

from edgeagent.orbit.elements import Elements
from edgeagent.orbit.tle import elements_of_lines

__all__ = [
    "GEO",
    "ISS",
    "MOLNIYA",
    "POLAR",
    "elements",
    "lines",
    "shared_data",
    "utc",
    "verification_sets",
]

# Real sets of these kinds, from the sgp4 package's documentation and its verification file.
ISS = (
    "1 25544U 98067A   19343.69339541  .00001764  00000-0  38792-4 0  9991",
    "2 25544  51.6439 211.2001 0007417  17.6667  85.6398 15.50103472202482",
)
MOLNIYA = (
    "1 08195U 75081A   06176.33215444  .00000099  00000-0  11873-3 0   813",
    "2 08195  64.1586 279.0717 6877146 264.7651  20.2257  2.00491383225656",
)
GEO = (
    "1 28626U 05008A   06176.46683397 -.00000205  00000-0  10000-3 0  2190",
    "2 28626   0.0019 286.9433 0000335  13.7918  55.6504  1.00270176  4891",
)
POLAR = (
    "1 28057U 03049A   06177.78615833  .00000060  00000-0  35940-4 0  1836",
    "2 28057  98.4283 247.6961 0000884  88.1964 271.9322 14.35478080140550",
)
lines = {"iss": ISS, "molniya": MOLNIYA, "geo": GEO, "polar": POLAR}


def elements(name: str) -> Elements:
    """The element set of one of the names above."""
    return elements_of_lines(*lines[name], name=name.upper())


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: float = 0.0) -> float:
    """UTC seconds since 1970."""
    whole = datetime.datetime(year, month, day, hour, minute, tzinfo=datetime.UTC)
    return calendar.timegm(whole.utctimetuple()) + second


def shared_data(name: str) -> Path:
    """A file of the development data beside the repository; the test is skipped where it is absent."""
    path = Path(__file__).parents[4] / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"no development data {name}")
    return path


def verification_sets() -> list[tuple[str, str, str]]:
    """(line 1, line 2, what follows it) of the official SGP4 verification file."""
    text = (files("sgp4") / "SGP4-VER.TLE").read_text(encoding="ascii")
    rows = [row for row in text.splitlines() if row[:2] in {"1 ", "2 "}]
    return [(one[:69], two[:69], two[69:]) for one, two in zip(rows[::2], rows[1::2], strict=True)]
