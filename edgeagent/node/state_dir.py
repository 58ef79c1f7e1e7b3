"""The directory of what must survive: private, locked against a second daemon, with the node's id in it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import uuid
from pathlib import Path

from edgeagent.model.errors import Conflict, StorageFull, StoreFailed

__all__ = ["StateDir"]

_ID = re.compile(r"[0-9a-f]{32}")


class StateDir:
    """Holds the lock from ``open`` to ``close``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_fd = -1

    def open(self) -> str:
        """Make and lock the directory; the node's id, made at the first start.

        Raises Conflict when another daemon has it, StoreFailed and StorageFull when it cannot be used.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_private()
            self._lock()
            try:
                return self._node_id()
            except BaseException:
                self.close()
                raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(f"no space left for the state directory {self.path}") from None
            raise StoreFailed(
                f"the state directory {self.path} cannot be used: {error.strerror}",
                hint="name another one with node.state_dir (EDGEAGENT_NODE_STATE_DIR)",
            ) from None

    def close(self) -> None:
        """Let go of the lock; idempotent."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _make_private(self) -> None:
        """What lies in it is for the node's user only, also where somebody made the directory beforehand."""
        found = self.path.stat()
        if found.st_uid != os.geteuid():
            raise StoreFailed(
                f"the state directory {self.path} belongs to user {found.st_uid}, not to us",
                hint="name another one with node.state_dir (EDGEAGENT_NODE_STATE_DIR)",
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            self.path.chmod(0o700)

    def _lock(self) -> None:
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise Conflict(
                f"another edgeagent (process {holder}) uses the state directory {self.path}",
                hint="stop it, or give this one its own node.state_dir",
            ) from None
        self._lock_fd = fd
        with contextlib.suppress(OSError):  # a full disk: the number is only what a second daemon says of us
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)

    def _node_id(self) -> str:
        path = self.path / "node-id"
        try:
            text = path.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            text = uuid.uuid4().hex
            _write_durably(path, text + "\n")
            return text
        if not _ID.fullmatch(text):
            raise StoreFailed(
                f"{path} does not hold a node id", hint=f"restore it, or delete it to get a new id: rm {path}"
            )
        return text


def _write_durably(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode("ascii"))
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
