"""How late an event loop is: stamps come in through a pipe, figures go out as a file.

The lag of a loop is the time from when an event is ready until the loop handles it. The benchmark writes the
current monotonic time (8 bytes, nanoseconds) into a FIFO every few milliseconds; the loop reads it like any
socket and notes how late it is. That needs no timer of the loop itself, whose resolution (1 ms in uvloop)
would hide what is measured. A time of 0 ends a round: its figures are published, and counting starts anew.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import msgspec

from edgeagent.bench.stats import quantile

__all__ = ["STAMP", "LagFigures", "Probe"]

STAMP = struct.Struct("=q")
_READ_BYTES = 64 << 10


class LagFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One round of the probe; lags in milliseconds, ``n`` stamps."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    n: int


class Probe:
    """Collects the lags of the stamps that arrive at ``fd``."""

    def __init__(self, fd: int, results: Path) -> None:
        self._fd = fd
        self._results = results
        self._lags_ms: list[float] = []

    def on_readable(self) -> None:
        now = time.monotonic_ns()
        # Stamps are written whole: a write of 8 bytes to a FIFO is atomic.
        for (stamp,) in STAMP.iter_unpack(os.read(self._fd, _READ_BYTES)):
            if stamp:
                self._lags_ms.append((now - stamp) / 1e6)
            else:
                self._publish()

    def _publish(self) -> None:
        lags, self._lags_ms = self._lags_ms, []
        if not lags:
            return
        figures = LagFigures(
            p50_ms=quantile(lags, 0.5), p99_ms=quantile(lags, 0.99), max_ms=max(lags), n=len(lags)
        )
        beside = self._results.with_suffix(".tmp")
        beside.write_bytes(msgspec.json.encode(figures))
        beside.replace(self._results)
