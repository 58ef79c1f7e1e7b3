"""Our daemon, which notes when guests begin and end: ``python -m edgeagent.bench.hose_daemon STAMPS run ...``.

STAMPS is a file of 16 bytes: entry and return of the last guest in ns of the monotonic clock, which all processes
share, written before the reply is sent. Nothing else is changed; only workers take such times, so run it without
``runtime.inline``.
"""

from __future__ import annotations

import asyncio
import mmap
import runpy
import struct
import sys
from pathlib import Path
from typing import Any

from edgeagent.runtime.native_engine import NativeEngine

__all__ = ["STAMPS", "Stamped", "main"]

STAMPS = struct.Struct("=qq")


class Stamped:
    """A loaded function whose runs leave their times in ``memory``."""

    def __init__(self, function: Any, memory: mmap.mmap) -> None:
        self._memory = memory
        self._start = function.start
        self.call = function.call
        self.close = function.close

    def start(self, *args: Any) -> Any:
        started = self._start(*args)
        if isinstance(started, asyncio.Future):
            started.add_done_callback(self._ended)  # ahead of whoever awaits it
        return started

    def _ended(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and future.exception() is None:
            STAMPS.pack_into(self._memory, 0, *future.result().times_ns)


def main(stamps: str, *args: str) -> None:
    """Be ``edgeagent ARGS`` otherwise."""
    with Path(stamps).open("r+b") as file:
        memory = mmap.mmap(file.fileno(), STAMPS.size)
    load = NativeEngine.load

    def stamped(engine: NativeEngine, *given: Any) -> Any:
        return Stamped(load(engine, *given), memory)

    NativeEngine.load = stamped  # type: ignore[method-assign, assignment]
    sys.argv = ["edgeagent", *args]
    runpy.run_module("edgeagent", run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
