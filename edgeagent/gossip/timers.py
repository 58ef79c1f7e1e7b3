"""The core's own deadlines behind the one timer that the shell keeps for it.

Cancelled deadlines stay in the heap and are dropped when they come up: whoever set one checks then whether it still
means anything. The token of the shell's timer changes with each ``Arm``, so that a stale one is recognised.

No deadline comes up twice at one moment: what is set while others are due (between ``begin`` and ``done``) comes up
``_TICK_S`` later at the earliest, so time moves on whatever is set.
"""

from __future__ import annotations

import enum
import heapq
import math

from edgeagent.gossip.effects import Arm

__all__ = ["Timer", "Timers"]

_TICK_S = 1e-3


class Timer(enum.IntEnum):
    """What is due."""

    PROBE = 0
    PROBE_TIMEOUT = 1
    PROBE_END = 2
    RELAY = 3
    GOSSIP = 4
    LOAD_PUSH = 5
    LOAD_FORWARD = 6
    SUSPICION = 7
    RETURN = 8
    VERIFY = 9
    PUSH_PULL = 10
    STREAM = 11
    RECONNECT = 12
    SWEEP = 13
    KNOCK = 14
    NAME = 15


class Timers:
    """A heap of (time, kind, reference). Times are monotonic seconds."""

    __slots__ = ("_armed_s", "_earliest_s", "_heap", "_order", "token")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer, object]] = []
        self._order = 0
        self._armed_s = math.inf
        self._earliest_s = -math.inf
        self.token = 0

    def at(self, at_s: float, kind: Timer, reference: object = None) -> None:
        """Set a deadline; deadlines of one moment come up in the order in which they were set."""
        self._order += 1
        heapq.heappush(self._heap, (max(at_s, self._earliest_s), self._order, kind, reference))

    def pop_due(self, now_s: float) -> tuple[Timer, object] | None:
        """The earliest deadline that has passed."""
        if self._heap and self._heap[0][0] <= now_s:
            _, _, kind, reference = heapq.heappop(self._heap)
            return kind, reference
        return None

    @property
    def next_s(self) -> float:
        """The earliest deadline; infinite where there is none."""
        return self._heap[0][0] if self._heap else math.inf

    def shift(self, by_s: float) -> None:
        """Put everything off but returns: those go by UTC, and are only never before the earliest of the rest."""
        earliest_s = self.next_s + by_s
        self._heap = [
            (max(at_s, earliest_s) if kind is Timer.RETURN else at_s + by_s, order, kind, reference)
            for at_s, order, kind, reference in self._heap
        ]
        heapq.heapify(self._heap)

    def begin(self, now_s: float) -> None:
        """The shell's timer came up: what is due is about to be popped."""
        self._armed_s = math.inf
        self._earliest_s = now_s + _TICK_S

    def done(self) -> None:
        """All that was due is done."""
        self._earliest_s = -math.inf

    def arm(self) -> Arm | None:
        """The shell's timer, where it must be set anew. One that comes too early is let be: it finds nothing due."""
        next_s = self.next_s
        if next_s >= self._armed_s:
            return None
        self._armed_s = next_s
        self.token += 1
        return Arm(self.token, next_s)
