"""What the process keeps of the memory that it has freed: enough for the next large body, and nothing while it idles.

glibc gives freed memory back at once where it lies at the end of the heap or is of a large block, and each page that is
asked for again costs a fault: bodies of some MiB spend more time in these than in being copied. Here up to KEPT_BYTES
stay while there is work; once the process idles, all that is free goes back.
"""

from __future__ import annotations

import asyncio
import ctypes
import time
from collections.abc import Callable
from typing import Any

__all__ = ["HeapKeeper"]

KEPT_BYTES = 64 << 20
_BLOCK_BYTES_MAX = 32 << 20  # larger ones are mapped and unmapped; glibc takes no higher bound
_LOOK_S = 1.0
_IDLE_SHARE = 0.05  # of one core
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


class HeapKeeper:
    """``libc`` without these functions (musl): nothing happens. ``cpu_s``: what the process has used so far."""

    def __init__(self, libc: Any = None, *, cpu_s: Callable[[], float] = time.process_time) -> None:
        libc = ctypes.CDLL(None) if libc is None else libc
        self._set = getattr(libc, "mallopt", None)
        self._give_back = getattr(libc, "malloc_trim", None)
        self._cpu_s = cpu_s
        self._used_s = 0.0
        self._may_be_free = False

    def begin(self) -> None:
        """Keep what is freed from now on."""
        if self._set is not None and self._give_back is not None:
            self._set(_M_TRIM_THRESHOLD, KEPT_BYTES)
            self._set(_M_MMAP_THRESHOLD, _BLOCK_BYTES_MAX)
        self._used_s = self._cpu_s()
        self._may_be_free = True

    def look(self, period_s: float) -> bool:
        """After each period; whether the memory is to be given back now: the process idles, and has worked before."""
        used_s = self._cpu_s()
        worked = used_s - self._used_s > _IDLE_SHARE * period_s
        self._used_s = used_s
        is_time = self._may_be_free and not worked
        self._may_be_free = worked
        return is_time and self._give_back is not None

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self.look(_LOOK_S):
                await asyncio.to_thread(self._give_back, 0)  # type: ignore[arg-type]
