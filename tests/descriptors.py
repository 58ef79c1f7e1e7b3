"""The descriptors of this process, one by one, so that a test can tell which of them it has left open.

Their number would not do: engines of earlier tests close theirs whenever they like (hoses that were idle for long
enough, whatever waits for the garbage collector).
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Open", "left_open", "open_descriptors"]

# Number, device and inode: a number that is used again for another file is another descriptor.
Open = frozenset[tuple[int, int, int]]


def open_descriptors() -> Open:
    """Every descriptor that is open now."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            file = os.fstat(int(entry.name))
        except OSError:  # the listing's own, or closed since by another thread
            continue
        found.add((int(entry.name), file.st_dev, file.st_ino))
    return frozenset(found)


def left_open(before: Open) -> list[str]:
    """What is open now and was not before, by name; the rest of ``before`` may have been closed."""
    return [f"{number} {_target(number)}" for number, _, _ in sorted(open_descriptors() - before)]


def _target(number: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{number}").readlink())
    except OSError:
        return "closed a moment later"
