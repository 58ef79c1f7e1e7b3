"""Operands that lie in memory which their guest got by a hose: the broker gets a descriptor, and nothing is copied.

The node sends a read-only descriptor of the memfd with the call. The broker maps it, read-only, and keeps the mapping
for the next call whose bytes lie there: pools of hoses are used again and again, and to pin memory for a device takes
longer than to copy it once. What is not used for a while goes, so that memory which the node gave up is free again.

A descriptor is refused that could shrink or grow under the mapping (SIGBUS), or that this process could write by:
either it was opened for reading only, or the file is sealed against writing.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from edgeagent.accel.errors import OperandRefused

__all__ = ["MAPPED_BYTES_MAX", "MAPPED_MAX", "Mappings"]

MAPPED_BYTES_MAX = 1 << 30
MAPPED_MAX = 32
_SIZE_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class _Mapping(NamedTuple):
    memory: memoryview
    pinned: Any  # what the backend made of it
    number: int  # of the round in which it was last used


class Mappings:
    """By inode, which lives for as long as its mapping; on the broker's thread.

    ``pin`` may make a mapping faster for the device, and returns what it made (None: nothing); ``unpin`` ends that.
    """

    def __init__(
        self,
        pin: Callable[[memoryview], Any],
        unpin: Callable[[Any], None],
        bytes_max: int = MAPPED_BYTES_MAX,
        count_max: int = MAPPED_MAX,
    ) -> None:
        self._pin, self._unpin = pin, unpin
        self._bytes_max, self._count_max = bytes_max, count_max
        self._known: OrderedDict[tuple[int, int], _Mapping] = OrderedDict()
        self._bytes, self._round = 0, 0

    def __len__(self) -> int:
        return len(self._known)

    @property
    def mapped_bytes(self) -> int:
        return self._bytes

    def of(self, fds: Sequence[int], ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """(offset, bytes) of each file. The descriptors stay the caller's. Raises OperandRefused."""
        if len(fds) != len(ranges):
            raise OperandRefused(f"{len(fds)} descriptors came for {len(ranges)} operands")
        return [self._range(fd, offset, count) for fd, (offset, count) in zip(fds, ranges, strict=True)]

    def fade(self) -> None:
        """Now and then: what was not used since the last time goes."""
        for key in [key for key, one in self._known.items() if one.number < self._round]:
            self._drop(key)
        self._round += 1

    def _range(self, fd: int, offset: int, count: int) -> memoryview:
        try:
            found = os.fstat(fd)
            if not 0 <= offset <= offset + count <= found.st_size:
                raise OperandRefused("a descriptor of an operand is shorter than the call says")
            key = found.st_dev, found.st_ino
            known = self._known.get(key)
            if known is None:
                known = self._map(fd, key, found)
        except OSError as error:
            raise OperandRefused(f"a descriptor of an operand cannot be mapped: {error.strerror}") from None
        self._known[key] = known._replace(number=self._round)
        self._known.move_to_end(key)
        return known.memory[offset : offset + count]

    def _map(self, fd: int, key: tuple[int, int], found: os.stat_result) -> _Mapping:
        _check(fd)
        size = found.st_size
        if size > self._bytes_max:
            raise OperandRefused(f"a file of {size} bytes is too large to be mapped for its operand")
        while self._known and (self._bytes + size > self._bytes_max or len(self._known) >= self._count_max):
            self._drop(next(iter(self._known)))
        memory = memoryview(mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ))
        # Pinning would give pages to a file that has none there: others' files may be of any size.
        is_whole = found.st_blocks * 512 >= size
        self._bytes += size
        return _Mapping(memory, self._pin(memory) if is_whole else None, self._round)

    def _drop(self, key: tuple[int, int]) -> None:
        one = self._known.pop(key)
        self._bytes -= len(one.memory)
        if one.pinned is not None:
            self._unpin(one.pinned)


def _check(fd: int) -> None:
    """Raises OperandRefused, and OSError for what is no memfd."""
    seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    if seals & _SIZE_SEALS != _SIZE_SEALS:
        raise OperandRefused("a descriptor of an operand is not sealed against another size")
    reads_only = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    if not reads_only and not seals & fcntl.F_SEAL_WRITE:
        raise OperandRefused("a descriptor of an operand can be written by")
