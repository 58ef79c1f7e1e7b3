"""What the machine is and how it does: read from /proc, absent values are None, never zero."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import time
from pathlib import Path
from typing import Any

__all__ = [
    "CpuMeter",
    "clock_state",
    "jit_allowed",
    "load_average",
    "memory_bytes",
    "raise_fd_limit",
    "rss_bytes",
]

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# 2024-01-01 UTC: a clock before it was not set since a boot in 1970.
_CLOCK_SET_S = 1_704_067_200


def raise_fd_limit() -> tuple[int, int]:
    """Raise the soft limit of open files to the hard one; (soft before, soft now)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            # A hard limit above fs.nr_open; what we have stays.
            return soft, soft
    return soft, hard


def jit_allowed() -> bool:
    """Whether this process may execute memory that it has written (not under MemoryDenyWriteExecute)."""
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        libc = ctypes.CDLL(None, use_errno=True)
        done = libc.mprotect(
            ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_EXEC
        )
        if done == 0:
            libc.mprotect(
                ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_WRITE
            )
        return bool(done == 0)
    finally:
        page.close()


def clock_state(now_s: float | None = None) -> str:
    """``ok``, or ``unsynchronised`` while the clock says a year before 2024."""
    return "ok" if (time.time() if now_s is None else now_s) >= _CLOCK_SET_S else "unsynchronised"


def rss_bytes(statm: Path = Path("/proc/self/statm")) -> int | None:
    """Resident memory of this process."""
    try:
        return int(statm.read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return None


def memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> dict[str, int | None]:
    """Total and available memory of the machine."""
    found: dict[str, int | None] = {"total_bytes": None, "available_bytes": None}
    names = {"MemTotal:": "total_bytes", "MemAvailable:": "available_bytes"}
    try:
        for line in meminfo.read_text(encoding="ascii").splitlines():
            words = line.split()
            if words and words[0] in names:
                found[names[words[0]]] = int(words[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return found


def load_average() -> list[float] | None:
    """Of 1, 5 and 15 minutes."""
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except OSError:
        return None


class CpuMeter:
    """Busy share of all CPUs between two looks."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._last = self._read()
        self.share: float | None = None

    def look(self) -> float | None:
        """0.0 to 1.0 since the look before; None where the system does not say."""
        now = self._read()
        if now is not None and self._last is not None:
            total, idle = now[0] - self._last[0], now[1] - self._last[1]
            if total > 0:
                self.share = round(min(1.0, max(0.0, 1 - idle / total)), 3)
        self._last = now
        return self.share

    def _read(self) -> tuple[int, int] | None:
        try:
            fields: list[Any] = self._stat.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
            ticks = [int(field) for field in fields]
            return sum(ticks), ticks[3] + ticks[4]
        except (OSError, ValueError, IndexError):
            return None
