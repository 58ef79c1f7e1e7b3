"""Virtual time: a heap of events. Events of one moment happen in the order in which they were set."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

__all__ = ["VirtualClock"]


class VirtualClock:
    """Time stands still while an event happens. ``now_s`` is monotonic, from 0."""

    __slots__ = ("_heap", "_order", "events", "now_s")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self.now_s = 0.0
        self.events = 0  # how many have happened

    def at(self, at_s: float, what: Callable[..., None], *arguments: Any) -> None:
        """Let something happen at a time; at once, where that has passed."""
        self._order += 1
        heapq.heappush(self._heap, (max(at_s, self.now_s), self._order, what, arguments))

    def after(self, delay_s: float, what: Callable[..., None], *arguments: Any) -> None:
        """Let something happen after a while."""
        self._order += 1
        heapq.heappush(self._heap, (self.now_s + max(0.0, delay_s), self._order, what, arguments))

    def run_until(self, end_s: float) -> None:
        """Let everything happen that is due by then; afterwards it is then."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= end_s:
            self.now_s, _, what, arguments = pop(heap)
            self.events += 1
            what(*arguments)
        self.now_s = max(self.now_s, end_s)
