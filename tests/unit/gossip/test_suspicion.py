"""Lifeguard's time-out: literal values, and how accusers shorten it."""

from __future__ import annotations

import msgspec
import pytest

from edgeagent.gossip.presets import preset, without_lifeguard
from edgeagent.gossip.suspicion import (
    Suspicion,
    confirmations_expected,
    suspicion_bounds_s,
    suspicion_timeout_s,
)

KNOBS = msgspec.structs.replace(
    preset("lan"), suspicion_mult=4.0, suspicion_max_mult=6.0, probe_interval_s=1.0, confirmations=3
)


@pytest.mark.parametrize(
    ("members", "shortest", "longest"),
    [
        (0, 4.0, 24.0),
        (1, 4.0, 24.0),
        (10, 4.0, 24.0),
        (100, 8.0, 48.0),
        (1000, 12.0, 72.0),
        (10_000, 16.0, 96.0),
    ],
)
def test_the_bounds_grow_with_the_logarithm_of_the_group(
    members: int, shortest: float, longest: float
) -> None:
    assert suspicion_bounds_s(KNOBS, members) == pytest.approx((shortest, longest))


# With k = 3, a shortest of 2 s and a longest of 30 s, as in memberlist's table: 30, 16, 7.81, 2.
@pytest.mark.parametrize(
    ("confirmations", "timeout"), [(0, 30.0), (1, 16.0), (2, 7.810), (3, 2.0), (4, 2.0), (10, 2.0)]
)
def test_the_time_out_falls_with_each_accuser(confirmations: int, timeout: float) -> None:
    assert suspicion_timeout_s(confirmations, 3, 2.0, 30.0) == pytest.approx(timeout, abs=1e-3)


def test_groups_too_small_for_accusers_take_the_short_time_out() -> None:
    assert confirmations_expected(KNOBS, 4) == 0
    assert confirmations_expected(KNOBS, 5) == 3
    assert suspicion_timeout_s(0, 0, 2.0, 30.0) == 2.0


def _suspicion(members: int = 100) -> Suspicion:
    return Suspicion(KNOBS, members, now_s=10.0, accuser="a", blob=b"blob")


def test_each_accuser_counts_once_and_only_as_many_as_expected() -> None:
    one = _suspicion()
    assert one.deadline_s == pytest.approx(10.0 + 48.0)
    assert not one.confirm("a")
    assert [one.confirm(name) for name in "bcdef"] == [True, True, True, False, False]
    assert one.deadline_s == pytest.approx(10.0 + 8.0)


def test_plain_swim_has_one_time_out() -> None:
    one = Suspicion(without_lifeguard(KNOBS), 100, now_s=0.0, accuser="a", blob=b"")
    assert one.deadline_s == pytest.approx(8.0)
    assert not one.confirm("b")
