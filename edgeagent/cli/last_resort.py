"""The end of a process that does not come to its end by itself.

A kernel on the CPU cannot be stopped, and neither its guest's memory nor the interpreter goes away before it is over. A
node's end must not wait for that as long as somebody's kernel takes: beyond its time the process ends as by SIGKILL,
which loses nothing that was acknowledged.
"""

from __future__ import annotations

import os
import threading

import structlog

__all__ = ["LastResort"]

log = structlog.get_logger("run")


class LastResort:
    """On the event loop's thread; what is due happens on one of its own, as the loop may hang."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def within(self, seconds: float) -> None:
        """The process ends so soon, with status 0, whatever was said before."""
        self.cancel()
        self._timer = threading.Timer(seconds, _end)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """It has come to its end by itself."""
        if self._timer is not None:
            self._timer.cancel()


def _end() -> None:
    log.warning("ended without waiting for what still runs", hint="a kernel cannot be stopped")
    os._exit(0)
