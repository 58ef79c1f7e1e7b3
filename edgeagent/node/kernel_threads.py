"""The threads that do kernels on the CPU: short ones at once, long ones by turns of the functions that ask for them.

A kernel is not interrupted, so that whoever has all threads keeps everybody waiting for as long as its kernels take.
What the plan calls short is never behind what it calls long, and of the long ones no function has all the threads.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from edgeagent.accel.fair_queue import FairQueue
from edgeagent.model.errors import Busy

__all__ = ["SHORT_S", "KernelThreads"]

SHORT_S = 0.1  # of a slow board's CPU, as a plan reckons
_THREADS_MAX = 4  # numpy's products use all cores by themselves
_WAITING_MAX = 1024
T = TypeVar("T")


class KernelThreads:
    """On the event loop's thread. ``one_max`` long kernels of a function run at once; there is a thread more."""

    def __init__(
        self,
        one_max: int = 0,
        waiting_max: int = _WAITING_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._one_max = one_max or min(_THREADS_MAX, os.cpu_count() or 1)
        self._clock = clock
        self._short = ThreadPoolExecutor(self._one_max, "edge-kernel")
        self._long = ThreadPoolExecutor(self._one_max + 1, "edge-long-kernel")
        self._waiting: FairQueue[asyncio.Future[float]] = FairQueue(waiting_max)
        self._running: Counter[str] = Counter()

    @property
    def long_running(self) -> int:
        """How many threads are taken by long ones."""
        return self._running.total()

    def short(self, work: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """First come, first served."""
        return asyncio.get_running_loop().run_in_executor(self._short, work, *arguments)

    async def long(self, function: str, work: Callable[..., T], *arguments: object) -> T:
        """When it is this function's turn. Raises Busy where too many wait."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[float] = loop.create_future()
        if not self._waiting.push(function, turn):
            raise Busy("too many kernels wait for a CPU")
        self._give_turns()
        try:
            charged_s = await turn
        except asyncio.CancelledError:
            if not self._waiting.remove(function, turn) and not turn.cancelled():
                self._ended(function, turn.result(), 0.0)
            raise
        begun_s = self._clock()
        done = loop.run_in_executor(self._long, work, *arguments)
        done.add_done_callback(lambda _: self._ended(function, charged_s, self._clock() - begun_s))
        return await done

    def _give_turns(self) -> None:
        while self.long_running <= self._one_max:
            full = {name for name, count in self._running.items() if count >= self._one_max}
            next_ = self._waiting.pop(full)
            if next_ is None:
                return
            function, turn, charged_s = next_
            if turn.done():  # given up
                self._waiting.settle(function, charged_s, 0.0)
                continue
            self._running[function] += 1
            turn.set_result(charged_s)

    def _ended(self, function: str, charged_s: float, took_s: float) -> None:
        self._running -= Counter((function,))  # and no name stays that runs nothing
        self._waiting.settle(function, charged_s, took_s)
        self._give_turns()

    async def stop(self) -> None:
        """What waits is given up by who asked for it; what runs comes to its end first."""
        for pool in (self._short, self._long):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)
