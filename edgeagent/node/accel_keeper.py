"""The file that keeps what controllers have learned: read when the node starts, written now and then and at its end.

Nothing depends on it. A file that is damaged, or a disk that takes none, costs what was learned and a line in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from edgeagent.accel.errors import KeptDamaged
from edgeagent.accel.kept import BYTES_MAX, Shelf, read_shelf, write_shelf
from edgeagent.node.accel_routing import Routing

__all__ = ["KEPT", "Keeper"]

log = structlog.get_logger("accel")

KEPT = "accel.kept"  # in the state directory
_EVERY_S = 60.0
_FUNCTIONS_AT_ONCE = 64  # the rest is next: the loop must not be held


class Keeper:
    """On the event loop's thread; files are read and written on others, but for the one read at the start."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._next_s = clock() + _EVERY_S
        self._task: asyncio.Task[None] | None = None
        self._cannot = ""  # why the last write failed

    def read(self) -> Shelf:
        """What earlier runs left; empty where they left nothing that can be read."""
        try:
            with self._path.open("rb") as file:
                return read_shelf(file.read(BYTES_MAX + 1))
        except FileNotFoundError:
            return Shelf()
        except KeptDamaged as error:
            why = error.message
        except OSError as error:
            why = f"what was learned of GPUs cannot be read: {error.strerror}"
        log.warning("CPU or GPU is learned anew", file=self._path.name, why=why)
        return Shelf()

    def look(self, routing: Routing) -> None:
        """Called every few seconds: write what is new, once a minute."""
        if self._clock() < self._next_s or (self._task is not None and not self._task.done()):
            return
        self._next_s = self._clock() + _EVERY_S
        if routing.keep(_FUNCTIONS_AT_ONCE):
            self._task = asyncio.get_running_loop().create_task(self._write(routing.shelf))

    async def close(self, routing: Routing) -> None:
        """The node ends: write what is new."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        if routing.keep(len(routing.all())) or self._cannot:
            await self._write(routing.shelf)

    async def _write(self, shelf: Shelf) -> None:
        items = shelf.items()
        try:
            await asyncio.to_thread(lambda: _write_whole(self._path, write_shelf(items)))
        except OSError as error:
            why = error.strerror or str(error)
            if why != self._cannot:  # said once, not every minute
                log.warning("what was learned of GPUs cannot be kept", file=self._path.name, why=why)
            self._cannot = why
            return
        self._cannot = ""


def _write_whole(path: Path, data: bytes) -> None:
    """Whole or not at all. Raises OSError."""
    partial = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(partial, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
