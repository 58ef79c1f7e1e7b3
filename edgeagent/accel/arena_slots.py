"""Which parts of an arena are taken: first fit, neighbours joined when they are given back. Pure.

Slots begin at multiples of 4096 bytes, so that each could be registered with a driver by itself.
"""

from __future__ import annotations

from bisect import bisect_left

__all__ = ["SLOT_ALIGN_BYTES", "Slots"]

SLOT_ALIGN_BYTES = 4096


class Slots:
    """Of an arena of ``total_bytes``; what is free is kept by its start, and no two free parts touch."""

    __slots__ = ("_free", "_taken", "total_bytes", "used_bytes")

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes - total_bytes % SLOT_ALIGN_BYTES
        self.used_bytes = 0
        self._free: list[tuple[int, int]] = [(0, self.total_bytes)] if self.total_bytes else []
        self._taken: dict[int, int] = {}

    def take(self, count: int) -> int | None:
        """The start of ``count`` bytes (1 or more); None: there are not so many in a row."""
        wanted = -(-max(count, 1) // SLOT_ALIGN_BYTES) * SLOT_ALIGN_BYTES
        for place, (start, length) in enumerate(self._free):
            if length < wanted:
                continue
            if length == wanted:
                del self._free[place]
            else:
                self._free[place] = (start + wanted, length - wanted)
            self._taken[start] = wanted
            self.used_bytes += wanted
            return start
        return None

    def give(self, start: int) -> None:
        """Give back what ``take`` gave; once."""
        length = self._taken.pop(start)
        self.used_bytes -= length
        place = bisect_left(self._free, (start, 0))
        if place < len(self._free) and self._free[place][0] == start + length:
            length += self._free.pop(place)[1]
        if place and sum(self._free[place - 1]) == start:
            before, more = self._free[place - 1]
            self._free[place - 1] = (before, more + length)
        else:
            self._free.insert(place, (start, length))
