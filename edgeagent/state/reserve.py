"""A little disk space kept back for the day when there is none left: even removing something is a write first.

The file holds nothing. On a full disk its space is given to one write that makes room (an undeploy, the start), and
taken again as far as there is any.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

__all__ = ["STEP_BYTES", "Reserve"]

# Less than this beside the reserve counts as full: a module, a result and the log of both hardly fit.
ROOM_BYTES = 256 << 10
# Small, so that little is lost when the reserve was used and others have taken some of it.
STEP_BYTES = 16 << 10


class Reserve:
    """Used from several threads; never raises for a disk that is full or broken."""

    def __init__(self, path: Path, size_bytes: int = 1 << 20) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self._lock = threading.Lock()

    def fill(self) -> bool:
        """Take what is missing, as far as there is room; whether all of it is held."""
        with self._lock:
            return self._fill()

    def release(self) -> None:
        """Give the space back to the disk."""
        with self._lock, contextlib.suppress(OSError):  # there is none
            os.truncate(self.path, 0)

    def has_room(self) -> bool:
        """Whether the reserve is whole and a little more could be written."""
        with self._lock:
            try:
                disk = os.statvfs(self.path.parent)
            except OSError:
                return False
            return disk.f_bavail * disk.f_frsize >= ROOM_BYTES and self._fill()

    def could_write(self) -> bool:
        """``has_room``, tried out: quotas do not show in what a file system says of itself."""
        return self.has_room() and self._tried(self.size_bytes + ROOM_BYTES)

    def is_read_only(self) -> bool:
        """Whether the file system takes no writes at all."""
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            return error.errno == errno.EROFS
        return False

    def _tried(self, size_bytes: int) -> bool:
        with self._lock:
            taken = _allocated(self.path, size_bytes)
            if taken:
                with contextlib.suppress(OSError):
                    os.truncate(self.path, self.size_bytes)
            return taken

    def _fill(self) -> bool:
        try:
            held = self.path.stat().st_size
        except OSError:
            held = 0  # not there yet
        size = self.size_bytes
        while size > held and not _allocated(self.path, size):
            size -= STEP_BYTES
        return max(size, held) >= self.size_bytes


def _allocated(path: Path, size_bytes: int) -> bool:
    """Whether the file has that many bytes of the disk now; it is as long as before when not."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        before = os.fstat(fd).st_size
        try:
            os.posix_fallocate(fd, 0, size_bytes)
        except OSError:
            os.ftruncate(fd, before)
            return False
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
