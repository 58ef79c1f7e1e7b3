"""Checks of a large transfer, computed on a second thread while the first is in the kernel with earlier frames.

On loopback the sender's core is the bottleneck and on a fast network it is near it, so what the sender computes
between two frames is paid in full; a tag is 16 bytes, so all of them can be computed ahead without any window.
"""

from __future__ import annotations

import threading
import time

from edgeagent.hose.checksum import Check, nonce_of
from edgeagent.hose.transfer import SendData

__all__ = ["AHEAD_FRAMES_MIN", "ChecksAhead"]

AHEAD_FRAMES_MIN = 8  # below, waking a thread costs more than it saves


class ChecksAhead:
    """``run`` on a thread of its own, ``take`` and ``close`` on the sending one."""

    def __init__(
        self, check: Check, number: int, view: memoryview, start: int, end: int, chunk_bytes: int
    ) -> None:
        self._check = check
        self._number = number
        self._view = view
        self._end = end
        self._chunk = chunk_bytes
        self._next = start + chunk_bytes  # the sender does the first itself, at once
        self._found: dict[int, bytes] = {}
        self._stop = False
        self._ended = threading.Event()

    def run(self) -> None:
        """Compute until the end, or until told to stop."""
        try:
            while not self._stop and (offset := self._next) < self._end:
                self._next = offset + self._chunk
                with self._view[offset : min(offset + self._chunk, self._end)] as payload:
                    self._found[offset] = self._check(payload, nonce_of(self._number, offset, resent=False))
                # The check may hold the interpreter's lock: hand it to the sender, who waits for it to send.
                time.sleep(0)
        finally:
            self._ended.set()

    def take(self, order: SendData) -> bytes | None:
        """The check of a frame, or None where it has to be computed: not there yet, or of another length."""
        expected = min(self._chunk, self._end - order.offset)
        if order.flags or order.length != expected:
            return None
        found = self._found.pop(order.offset, None)
        if found is None:
            self._next = max(
                self._next, order.offset + 2 * self._chunk
            )  # overtaken: leave the next to us too
        return found

    def close(self) -> None:
        """Returns when ``run`` no longer reads the bytes."""
        self._stop = True
        self._ended.wait()
