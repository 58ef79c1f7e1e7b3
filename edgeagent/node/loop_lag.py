"""How late the event loop is: a timer that notes by how much it missed its time."""

from __future__ import annotations

import asyncio

from edgeagent.node.meters import Histogram

__all__ = ["LoopLag"]

PERIOD_S = 0.05


class LoopLag:
    """Measures from ``start`` to ``stop``; ``last_us`` is the newest, ``worst_us`` a decaying maximum."""

    def __init__(self, histogram: Histogram, period_s: float = PERIOD_S) -> None:
        self.last_us = 0
        self.worst_us = 0
        self._histogram = histogram
        self._period_s = period_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._arm(loop)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due_s = loop.time() + self._period_s
        self._handle = loop.call_at(self._due_s, self._tick)

    def _tick(self) -> None:
        loop = self._loop
        assert loop is not None
        self.last_us = max(0, int((loop.time() - self._due_s) * 1e6))
        self.worst_us = max(self.last_us, self.worst_us - self.worst_us // 16)
        self._histogram.add(self.last_us)
        self._arm(loop)
