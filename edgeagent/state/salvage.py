"""Rows out of a SQLite file that SQLite itself refuses: whatever leaf pages of tables still hold.

Pages are looked at one by one, so that damage costs what lies in it and no more; of the write-ahead log, what its
checksums vouch for up to the last commit replaces pages, as SQLite would have it, and what lies behind a damaged part
too. Nothing is written.

Source: sqlite.org/fileformat2.html (sections 1.5, 1.6, 2.1 and 4).
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["log_is_damaged", "salvaged_rows"]

_LEAF = 0x0D  # of a table
_WAL_MAGIC = (0x377F0682, 0x377F0683)
_PAGE_BYTES = 4096  # what we make; taken where the header is not readable
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


class _File:
    """A file, or none; what cannot be read of it is missing, not an error."""

    def __init__(self, path: Path) -> None:
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._fd = -1
        self.size_bytes = os.fstat(self._fd).st_size if self._fd >= 0 else 0

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)

    def read(self, at: int, size: int) -> bytes:
        """b"" for what is not there whole."""
        try:
            got = os.pread(self._fd, size, at) if self._fd >= 0 else b""
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return b""
        return got if len(got) == size else b""


class _Log:
    """``frames``: where the write-ahead log has pages, by their numbers; ``count``: pages of the file then; both up to
    the last commit. ``is_damaged``: see :func:`log_is_damaged`.
    """

    __slots__ = ("count", "frames", "is_damaged")

    def __init__(self) -> None:
        self.frames: dict[int, int] = {}
        self.count = 0
        self.is_damaged = False

    def copy(self) -> _Log:
        """As it is now."""
        made = _Log()
        made.frames, made.count = dict(self.frames), self.count
        return made


class _Pages:
    """The pages as the last commit left them, as far as they can be had. The first has number 1."""

    def __init__(self, path: Path) -> None:
        self._data = _File(path)
        self._wal = _File(path.with_name(f"{path.name}-wal"))
        self.page_bytes = self._page_bytes()
        self.log = _read_log(self._wal, self.page_bytes)
        self.count = self.log.count or self._data.size_bytes // self.page_bytes

    def page(self, number: int) -> bytes:
        """b"" where there is none."""
        if not 0 < number <= self.count:
            return b""
        if number in self.log.frames:
            return self._wal.read(self.log.frames[number], self.page_bytes)
        return self._data.read((number - 1) * self.page_bytes, self.page_bytes)

    def free(self) -> set[int]:
        """Pages that hold nothing any more, as far as the list of them can be followed."""
        first = self.page(1)
        free: set[int] = set()
        trunk = struct.unpack_from(">I", first, 32)[0] if len(first) >= 36 else 0
        while trunk not in free and len(page := self.page(trunk)) >= 8:
            free.add(trunk)
            trunk, leaves = struct.unpack_from(">II", page)
            most = min(leaves, self.page_bytes // 4 - 2)
            free.update(struct.unpack_from(f">{most}I", page, 8))
        return free

    def _page_bytes(self) -> int:
        for data, at, size in ((self._wal, 8, 4), (self._data, 16, 2)):
            found = int.from_bytes(data.read(at, size), "big")
            found = 65536 if size == 2 and found == 1 else found
            if 512 <= found <= 65536 and found & (found - 1) == 0:
                return found
        return _PAGE_BYTES


def log_is_damaged(path: Path) -> bool:
    """Whether the write-ahead log of the database at ``path`` has lost something that was on the disk. Raises OSError.

    SQLite takes the first frame that is not what its checksum says for the end, as a crash leaves it, and forgets in
    silence what follows. But a transaction begins when the one before it is on the disk: where there are frames behind
    the end of one that is not whole, it was whole once.
    """
    return _Pages(path).log.is_damaged


def salvaged_rows(path: Path) -> Iterator[tuple[int, list[Any]]]:
    """Row id and columns of every row that can be made out, of any table, in no order. Raises OSError.

    Columns may be nonsense where the page was damaged: rows must be able to prove themselves. A row may come twice, and
    one that was deleted may come where the list of free pages is damaged.
    """
    pages = _Pages(path)
    free = pages.free()
    for number in range(1, pages.count + 1):
        if number not in free:
            yield from _rows_of(pages, number)


def _rows_of(pages: _Pages, number: int) -> Iterator[tuple[int, list[Any]]]:
    page = pages.page(number)
    head = 100 if number == 1 else 0
    if len(page) < head + 8 or page[head] != _LEAF:
        return
    cells = struct.unpack_from(">H", page, head + 3)[0]
    for at in range(head + 8, min(head + 8 + 2 * cells, len(page) - 1), 2):
        try:
            yield _cell(pages, page, struct.unpack_from(">H", page, at)[0])
        except (IndexError, ValueError, struct.error):
            continue  # a damaged cell takes no other with it


def _cell(pages: _Pages, page: bytes, at: int) -> tuple[int, list[Any]]:
    size, at = _varint(page, at)
    row_id, at = _varint(page, at)
    usable = pages.page_bytes
    if size > 1 << 30:
        raise ValueError("no row is so large")
    local = size
    if size > usable - 35:
        least = (usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (usable - 4)
        local = local if local <= usable - 35 else least
    if at + local > len(page):
        raise ValueError("the row goes beyond its page")
    payload = [page[at : at + local]]
    left = size - local
    follow = struct.unpack_from(">I", page, at + local)[0] if left else 0
    while left:
        more = pages.page(follow)
        if not more:
            # What lies before the gap may still be told: the value ends early and is not what its hash says.
            break
        follow = struct.unpack_from(">I", more)[0]
        payload.append(more[4 : 4 + min(left, usable - 4)])
        left -= len(payload[-1])
    return row_id, _columns(b"".join(payload))


def _columns(payload: bytes) -> list[Any]:
    head_bytes, at = _varint(payload, 0)
    types: list[int] = []
    while at < head_bytes:
        kind, at = _varint(payload, at)
        types.append(kind)
    at = head_bytes
    columns: list[Any] = []
    for kind in types:
        if kind in _INTEGERS:
            size = _INTEGERS[kind]
            columns.append(int.from_bytes(payload[at : at + size], "big", signed=True))
        elif kind in (8, 9):
            size = 0
            columns.append(kind - 8)
        elif kind >= 12:
            size = (kind - 12) // 2
            raw = payload[at : at + size]
            columns.append(raw if kind % 2 == 0 else raw.decode())
        elif kind == 7:
            size = 8
            columns.append(struct.unpack_from(">d", payload, at)[0])
        else:
            size = 0
            columns.append(None)
        at += size
    return columns


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for more in range(8):
        byte = data[at + more]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + more + 1
    return value << 8 | data[at + 8], at + 9


def _read_log(wal: _File, page_bytes: int) -> _Log:
    head = wal.read(0, 32)
    order, sums = _order_of(head), (0, 0)
    salt = head[16:24]
    is_sound = False
    if head:
        sums = _checksum(head[:24], order, sums)
        is_sound = sums == struct.unpack_from(">II", head, 24)
        salt = salt if is_sound else wal.read(40, 8)  # the first frame has it too
    log, end = _Log(), None if is_sound else _Log()
    pending: dict[int, int] = {}
    at, commits = 32, 0  # ... since the first frame that is none
    while frame := wal.read(at, 24 + page_bytes):
        number, size = struct.unpack_from(">II", frame)
        is_ours = frame[8:16] == salt  # else it is of a former log
        if is_ours and commits:
            log.is_damaged = True
        if is_ours:
            sums = _checksum(frame[24:], order, _checksum(frame[:8], order, sums))
        stated = struct.unpack_from(">II", frame, 16)
        if is_ours and sums == stated:
            pending[number] = at + 24
        elif end is None:
            end = log.copy()
        if is_ours and size:
            log.frames |= pending
            log.count = size
            pending = {}
            commits += end is not None
        sums = stated  # each frame says where the next one begins
        at += len(frame)
    return log if log.is_damaged or end is None else end


def _order_of(head: bytes) -> str:
    """The byte order of checksums; the common one where the header is damaged."""
    return ">" if head[:4] == struct.pack(">I", _WAL_MAGIC[1]) else "<"


def _checksum(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    one, two = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for at in range(0, len(words), 2):
        one = (one + words[at] + two) & 0xFFFFFFFF
        two = (two + words[at + 1] + one) & 0xFFFFFFFF
    return one, two
