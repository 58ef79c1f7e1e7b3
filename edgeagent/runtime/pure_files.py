"""The descriptor table and scratch directory of one `command` invocation: the twin of native/wasi/files.cpp.

Every path is resolved by openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS), so that nothing leads out of the directory;
every byte and every name is charged to a quota.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgeagent.runtime.pure_scratch import empty_directory

if TYPE_CHECKING:
    from edgeagent.runtime.pure_wasi import Host

__all__ = [
    "BADF",
    "INVAL",
    "ISDIR",
    "NAMETOOLONG",
    "NAME_BYTES",
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
APPEND = 1
NAME_BYTES = 4096  # what a name costs beside its file's bytes: the inode, or a link's directory entry
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

_OFFSET_MAX = (1 << 63) - 1

_libc = ctypes.CDLL(None, use_errno=True)


class WasiError(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.errno = number


def from_host(error: OSError) -> WasiError:
    return WasiError(_ERRNO.get(error.errno or 0, IO))


class Opened(msgspec.Struct):
    """``fd`` is the host's descriptor, or -1 for a standard stream, whose number ``stream`` is then.

    ``flags`` are WASI's; ``listing`` is the snapshot taken when a directory is read from its start.
    """

    fd: int = -1
    is_directory: bool = False
    stream: int = -1
    flags: int = 0
    can_read: bool = True
    can_write: bool = False
    listing: list[tuple[bytes, int, int]] = []


def _openat2(directory: int, path: bytes, flags: int) -> int:
    mode = 0o600 if flags & os.O_CREAT else 0
    how = struct.pack("<QQQ", flags | os.O_CLOEXEC, mode, _RESOLVE)
    fd = int(_libc.syscall(_SYS_OPENAT2, directory, path, how, len(how)))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return fd


def open_beneath(directory: int, path: bytes, flags: int) -> int:
    """A descriptor of what ``path`` names; raises WasiError, EPERM where it would lead out of ``directory``."""
    try:
        return _openat2(directory, path, flags)
    except OSError as error:
        raise from_host(error) from None


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
        self._table = {number: Opened(stream=number) for number in (0, 1, 2)}
        self.root = -1
        self._path = ""
        self._used = 0
        self._max = 0

    # -- scratch ----------------------------------------------------------------------------------------------------

    def open_scratch(self, parent: str, bytes_max: int) -> None:
        """Make the private directory; raises OSError when it cannot be had, or when openat2 is missing."""
        self._path = tempfile.mkdtemp(prefix="call-", dir=parent)
        self.root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.close(_openat2(self.root, b".", os.O_RDONLY | os.O_DIRECTORY))
        self._max = bytes_max
        self._table[ROOT] = Opened(fd=self.root, is_directory=True)

    def close_all(self) -> None:
        """Close every descriptor and remove the scratch directory; raises nothing."""
        for opened in self._table.values():
            if opened.fd not in (-1, self.root):
                with contextlib.suppress(OSError):
                    os.close(opened.fd)
        self._table.clear()
        if self.root >= 0:
            with contextlib.suppress(OSError):  # what is left is removed when the node starts again
                empty_directory(self.root)
            os.close(self.root)
            self.root = -1
        if self._path:
            with contextlib.suppress(OSError):
                Path(self._path).rmdir()

    def take(self, count: int) -> None:
        if count > self._max - self._used:
            raise WasiError(NOSPC)
        self._used += count

    def give(self, count: int) -> None:
        self._used = max(0, self._used - count)

    def grow(self, fd: int, end: int) -> None:
        """Charge the growth of a file to ``end`` bytes before it is written."""
        self.take(max(0, end - os.fstat(fd).st_size))

    def forget(self, inode: os.stat_result) -> None:
        """Give back what a removed name held: itself, and the file's bytes when they are gone with it.

        ``inode`` is as it was before. The bytes of a file that is still open are given back when it is closed.
        """
        self.give(NAME_BYTES)
        if stat.S_ISREG(inode.st_mode) and inode.st_nlink <= 1 and not self._is_open(inode):
            self.give(inode.st_size)

    def _is_open(self, inode: os.stat_result) -> bool:
        files = (o for o in self._table.values() if o.fd >= 0 and not o.is_directory)
        return any(os.fstat(o.fd).st_ino == inode.st_ino for o in files)

    # -- descriptors ------------------------------------------------------------------------------------------------

    def stream(self, fd: int) -> int:
        """0, 1 or 2 where ``fd`` is standard input, output or error (a guest may renumber them), else -1."""
        return self._table[fd].stream if fd in self._table else -1

    def has(self, fd: int) -> bool:
        return fd in self._table

    def get(self, fd: int) -> Opened:
        opened = self._table.get(fd)
        if opened is None:
            raise WasiError(BADF)
        return opened

    def file(self, fd: int) -> Opened:
        opened = self.get(fd)
        if opened.stream >= 0:
            raise WasiError(SPIPE)
        if opened.is_directory:
            raise WasiError(ISDIR)
        return opened

    def directory(self, fd: int) -> Opened:
        opened = self.get(fd)
        if opened.stream >= 0 and self.root < 0:
            raise WasiError(NOTCAPABLE)
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
        if opened.fd in (-1, self.root):
            return
        inode = os.fstat(opened.fd)
        os.close(opened.fd)
        if not opened.is_directory and inode.st_nlink == 0 and not self._is_open(inode):
            self.give(inode.st_size)

    def renumber(self, source: int, target: int) -> None:
        if source not in self._table or target not in self._table:
            raise WasiError(BADF)
        if source != target:
            self.close(target)
            self._table[target] = self._table.pop(source)

    def set_flags(self, fd: int, flags: int) -> None:
        """Set WASI's descriptor flags; only appending changes anything, for nothing here ever blocks."""
        opened = self.get(fd)
        if opened.fd >= 0 and not opened.is_directory:
            fcntl.fcntl(opened.fd, fcntl.F_SETFL, os.O_APPEND if flags & APPEND else 0)
        opened.flags = flags & 0xFFFF

    # -- reading and writing, straight from and to the guest's memory -----------------------------------------------

    def read(self, host: Host, fd: int, vectors: int, count: int, out: int, offset: int | None) -> int:
        opened = self._file_or_none(fd)
        if opened is None or not opened.can_read:
            return BADF
        pieces = _buffers(host, vectors, count)
        if offset is not None and offset > _OFFSET_MAX:
            return INVAL
        done = os.readv(opened.fd, pieces) if offset is None else os.preadv(opened.fd, pieces, offset)
        host.memory.pack("<I", out, done)
        return 0

    def write(self, host: Host, fd: int, vectors: int, count: int, out: int, offset: int | None) -> int:
        opened = self._file_or_none(fd)
        if opened is None or not opened.can_write:
            return BADF
        pieces = _buffers(host, vectors, count)
        if offset is not None and offset > _OFFSET_MAX:
            return INVAL
        if opened.flags & APPEND:  # wherever the guest says: Linux appends for pwrite too
            start = os.fstat(opened.fd).st_size
        else:
            start = os.lseek(opened.fd, 0, os.SEEK_CUR) if offset is None else offset
        self.grow(opened.fd, start + sum(len(piece) for piece in pieces))
        done = os.writev(opened.fd, pieces) if offset is None else os.pwritev(opened.fd, pieces, offset)
        host.memory.pack("<I", out, done)
        return 0

    def _file_or_none(self, fd: int) -> Opened | None:
        return None if self.stream(fd) >= 0 else self.file(fd)


def _buffers(host: Host, vectors: int, count: int) -> list[Any]:
    """A guest's iovecs as windows of its memory; valid during this host call only."""
    return [
        (ctypes.c_char * size).from_address(host.memory.check(at, size))
        for at, size in host.vectors(vectors, count)
    ]
