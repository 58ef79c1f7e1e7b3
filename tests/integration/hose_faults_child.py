"""A process whose system runs out of something while functions hand each other data; prints what came of it as JSON.

``python hose_faults_child.py FAULT``: maps, memory, files, file-size, no-thp.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeagent.bench.hose_guests import expected_sum, request
from edgeagent.bench.hose_rig import Side, opened_rig
from edgeagent.hose.settings import TIERS

MIB = 1 << 20
SIZES = (4096, 300_032, 2 * MIB, 6 * MIB + 4096)
PR_SET_THP_DISABLE = 41


@contextlib.contextmanager
def maps() -> Iterator[None]:
    """No mapping is left (vm.max_map_count), but for a few."""
    most = int(Path("/proc/sys/vm/max_map_count").read_text())
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    size = 2 * most * mmap.PAGESIZE
    none, private = 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
    base = libc.mmap(None, ctypes.c_size_t(size), none, private, -1, 0)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    at = 0
    while libc.mprotect(base + at, mmap.PAGESIZE, mmap.PROT_READ) == 0 and at < size - 2 * mmap.PAGESIZE:
        at += 2 * mmap.PAGESIZE  # each page of its own protection is a mapping of its own
    yield
    libc.munmap(base, size)


@contextlib.contextmanager
def limited(which: int, value: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (value, hard))
    yield
    resource.setrlimit(which, (soft, hard))


def used_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE


@contextlib.contextmanager
def no_thp() -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0
    yield
    assert libc.prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0) == 0


def fault(name: str) -> Any:
    match name:
        case "maps":
            return maps()
        case "memory":
            return limited(resource.RLIMIT_AS, used_bytes() + 2 * MIB)
        case "files":
            return limited(resource.RLIMIT_NOFILE, 3)  # those that are open stay
        case "file-size":
            return limited(resource.RLIMIT_FSIZE, 4096)
        case _:
            return no_thp()


def tried(side: Side, count: int, *, lent: bool) -> str:
    """The tier that carried it; the typed error where it could not be."""
    made = side.produce.call(request(count, lent=lent), keep=True)
    if made.error is not None:
        return made.error.slug
    given = made.payload or made.output
    try:
        taken = side.consume.call(given)
    finally:
        if made.payload is not None:
            made.payload.close()
    if taken.error is not None:
        return taken.error.slug
    assert bytes(taken.output) == expected_sum(count), "other bytes arrived"
    return TIERS[taken.hose[0]]


def main() -> None:
    with opened_rig() as rig:
        side = rig.ours
        before = [tried(side, count, lent=lent) for count in SIZES for lent in (True, False)]
        side.engine.trim_hoses()  # type: ignore[attr-defined]
        with fault(sys.argv[1]):
            during = [tried(side, count, lent=lent) for count in SIZES for lent in (True, False)]
        side.empty()
        after = [tried(side, count, lent=lent) for count in SIZES for lent in (True, False)]
        sys.stdout.write(json.dumps({"before": before, "during": during, "after": after}))


main()
