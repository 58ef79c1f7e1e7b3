"""Chunks on the disk: segment files to which records are appended.

    directory/00000001.seg    preallocated; records begin at multiples of ALIGN_BYTES

A record is a header (magic, version, length, SHA-256, CRC-32 of the header; big-endian) and the chunk. Which records
count is said by the index of :mod:`edgeagent.state.keystore_rows`, not by the files.

1. ``append`` returns when the records are on the disk (fdatasync, which callers at the same time share). Its places are
   pinned: their file stays until ``unpin``, which the caller says when its index names them, or never will.
2. What lies behind the last record that the index names was never acknowledged and is written over after a restart.
   Records share no page, so that writing one can tear no other.
3. When an fsync fails, nobody knows what the disk holds: nothing is appended from then on (SyncLost).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from edgeagent.model.errors import EdgeError, StoreFailed
from edgeagent.state.database import READ_ONLY_HINT, DiskFull, ReadOnly, SyncLost

__all__ = [
    "SEGMENT_BYTES",
    "Found",
    "Place",
    "Segments",
    "record_bytes",
    "scan",
    "sync_directory",
    "typed_os",
]

SEGMENT_BYTES = 64 << 20
ALIGN_BYTES = 4096
VERSION = 1
_MAGIC = b"EDSG"
_BODY = struct.Struct(">4sHHI32s")  # magic, version, nothing, length, SHA-256
_CRC = struct.Struct(">I")
HEADER_BYTES = _BODY.size + _CRC.size
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Place(NamedTuple):
    """Where a chunk of ``size_bytes`` lies: its record begins at ``offset``."""

    segment: int
    offset: int
    size_bytes: int


class Found(NamedTuple):
    """A record that a scan has found; ``is_intact``: the chunk is what its name says."""

    place: Place
    sha256: bytes
    is_intact: bool


def record_bytes(size_bytes: int) -> int:
    """What a chunk takes in a file."""
    return -(-(HEADER_BYTES + size_bytes) // ALIGN_BYTES) * ALIGN_BYTES


class _Segment:
    """An open file; the descriptor lives as long as somebody reads from it, also when the file is gone."""

    def __init__(self, path: Path, fd: int, size_bytes: int, tail: int) -> None:
        self.path = path
        self.fd = fd
        self.size_bytes = size_bytes
        self.tail = tail
        self.pins = 0
        self._counting = threading.Lock()
        self._syncing = threading.Lock()
        self._written = 0
        self._synced = 0

    def __del__(self) -> None:
        os.close(self.fd)

    def write(self, place: Place, sha256: bytes, chunk: bytes | memoryview) -> None:
        body = _BODY.pack(_MAGIC, VERSION, 0, len(chunk), sha256)
        parts = [body + _CRC.pack(zlib.crc32(body)), chunk]
        if os.pwritev(self.fd, parts, place.offset) != HEADER_BYTES + len(chunk):
            raise OSError(errno.ENOSPC, "a chunk was written in part")

    def sync(self) -> None:
        """What was written before the call is on the disk."""
        with self._counting:
            self._written += 1
            mine = self._written
        with self._syncing:
            if self._synced >= mine:
                return
            with self._counting:
                upto = self._written
            os.fdatasync(self.fd)
            self._synced = upto


class Segments:
    """Used from threads; see the module."""

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._files: dict[int, _Segment] = {}
        self._active = 0
        self._highest = 0
        self._lock = threading.Lock()
        self._lost: EdgeError | None = None

    @property
    def failed(self) -> EdgeError | None:
        """Why nothing can be appended, None while it can."""
        return self._lost

    def open(self, tails: Mapping[int, int]) -> None:
        """``tails``: where the last record of each segment ends, by the index. Raises StoreFailed, StorageFull."""
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            sync_directory(self._directory.parent)
            for path in self._directory.glob("*.seg"):
                if path.stem.isdecimal():
                    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                    size_bytes = os.fstat(fd).st_size
                    number = int(path.stem)
                    self._files[number] = _Segment(path, fd, size_bytes, tails.get(number, 0))
        except OSError as error:
            self.close()
            raise typed_os(error, self._directory) from None
        self._highest = max((*self._files, *tails), default=0)
        # Where the last one is gone, the next append makes one.
        self._active = self._highest if self._highest in self._files else 0

    def close(self) -> None:
        self._files.clear()
        self._active = 0

    def append(self, pieces: Sequence[tuple[bytes, bytes | memoryview]]) -> list[Place]:
        """Digest and chunk of each; their places, pinned. Raises StorageFull, StoreFailed and SyncLost."""
        taken: list[tuple[_Segment, Place]] = []
        try:
            for _, chunk in pieces:
                taken.append(self._take(len(chunk)))
            for (file, place), (sha256, chunk) in zip(taken, pieces, strict=True):
                file.write(place, sha256, chunk)
            for file in {id(file): file for file, _ in taken}.values():
                self._sync(file)
        except BaseException as error:
            self.unpin([place for _, place in taken])
            if isinstance(error, OSError):
                raise typed_os(error, self._directory) from None
            raise
        return [place for _, place in taken]

    def unpin(self, places: Sequence[Place]) -> None:
        with self._lock:
            for place in places:
                if place.segment in self._files:
                    self._files[place.segment].pins -= 1

    def read(self, place: Place, sha256: bytes) -> bytes | None:
        """The chunk; None where it is not what its name says, or cannot be read."""
        file = self._files.get(place.segment)
        if file is None:
            return None
        try:
            chunk = os.pread(file.fd, place.size_bytes, place.offset + HEADER_BYTES)
        except OSError:
            return None
        return chunk if hashlib.sha256(chunk).digest() == sha256 else None

    def sealed(self) -> dict[int, int]:
        """The segments that get no more records and that nobody has pinned, with their bytes."""
        with self._lock:
            return {
                number: file.size_bytes
                for number, file in self._files.items()
                if number != self._active and not file.pins
            }

    def remove(self, number: int) -> None:
        """A sealed segment that no chunk of the index lies in. Raises StoreFailed."""
        with self._lock:
            file = self._files.pop(number)
        try:
            file.path.unlink(missing_ok=True)
            sync_directory(self._directory)
        except OSError as error:
            raise typed_os(error, file.path) from None

    def _take(self, size_bytes: int) -> tuple[_Segment, Place]:
        needed = record_bytes(size_bytes)
        with self._lock:
            if self._lost is not None:
                raise SyncLost(self._lost.message, hint=self._lost.hint)
            file = self._files.get(self._active)
            if file is None or file.tail + needed > file.size_bytes:
                file = self._make(needed)
            place = Place(self._active, file.tail, size_bytes)
            file.tail += needed
            file.pins += 1
            return file, place

    def _make(self, needed: int) -> _Segment:
        number = self._highest + 1
        path = self._directory / f"{number:08d}.seg"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            size_bytes = _allocated(fd, max(self._segment_bytes, needed), needed)
            os.fsync(fd)
            sync_directory(self._directory)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self._highest = self._active = number
        file = self._files[number] = _Segment(path, fd, size_bytes, 0)
        return file

    def _sync(self, file: _Segment) -> None:
        try:
            file.sync()
        except OSError as error:
            self._lost = SyncLost(
                f"the disk did not confirm a write to {file.path} ({error.strerror})",
                hint="check the disk, then restart the node",
            )
            raise self._lost from None


def _allocated(fd: int, wanted: int, least: int) -> int:
    """Take disk space for a file: ``wanted`` bytes, or less where the disk has not so many."""
    while True:
        try:
            os.posix_fallocate(fd, 0, wanted)
        except OSError as error:
            if error.errno not in _FULL or wanted <= least:
                raise
            os.ftruncate(fd, 0)
            wanted = max(least, wanted // 2 // ALIGN_BYTES * ALIGN_BYTES)
        else:
            return wanted


def scan(path: Path) -> Iterator[Found]:
    """All records of a file, damaged ones too, wherever their headers can be made out. Raises OSError."""
    number = int(path.stem)
    with path.open("rb", buffering=0) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        at = 0
        while at < size_bytes:
            found = _record_at(file.fileno(), number, at)
            if found is not None:
                yield found
            at += record_bytes(found.place.size_bytes) if found and found.is_intact else ALIGN_BYTES


def _record_at(fd: int, number: int, at: int) -> Found | None:
    try:
        head = os.pread(fd, HEADER_BYTES, at)
        if len(head) < HEADER_BYTES or _CRC.unpack_from(head, _BODY.size)[0] != zlib.crc32(
            head[: _BODY.size]
        ):
            return None
        magic, version, _, length, sha256 = _BODY.unpack_from(head)
        if magic != _MAGIC or version != VERSION:
            return None
        place = Place(number, at, length)
        is_intact = hashlib.sha256(os.pread(fd, length, at + HEADER_BYTES)).digest() == sha256
        return Found(place, sha256, is_intact)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None  # a sector that cannot be read


def sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def typed_os(error: OSError, path: Path) -> EdgeError:
    """The typed error of the system's."""
    if error.errno in _FULL:
        return DiskFull(f"no space left for {path}", hint="free disk space; nothing was written")
    if error.errno == errno.EROFS:
        return ReadOnly(f"the file system of {path} is read-only", hint=READ_ONLY_HINT)
    return StoreFailed(f"cannot use {path}: {error.strerror}", hint="check the disk, its owner and its mode")
