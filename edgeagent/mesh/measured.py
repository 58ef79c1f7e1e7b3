"""Measurements against predictions: elements that measurements contradict are worse than none.

Two things cannot be, wherever the routes lead, if both elements are right:

1. a round trip shorter than light needs along the straight line, there and back;
2. a member that answers again and again while the plan says that no route leads to it.

One of them may be an accident (a clock, a step of the plan's grid); three without anything that agrees in between are a
satellite that is elsewhere: it has manoeuvred, or somebody's elements are wrong. Pure.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["CONTRADICTIONS", "CONTRADICTIONS_EMULATED", "Contradictions", "is_impossible"]

CONTRADICTIONS = 3
CONTRADICTIONS_EMULATED = 8  # emulated links take no time before both ends have predicted them
_C_KM_S = 299_792.458
_SHARE = 0.95  # elements that are good to 5 % of the distance contradict nothing
_SLACK_S = 0.0005
_NAMES_MAX = 65_536


def is_impossible(round_trip_s: float, distance_km: float) -> bool:
    """Whether light would be late; a distance that is not known contradicts nothing."""
    return round_trip_s + _SLACK_S < _SHARE * 2.0 * distance_km / _C_KM_S


class Contradictions:
    """Counts for each member what contradicts its elements, and forgets it when something agrees. ``enough``: so many
    without one that agrees.
    """

    def __init__(self, enough: int = CONTRADICTIONS) -> None:
        self._enough = enough
        self._counts: OrderedDict[str, int] = OrderedDict()

    def contradicted(self, name: str) -> bool:
        """One more; true when these are enough, and then the count begins anew."""
        count = self._counts.pop(name, 0) + 1
        if count >= self._enough:
            return True
        self._counts[name] = count
        if len(self._counts) > _NAMES_MAX:
            self._counts.popitem(last=False)
        return False

    def agrees(self, name: str) -> None:
        self._counts.pop(name, None)
