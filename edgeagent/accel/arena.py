"""Memory that a node and one broker share: a sealed memfd, mapped by both, and the slots in it.

Pages are the system's until they are touched, and again once the broker has gone and nobody needs a slot any more. A
slot keeps the mapping alive, so that whoever still copies when the broker has died copies into memory that nobody
reads, and harms nobody.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections import Counter

from edgeagent.accel.arena_slots import Slots
from edgeagent.accel.errors import GpuFull, GpuTooSmall

__all__ = ["Arena", "Slot"]

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Arena:
    """Of one broker process; on the event loop's thread, but for the bytes of slots."""

    def __init__(self, total_bytes: int) -> None:
        """Raises OSError."""
        self._slots = Slots(total_bytes)
        self._is_retired = False
        self._owners: dict[int, tuple[str, int]] = {}
        self._held: Counter[str] = Counter()
        self.fd = os.memfd_create("edge-gpu", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.fd, self._slots.total_bytes)
            fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
            self._map = mmap.mmap(self.fd, self._slots.total_bytes)
        except OSError:
            os.close(self.fd)
            raise
        self._memory = memoryview(self._map)

    @property
    def total_bytes(self) -> int:
        return self._slots.total_bytes

    @property
    def used_bytes(self) -> int:
        return self._slots.used_bytes

    def take(self, count: int, owner: str = "") -> Slot:
        """Of one owner all slots together take no more than half of the arena, so that there is room for others; a
        single one may. Raises GpuFull where there is no room now, GpuTooSmall where there never is.
        """
        if count > self.total_bytes:
            raise GpuTooSmall(
                f"{count} bytes of operands do not fit the arena of {self.total_bytes}",
                hint="accel.arena_bytes says how large it is",
            )
        held = self._held[owner] if owner else 0
        is_more = held > 0 and held + count > self.total_bytes // 2
        start = None if is_more else self._slots.take(count)
        if start is None:
            raise GpuFull(
                f"the arena has no {count} bytes in a row now", hint="accel.arena_bytes says how large it is"
            )
        self._owners[start] = owner, count
        self._held[owner] += count
        return Slot(self, start, self._memory[start : start + count])

    def give(self, start: int) -> None:
        """For slots."""
        self._slots.give(start)
        owner, count = self._owners.pop(start)
        self._held[owner] -= count
        if not self._held[owner]:
            del self._held[owner]
        self._free_pages()

    def retire(self) -> None:
        """Its broker has gone: what it holds is free as soon as nobody needs a slot, though something may still refer
        to it (a failed call, by its traceback).
        """
        self._is_retired = True
        self._free_pages()

    def _free_pages(self) -> None:
        if self._is_retired and not self._slots.used_bytes:
            try:
                self._map.madvise(mmap.MADV_REMOVE)
            except OSError:  # shared memory that takes no holes: it is free when the mapping goes, then
                return

    def close_fd(self) -> None:
        """The broker has it by now."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Slot:
    """Some bytes of an arena, for one call; given back once, by whoever is last to need it."""

    __slots__ = ("_arena", "_holders", "memory", "offset")

    def __init__(self, arena: Arena, offset: int, memory: memoryview) -> None:
        self._arena, self.offset, self.memory = arena, offset, memory
        self._holders = 1

    def hold(self) -> None:
        """One more needs it."""
        self._holders += 1

    def drop(self) -> None:
        """One less."""
        self._holders -= 1
        if not self._holders:
            self._arena.give(self.offset)
