"""Waiting on the event loop for the answer to a small transfer that went out whole.

To wake a thread and to be woken by it takes longer than to send a megabyte; so what is small is sent by the loop
itself, as far as the kernel takes it at once, and whatever is out of the ordinary is left to the thread.
"""

from __future__ import annotations

import asyncio
import time

from edgeagent.hose.errors import HoseFault
from edgeagent.hose.remote_stream import Job, Stream

__all__ = ["answered"]


class _Waiting:
    def __init__(self, stream: Stream, job: Job) -> None:
        self._loop = asyncio.get_running_loop()
        self._stream = stream
        self._job = job
        self._link = stream.link
        self.over = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        self._watched_s = 0.0  # the deadline that it is for
        self._is_watching = False

    def begin(self) -> None:
        self._is_watching = True
        self._loop.add_reader(self._link.fileno(), self._came)
        self._watch()

    def end(self) -> None:
        """Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._is_watching:
            self._is_watching = False
            self._loop.remove_reader(self._link.fileno())
            self._link.block()

    def _finish(self, fault: HoseFault | None = None) -> None:
        self.end()
        self._job.fault = fault
        if not self.over.done():
            self.over.set_result(None)

    def _came(self) -> None:
        try:
            is_over = self._stream.go_on(self._job)
        except HoseFault as fault:
            self._finish(fault)
            return
        if is_over:
            self._finish()
        elif self._deadline_s() < self._watched_s:
            self._watch()

    def _deadline_s(self) -> float:
        sender = self._job.sender
        assert sender is not None
        assert sender.deadline_s is not None
        return sender.deadline_s

    def _watch(self) -> None:
        sender, now_s = self._job.sender, time.monotonic()
        assert sender is not None
        if self._timer is not None:
            self._timer.cancel()
        try:
            sender.on_timer(now_s)
        except HoseFault as fault:
            self._finish(fault)
        else:
            # An answer mostly makes the deadline later; to look again then is cheaper than to move this.
            self._watched_s = self._deadline_s()
            self._timer = self._loop.call_later(self._watched_s - now_s, self._watch)


async def answered(stream: Stream, job: Job) -> None:
    """Wait for the answers to what ``stream`` has begun, until it is released, or one for the thread. Cancelled, the
    connection is closed, so that nothing of it counts.
    """
    waiting = _Waiting(stream, job)
    waiting.begin()
    try:
        await waiting.over
    except asyncio.CancelledError:
        waiting.end()
        stream.close()
        raise
