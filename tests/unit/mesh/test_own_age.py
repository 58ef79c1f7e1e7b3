"""When a node says that its own elements are old."""

from __future__ import annotations

from edgeagent.mesh.own_age import REPEATED_S, OwnAge
from edgeagent.orbit.age import Freshness


def test_said_at_each_limit_and_once_a_day() -> None:
    age = OwnAge()
    assert not age.is_due(Freshness.FRESH, 0.0)
    assert age.is_due(Freshness.AGED, 5.0)
    assert not age.is_due(Freshness.AGED, 10.0)
    assert age.is_due(Freshness.STALE, 15.0)
    assert not age.is_due(Freshness.STALE, 15.0 + REPEATED_S - 1.0)
    assert age.is_due(Freshness.STALE, 15.0 + REPEATED_S)
    assert not age.is_due(Freshness.STALE, 20.0 + REPEATED_S)


def test_newer_elements_begin_anew() -> None:
    age = OwnAge()
    assert age.is_due(Freshness.STALE, 0.0)
    assert not age.is_due(Freshness.FRESH, 1.0)
    assert age.is_due(Freshness.AGED, 2.0)
