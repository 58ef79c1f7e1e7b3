"""Uses up what a process may have, and gives it back: for processes that tests start."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import resource
from collections.abc import Iterator
from pathlib import Path

__all__ = ["limited", "no_mappings", "used_bytes"]

_FAILED = (1 << 64) - 1
_MAP_NORESERVE = 0x4000


@contextlib.contextmanager
def no_mappings() -> Iterator[None]:
    """No mapping is left (vm.max_map_count)."""
    most = int(Path("/proc/sys/vm/max_map_count").read_text())
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = 2 * most * mmap.PAGESIZE
    none, private = 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    base = libc.mmap(None, ctypes.c_size_t(size), none, private, -1, 0)
    at = 0
    while libc.mprotect(base + at, mmap.PAGESIZE, mmap.PROT_READ) == 0 and at < size - 2 * mmap.PAGESIZE:
        at += 2 * mmap.PAGESIZE  # each page of its own protection is a mapping of its own
    # The last one is only for mmap: splitting one needs two.
    last = libc.mmap(None, ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_EXEC, private, -1, 0)
    assert libc.mmap(None, ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_WRITE, private, -1, 0) == _FAILED
    yield
    libc.munmap(last, mmap.PAGESIZE)
    libc.munmap(base, size)


@contextlib.contextmanager
def limited(which: int, value: int) -> Iterator[None]:
    """A soft limit of ``resource``."""
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (value, hard))
    yield
    resource.setrlimit(which, (soft, hard))


def used_bytes() -> int:
    """Of address space."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
