"""Calls of one stage that are more than the nodes have room for at once: they take turns.

Where every node is full, and a call of this very stage is running somewhere, the refused one waits until one of them
has ended, and asks again. Where none is running others fill the nodes, and the refusal is the answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from edgeagent.model.errors import Busy, Unavailable
from edgeagent.node.forwarder import Forwarder, Landed, Order, Told

__all__ = ["Turns"]


class Turns:
    """On the event loop's thread; of one stage."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._running = 0
        self._ends = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def land(
        self, order: Order, ranked: Sequence[str], *, told: Told | None = None, refusals: dict[str, str]
    ) -> Landed:
        """As :meth:`Forwarder.land`, and raises what it raises."""
        try:
            while True:
                ends = self._ends
                try:
                    return await self._attempt(order, ranked, told, refusals)
                except (Busy, Unavailable) as error:
                    full = error.details.get("full", ())
                    if not full or (not self._running and self._ends == ends):
                        raise
                    for node in full:  # the others are not asked again
                        refusals.pop(node, None)
                if self._ends == ends:
                    await self._one_end()
        finally:
            self._wake()

    async def _attempt(
        self, order: Order, ranked: Sequence[str], told: Told | None, refusals: dict[str, str]
    ) -> Landed:
        has_begun = False

        async def begun(node: str) -> None:
            nonlocal has_begun
            self._running += not has_begun
            has_begun = True
            self._wake()  # there may be room for one more: who ran here for others may have ended
            if told is not None:
                await told(node)

        try:
            return await self._forwarder.land(order, ranked, told=begun, refusals=refusals)
        finally:
            if has_begun:
                self._running -= 1
                self._ends += 1

    def _wake(self) -> None:
        """One of those who wait asks again; it wakes the next one when it has begun, or when it leaves."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return

    async def _one_end(self) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting
