"""Data of workflow runs by content: inputs and outputs of steps, each in a file named by its SHA-256.

    directory/ab/abcdef...    written once, never changed

Rules:
1. A file appears under its name only complete and on disk: temporary name, fsync, rename, fsync of the directory.
2. What is read is compared with its name; what does not match is StoreFailed, never returned.
3. ``collect`` leaves alone what was put, or put again, within ``grace_s``: whoever puts a blob names it in a record
   only afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from edgeagent.model.errors import Internal, NotFound, StorageFull, StoreFailed

__all__ = ["Blobs"]

_TEMP = ".tmp-"
_DIGEST = re.compile(r"[0-9a-f]{64}")
GRACE_S = 600.0


class Blobs:
    """``directory`` is made if missing; ``bytes_max`` bounds all blobs together. Used from one event loop."""

    def __init__(self, directory: Path, bytes_max: int, *, grace_s: float = GRACE_S) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._grace_s = grace_s
        # Held while it is decided what the directory is to hold; the writing itself needs no lock.
        self._lock = threading.Lock()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
            _sync_directory(directory.parent)
            self._used_bytes = sum(path.stat().st_size for path in self._files())
        except OSError as error:
            raise _typed(error, directory) from None

    def usage_bytes(self) -> int:
        return self._used_bytes

    async def put(self, data: bytes | memoryview) -> str:
        """Store it; returns its SHA-256 when it is on disk. Raises StorageFull, with nothing left behind."""
        return await asyncio.to_thread(self._put, data)

    async def get(self, sha256: str) -> bytes:
        """Raises NotFound, and StoreFailed where the file is not what its name says."""
        return await asyncio.to_thread(self._get, sha256)

    async def has(self, sha256: str) -> bool:
        """Whether there is one of this name; ``get`` alone checks it."""
        return await asyncio.to_thread(self._path(sha256).is_file)

    async def collect(self, keep: set[str]) -> int:
        """Remove what is neither in ``keep`` nor recent, and leftovers of a crash; how many. Raises StoreFailed."""
        return await asyncio.to_thread(self._collect, keep)

    def _path(self, sha256: str) -> Path:
        if not _DIGEST.fullmatch(sha256):
            raise Internal("a blob is named by 64 hexadecimal digits")
        return self._directory / sha256[:2] / sha256

    def _put(self, data: bytes | memoryview) -> str:
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        try:
            if self._touched(path, digest):
                return digest
            self._claim(len(data))
            self._write(path, data)
        except OSError as error:
            raise _typed(error, path) from None
        return digest

    def _touched(self, path: Path, digest: str) -> bool:
        """Whether it is there and sound; it counts as recent from now on. One that is damaged is removed."""
        try:
            with self._lock:
                os.utime(path)
            is_sound = _digest_of(path) == digest
        except FileNotFoundError:
            return False
        if is_sound:
            _sync_directory(path.parent)  # whoever renamed it may not have come so far yet
            return True
        with self._lock:
            self._remove(path)
        return False

    def _claim(self, size_bytes: int) -> None:
        with self._lock:
            if self._used_bytes + size_bytes > self._bytes_max:
                raise StorageFull(
                    f"data of runs holds {self._used_bytes} of {self._bytes_max} bytes; {size_bytes} more do not fit",
                    hint="wait for runs to end",
                )
            self._used_bytes += size_bytes

    def _give_back(self, size_bytes: int) -> None:
        with self._lock:
            self._used_bytes -= size_bytes

    def _write(self, path: Path, data: bytes | memoryview) -> None:
        """What was claimed for it is given back unless the file appears."""
        temp = path.parent / f"{_TEMP}{uuid.uuid4().hex}"
        try:
            if not path.parent.exists():
                path.parent.mkdir(mode=0o700, exist_ok=True)
                _sync_directory(self._directory)
            with os.fdopen(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with self._lock:
                if path.exists():  # put twice at once: it is counted once
                    self._used_bytes -= len(data)
                temp.rename(path)
        except BaseException:
            self._give_back(len(data))
            with contextlib.suppress(OSError):
                temp.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)

    def _get(self, sha256: str) -> bytes:
        path = self._path(sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise NotFound(f"data {sha256} of a run is not here") from None
        except OSError as error:
            raise _typed(error, path) from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreFailed(f"data {sha256} of a run is damaged on disk", hint="check the disk")
        return data

    def _collect(self, keep: set[str]) -> int:
        removed = 0
        try:
            for path in [*self._files(), *self._directory.glob(f"*/{_TEMP}*")]:
                with self._lock:
                    if path.name not in keep and self._is_old(path):
                        self._remove(path)
                        removed += 1
        except OSError as error:
            raise _typed(error, self._directory) from None
        return removed

    def _is_old(self, path: Path) -> bool:
        try:
            return time.time() - path.stat().st_mtime >= self._grace_s
        except FileNotFoundError:
            return False

    def _remove(self, path: Path) -> None:
        """With the lock held."""
        try:
            size_bytes = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return
        if not path.name.startswith(_TEMP):
            self._used_bytes -= size_bytes

    def _files(self) -> Iterator[Path]:
        return (path for path in self._directory.glob("*/*") if _DIGEST.fullmatch(path.name))


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _typed(error: OSError, path: Path) -> StorageFull | StoreFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"no space left for {path}", hint="free disk space and try again")
    return StoreFailed(f"cannot use {path}: {error.strerror}", hint="check the disk")
