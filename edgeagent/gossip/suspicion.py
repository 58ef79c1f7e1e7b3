"""How long a suspicion lasts: Lifeguard's dynamic time-out.

SWIM's time-out is one number. Lifeguard (Dadgar, Phillips, Currey, arXiv:1707.00788, "LHA-Suspicion") starts with a
long one and shortens it with each independent accuser:

    min = multiplier * max(1, log10(n)) * probe_interval
    max = max_multiplier * min
    timeout(c) = max(min, max - (max - min) * log(c + 1) / log(k + 1))

with ``n`` members, ``c`` accusers beyond the first and ``k`` of them expected. A member that is itself slow hears no
second accuser, keeps the long time-out, and so gives the refutation time to arrive.
"""

from __future__ import annotations

import math

from edgeagent.gossip.knobs import Knobs

__all__ = ["Suspicion", "confirmations_expected", "suspicion_bounds_s", "suspicion_timeout_s"]


def suspicion_bounds_s(knobs: Knobs, members: int) -> tuple[float, float]:
    """The shortest and the longest time-out with so many members, seconds."""
    shortest = knobs.suspicion_mult * max(1.0, math.log10(max(1, members))) * knobs.probe_interval_s
    return shortest, shortest * knobs.suspicion_max_mult


def confirmations_expected(knobs: Knobs, members: int) -> int:
    """How many further accusers count; 0 where there are too few members for so many (the short time-out then)."""
    return knobs.confirmations if members - 2 >= knobs.confirmations else 0


def suspicion_timeout_s(confirmations: int, expected: int, shortest_s: float, longest_s: float) -> float:
    """The time-out after so many confirmations, seconds."""
    if expected < 1:
        return shortest_s
    done = math.log(min(confirmations, expected) + 1.0) / math.log(expected + 1.0)
    return max(shortest_s, longest_s - done * (longest_s - shortest_s))


class Suspicion:
    """One suspicion of one incarnation. ``own``: we accuse it ourselves, not only by hearsay; ``overdue``: it began
    because the plan names no return, so the plan does not excuse it.
    """

    __slots__ = (
        "accusers",
        "asked_s",
        "blob",
        "expected",
        "longest_s",
        "overdue",
        "own",
        "shortest_s",
        "started_s",
        "timer_s",
    )

    def __init__(self, knobs: Knobs, members: int, *, now_s: float, accuser: str, blob: bytes) -> None:
        self.started_s = now_s
        self.expected = confirmations_expected(knobs, members)
        self.shortest_s, self.longest_s = suspicion_bounds_s(knobs, members)
        self.accusers = [accuser]
        self.blob = blob  # the accusation as it is told, also to the accused
        self.own = False
        self.asked_s: float | None = None  # when it was asked once more
        self.overdue = False
        self.timer_s = math.inf  # for when its timer is set; infinite where none waits

    def confirm(self, accuser: str) -> bool:
        """Count an accuser; whether it is a new one that counts."""
        if accuser in self.accusers or len(self.accusers) > self.expected:
            return False
        self.accusers.append(accuser)
        return True

    @property
    def deadline_s(self) -> float:
        """When it runs out, monotonic."""
        return self.started_s + suspicion_timeout_s(
            len(self.accusers) - 1, self.expected, self.shortest_s, self.longest_s
        )
