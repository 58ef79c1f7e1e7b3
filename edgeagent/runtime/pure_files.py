"""The descriptor table and scratch directory of one `command` invocation: the twin of native/wasi/files.cpp.

Every path is resolved by openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS), so that nothing leads out of the directory;
every byte and inode is charged to a quota.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import struct
import tempfile
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from edgeagent.runtime.pure_wasi import Host

__all__ = [
    "BADF",
    "INODE_BYTES",
    "INVAL",
    "ISDIR",
    "NAMETOOLONG",
    "NOENT",
    "PERM",
    "ROOT",
    "Files",
    "Opened",
    "WasiError",
    "checked_path",
    "from_host",
    "open_beneath",
    "split_parent",
]

ROOT = 3
DESCRIPTORS_MAX = 256
INODE_BYTES = 4096
PATH_MAX = 4096
_SYS_OPENAT2 = 437
_RESOLVE = 0x08 | 0x02  # RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS

_ERRNO = {
    errno.E2BIG: 1, errno.EACCES: 2, errno.EAGAIN: 6, errno.EBADF: 8, errno.EBUSY: 10, errno.EDQUOT: 19,
    errno.EEXIST: 20, errno.EFAULT: 21, errno.EFBIG: 22, errno.EINVAL: 28, errno.EISDIR: 31, errno.ELOOP: 32,
    errno.EMFILE: 33, errno.EMLINK: 34, errno.ENAMETOOLONG: 37, errno.ENFILE: 41, errno.ENOENT: 44,
    errno.ENOMEM: 48, errno.ENOSPC: 51, errno.ENOTDIR: 54, errno.ENOTEMPTY: 55, errno.EPERM: 63,
    errno.EXDEV: 63, errno.EROFS: 69, errno.ESPIPE: 70,
}  # fmt: skip
BADF, INVAL, IO, ISDIR, MFILE, NAMETOOLONG, NOENT, NOSPC = 8, 28, 29, 31, 33, 37, 44, 51
NOTDIR, PERM, SPIPE, NOTCAPABLE = 54, 63, 70, 76

_libc = ctypes.CDLL(None, use_errno=True)


class WasiError(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.errno = number


def from_host(error: OSError) -> WasiError:
    return WasiError(_ERRNO.get(error.errno or 0, IO))


class Opened(msgspec.Struct):
    """``listing`` is the snapshot taken when a directory is read from its start."""

    fd: int
    is_directory: bool
    flags: int = 0
    can_read: bool = True
    can_write: bool = False
    listing: list[tuple[bytes, int, int]] = []


def open_beneath(directory: int, path: bytes, flags: int) -> int:
    mode = 0o600 if flags & os.O_CREAT else 0
    how = struct.pack("<QQQ", flags | os.O_CLOEXEC, mode, _RESOLVE)
    fd = int(_libc.syscall(_SYS_OPENAT2, directory, path, how, len(how)))
    if fd < 0:
        number = ctypes.get_errno()
        raise WasiError(_ERRNO.get(number, IO))
    return fd


def checked_path(raw: bytes) -> bytes:
    if len(raw) >= PATH_MAX:
        raise WasiError(NAMETOOLONG)
    if not raw or b"\0" in raw:
        raise WasiError(INVAL if raw else NOENT)
    return raw


def split_parent(raw: bytes) -> tuple[bytes, bytes]:
    """(directory part, last component); a trailing slash stays with the component, for the kernel to judge."""
    path = checked_path(raw)
    stripped = path.rstrip(b"/") or b"/"
    parent, slash, base = stripped.rpartition(b"/")
    if base in (b"", b".", b".."):
        raise WasiError(PERM if base == b".." else INVAL)
    if path != stripped:
        base += b"/"
    return (parent or b"/") if slash else b"", base


class Files:
    def __init__(self) -> None:
        self._table: dict[int, Opened | None] = {0: None, 1: None, 2: None}  # None: a standard stream
        self.root = -1
        self._path = ""
        self._used = 0
        self._max = 0

    # -- scratch ----------------------------------------------------------------------------------------------------

    def open_scratch(self, parent: str, bytes_max: int) -> None:
        """Make the private directory; raises OSError when it cannot be had."""
        self._path = tempfile.mkdtemp(prefix="call-", dir=parent)
        self.root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._max = bytes_max
        self._table[ROOT] = Opened(self.root, True)

    def close_all(self) -> None:
        for opened in self._table.values():
            if opened is not None:
                with contextlib.suppress(OSError):
                    os.close(opened.fd)
        if self._path:
            shutil.rmtree(self._path, ignore_errors=True)

    def take(self, count: int) -> None:
        if count > self._max - self._used:
            raise WasiError(NOSPC)
        self._used += count

    def give(self, count: int) -> None:
        self._used = max(0, self._used - count)

    def grow(self, fd: int, end: int) -> None:
        """Charge the growth of a file to ``end`` bytes before it is written."""
        self.take(max(0, end - os.fstat(fd).st_size))

    def forget(self, inode: os.stat_result, *, is_directory: bool) -> None:
        """Give back what an unlinked inode held, unless it is still open or linked."""
        if is_directory or (inode.st_nlink <= 1 and not self._is_open(inode)):
            self.give((0 if is_directory else inode.st_size) + INODE_BYTES)

    def _is_open(self, inode: os.stat_result) -> bool:
        opened = [o for o in self._table.values() if o is not None and not o.is_directory]
        return any(os.fstat(o.fd).st_ino == inode.st_ino for o in opened)

    # -- descriptors ------------------------------------------------------------------------------------------------

    def is_stream(self, fd: int) -> bool:
        return fd in self._table and self._table[fd] is None

    def has(self, fd: int) -> bool:
        return fd in self._table

    def get(self, fd: int) -> Opened:
        opened = self._table.get(fd)
        if opened is None:
            raise WasiError(BADF)
        return opened

    def file(self, fd: int) -> Opened:
        if self.is_stream(fd):
            raise WasiError(SPIPE)
        opened = self.get(fd)
        if opened.is_directory:
            raise WasiError(ISDIR)
        return opened

    def directory(self, fd: int) -> Opened:
        if self.is_stream(fd):
            raise WasiError(NOTDIR if self.root >= 0 else NOTCAPABLE)
        opened = self.get(fd)
        if not opened.is_directory:
            raise WasiError(NOTDIR)
        return opened

    def add(self, opened: Opened) -> int:
        number = next(n for n in range(DESCRIPTORS_MAX + 1) if n not in self._table)
        if number == DESCRIPTORS_MAX:
            os.close(opened.fd)
            raise WasiError(MFILE)
        self._table[number] = opened
        return number

    def close(self, fd: int) -> None:
        if fd not in self._table:
            raise WasiError(BADF)
        opened = self._table.pop(fd)
        if opened is None or opened.fd == self.root:
            return
        inode = os.fstat(opened.fd)
        os.close(opened.fd)
        if not opened.is_directory and inode.st_nlink == 0 and not self._is_open(inode):
            self.give(inode.st_size + INODE_BYTES)

    def renumber(self, source: int, target: int) -> None:
        if source not in self._table or target not in self._table:
            raise WasiError(BADF)
        if source != target:
            self.close(target)
            self._table[target] = self._table.pop(source)

    # -- reading and writing ----------------------------------------------------------------------------------------

    def read(self, host: Host, fd: int, vectors: int, count: int, out: int, offset: int | None) -> int:
        opened = self.file(fd) if not self.is_stream(fd) else None
        if opened is None or not opened.can_read:
            return BADF
        total = 0
        for at, size in host.vectors(vectors, count):
            where = None if offset is None else offset + total
            piece = os.read(opened.fd, size) if where is None else os.pread(opened.fd, size, where)
            host.memory.write(at, piece)
            total += len(piece)
            if len(piece) < size:
                break
        host.memory.pack("<I", out, total)
        return 0

    def write(self, host: Host, fd: int, vectors: int, count: int, out: int, offset: int | None) -> int:
        opened = self.file(fd) if not self.is_stream(fd) else None
        if opened is None or not opened.can_write:
            return BADF
        data = b"".join(host.memory.read(at, size) for at, size in host.vectors(vectors, count))
        if offset is None:
            whence = os.SEEK_END if opened.flags & 1 else os.SEEK_CUR
            start = os.lseek(opened.fd, 0, whence)
        else:
            start = offset
        self.grow(opened.fd, start + len(data))
        done = os.write(opened.fd, data) if offset is None else os.pwrite(opened.fd, data, offset)
        host.memory.pack("<I", out, done)
        return 0
