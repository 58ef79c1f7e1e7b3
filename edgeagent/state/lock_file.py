"""A directory that one process at a time may use."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from edgeagent.model.errors import Conflict
from edgeagent.state.segments import typed_os

__all__ = ["LockFile"]


class LockFile:
    """Held from ``take`` to ``release``; the process's end lets go of it too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def take(self) -> None:
        """Make the directory where it is not there. Raises Conflict, StoreFailed and StorageFull."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                raise Conflict(
                    f"another process uses the state in {self.path.parent}", hint="stop it first"
                ) from None
        except OSError as error:
            raise typed_os(error, self.path) from None
        self._fd = fd

    def release(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
