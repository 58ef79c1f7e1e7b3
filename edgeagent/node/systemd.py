"""Telling systemd how the daemon is: READY, STATUS, STOPPING and the watchdog (sd_notify(3)), without a
library.

The watchdog is fed by the event loop itself, so that a loop which hangs is noticed and restarted.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping

__all__ = ["Notifier"]


class Notifier:
    """Silent where systemd did not ask (no NOTIFY_SOCKET)."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environ) if self._address else 0.0
        self._handle: asyncio.TimerHandle | None = None
        self._owed: list[str] = []  # what the manager has to hear, and had no room for yet

    @property
    def enabled(self) -> bool:
        return self._address is not None

    def ready(self, status: str = "") -> None:
        """The daemon serves."""
        self._send("READY=1" + (f"\nSTATUS={_line(status)}" if status else ""), must=True)

    def status(self, text: str) -> None:
        self._send(f"STATUS={_line(text)}")

    def stopping(self, status: str = "") -> None:
        self._send("STOPPING=1" + (f"\nSTATUS={_line(status)}" if status else ""), must=True)

    def start_watchdog(
        self, loop: asyncio.AbstractEventLoop, healthy: Callable[[], bool] = lambda: True
    ) -> None:
        """Feed the watchdog, if there is one, twice a period while the loop turns and ``healthy`` says so."""
        if self.watchdog_s and self._handle is None:
            self._feed(loop, healthy)

    def stop_watchdog(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _feed(self, loop: asyncio.AbstractEventLoop, healthy: Callable[[], bool]) -> None:
        if healthy():
            self._send("WATCHDOG=1")
        self._handle = loop.call_later(self.watchdog_s / 2, self._feed, loop, healthy)

    def _send(self, message: str, *, must: bool = False) -> None:
        """Without waiting; what ``must`` be heard and finds no room goes before the next message."""
        if self._address is None:
            return
        owed, self._owed = [*self._owed, message], []
        kept = len(owed) if must else len(owed) - 1
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notify:
                for number, one in enumerate(owed):
                    self._owed = owed[number:kept]
                    notify.sendto(one.encode(), self._address)
            self._owed = []
        except BlockingIOError:
            return  # a manager that is slow must not stop the node; a missed feed is made up by the next
        except OSError:
            self._owed = []  # it went away


def _address(text: str) -> str | None:
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else None


def _line(text: str) -> str:
    return " ".join(text.split())


def _watchdog_s(environ: Mapping[str, str]) -> float:
    pid = environ.get("WATCHDOG_PID", "")
    if pid and pid != str(os.getpid()):
        return 0.0
    try:
        return max(0, int(environ.get("WATCHDOG_USEC", "0"))) / 1e6
    except ValueError:
        return 0.0
