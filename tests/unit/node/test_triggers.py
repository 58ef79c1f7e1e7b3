"""When a trigger begins a run."""

from __future__ import annotations

import pytest

from edgeagent.model.workflow import Trigger
from edgeagent.node.triggers import is_due, is_over


@pytest.mark.parametrize(
    ("now_s", "last_s", "due"),
    [(10.0, None, False), (10.0, 5.0, True), (9.9, 5.0, False), (100.0, 5.0, True)],
)
def test_by_time(now_s: float, last_s: float | None, due: bool) -> None:
    trigger = Trigger(every_s=5)
    assert is_due(trigger, now_s=now_s, last_s=last_s, holds=False, held=False) is due


@pytest.mark.parametrize(
    ("holds", "held", "due"),
    [(True, False, True), (True, True, False), (False, True, False), (False, False, False)],
)
def test_by_condition_when_it_begins_to_hold(holds: bool, held: bool, due: bool) -> None:
    assert is_due(Trigger(contact_with="x"), now_s=0.0, last_s=None, holds=holds, held=held) is due


def test_over_a_region() -> None:
    assert is_over((48.0, 16.0), (48.0, 16.0, 1.0))
    assert is_over((48.0, 17.0), (48.0, 16.0, 75.0))  # a degree of longitude there is 74.4 km
    assert not is_over((48.0, 17.0), (48.0, 16.0, 74.0))
    assert is_over((0.0, 179.9), (0.0, -179.9, 23.0))  # over the antimeridian
    assert is_over((90.0, 5.0), (90.0, -120.0, 0.1))
