"""Versions from clocks that are wrong, and tokens with versions that are none."""

from __future__ import annotations

import base64

import msgspec
import pytest

from edgeagent.state.errors import BadKey, ClockAhead
from edgeagent.state.hlc import SKEW_MS_MAX, UNSET_BEFORE_MS, Clock, Version
from edgeagent.state.session import read_session

NOW = UNSET_BEFORE_MS + 10_000_000


def test_no_clock_is_dragged_into_the_future_step_by_step() -> None:
    clock = Clock("n")
    clock.saw(Version(NOW + SKEW_MS_MAX, 0, "x"), NOW)
    with pytest.raises(ClockAhead):
        clock.saw(Version(NOW + SKEW_MS_MAX + 1, 0, "x"), NOW)
    assert clock.next(NOW) == Version(NOW + SKEW_MS_MAX, 1, "n")
    clock.saw(Version(NOW + SKEW_MS_MAX, 7, "x"), NOW)


def test_a_clock_that_was_set_back_goes_on_from_what_it_has_seen() -> None:
    clock = Clock("n", high=Version(NOW, 3, "n"))
    back = NOW - 3_600_000
    assert clock.next(back) == Version(NOW, 4, "n")
    clock.saw(Version(NOW, 9, "x"), back)
    with pytest.raises(ClockAhead):
        clock.saw(Version(NOW + 1, 0, "x"), back)


def test_a_clock_that_is_not_set_takes_the_time_of_others() -> None:
    clock = Clock("n")
    clock.saw(Version(NOW, 0, "x"), 1000)
    assert clock.next(1000) == Version(NOW, 1, "n")


@pytest.mark.parametrize(
    "version",
    [
        (-1, 0, "n"),
        (1 << 48, 0, "n"),
        (NOW, 1 << 16, "n"),
        (NOW, (1 << 64) - 1, "n"),
        (NOW, -1, "n"),
        (NOW, 0, "a\n"),
        (NOW, 0, "x" * 65),
    ],
)
def test_a_token_with_a_version_that_is_none_is_refused(version: tuple[int, int, str]) -> None:
    raw = msgspec.msgpack.encode([(b"12345678", *version)])
    with pytest.raises(BadKey):
        read_session(base64.urlsafe_b64encode(raw).decode())
