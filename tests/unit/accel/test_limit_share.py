"""What a function's limit leaves for a kernel call."""

from __future__ import annotations

import pytest

from edgeagent.accel.limit_share import LimitShare


def test_little_was_seen_and_all_of_it_is_left() -> None:
    share = LimitShare(100.0)
    assert share.limit_ms == 100.0
    for _ in range(7):
        share.add(90.0, 10.0, 1)
    assert share.limit_ms == 100.0
    share.add(90.0, 10.0, 1)
    assert share.limit_ms == pytest.approx(20.0)


def test_calls_share_what_is_left_and_nine_of_ten_keep_it() -> None:
    share = LimitShare(100.0)
    for number in range(20):
        share.add(60.0 if number % 10 else 95.0, 20.0, 2)
    assert share.limit_ms == pytest.approx(30.0)
    for _ in range(10):
        share.add(95.0, 20.0, 2)
    assert share.limit_ms == pytest.approx(12.5)


def test_something_is_left_where_the_rest_takes_all() -> None:
    share = LimitShare(100.0)
    for _ in range(40):
        share.add(500.0, 20.0, 5)
    assert share.limit_ms == pytest.approx(1.0)
    for _ in range(40):
        share.add(10.0, 20.0, 1)  # clocks are what they are
    assert share.limit_ms == pytest.approx(100.0)
