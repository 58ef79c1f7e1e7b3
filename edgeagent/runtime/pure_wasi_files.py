"""The fd_* and path_* functions of preview 1 over :mod:`edgeagent.runtime.pure_files`; the twin of native/wasi/."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgeagent.runtime.pure_files import (
    BADF,
    INVAL,
    ISDIR,
    NAME_BYTES,
    NAMETOOLONG,
    NOENT,
    PERM,
    ROOT,
    Opened,
    WasiError,
    checked_path,
    from_host,
    open_beneath,
    split_parent,
)
from edgeagent.runtime.pure_wasi import Host

__all__ = ["FILE_FUNCTIONS"]

NOTSUP = 58
_CREAT, _DIRECTORY, _EXCL, _TRUNC = 1, 2, 4, 8
_APPEND = 1
_FOLLOW = 1
_READ = 1 << 1 | 1 << 14
_WRITE = 1 << 0 | 1 << 6 | 1 << 8 | 1 << 22
_O_PATH = 0o10000000
_U64 = (1 << 64) - 1


def _unsigned(value: int) -> int:
    return value & _U64


def _kind(mode: int) -> int:
    if stat.S_ISREG(mode):
        return 4
    return 3 if stat.S_ISDIR(mode) else 7 if stat.S_ISLNK(mode) else 0


def _store_stat(host: Host, out: int, inode: os.stat_result | None) -> int:
    if inode is None:
        host.memory.write(out, bytes(64))
        return 0
    times = (inode.st_atime_ns, inode.st_mtime_ns, inode.st_ctime_ns)
    host.memory.pack(
        "<QQB7xQQQQQ", out, 0, inode.st_ino, _kind(inode.st_mode), inode.st_nlink, inode.st_size, *times
    )
    return 0


@contextmanager
def _parent(host: Host, fd: int, ptr: int, count: int) -> Iterator[tuple[int, bytes]]:
    """(directory descriptor, last component) of a guest's path."""
    directory = host.files.directory(fd).fd
    parent, base = split_parent(host.memory.read(ptr, count))
    if not parent:
        yield directory, base
        return
    opened = open_beneath(directory, parent, _O_PATH | os.O_DIRECTORY)
    try:
        yield opened, base
    finally:
        os.close(opened)


def fd_close(host: Host, fd: int) -> int:
    host.files.close(fd)
    return 0


def fd_renumber(host: Host, source: int, target: int) -> int:
    host.files.renumber(source, target)
    return 0


def fd_sync(host: Host, fd: int) -> int:
    return 0 if host.files.has(fd) else BADF  # scratch is wiped after the call


def fd_advise(host: Host, fd: int, offset: int, count: int, advice: int) -> int:
    host.files.file(fd)
    return 0


def fd_fdstat_set_flags(host: Host, fd: int, flags: int) -> int:
    host.files.set_flags(fd, flags)
    return 0


def fd_fdstat_set_rights(host: Host, fd: int, base: int, inheriting: int) -> int:
    return 0 if host.files.has(fd) else BADF


def fd_prestat_get(host: Host, fd: int, out: int) -> int:
    if fd != ROOT or host.files.root < 0 or not host.files.has(ROOT):
        return BADF
    host.memory.pack("<II", out, 0, 1)
    return 0


def fd_prestat_dir_name(host: Host, fd: int, out: int, count: int) -> int:
    if fd != ROOT or host.files.root < 0 or not host.files.has(ROOT):
        return BADF
    if count < 1:
        return NAMETOOLONG
    host.memory.write(out, b"/")
    return 0


def fd_filestat_get(host: Host, fd: int, out: int) -> int:
    opened = host.files.get(fd)
    return _store_stat(host, out, None if opened.stream >= 0 else os.fstat(opened.fd))


def _resize(host: Host, opened: Opened, size: int) -> int:
    if not opened.can_write:
        return BADF
    if size > (1 << 63) - 1:
        return INVAL
    before = os.fstat(opened.fd).st_size
    host.files.grow(opened.fd, size)
    os.ftruncate(opened.fd, size)
    host.files.give(max(0, before - size))
    return 0


def fd_filestat_set_size(host: Host, fd: int, size: int) -> int:
    return _resize(host, host.files.file(fd), _unsigned(size))


def fd_allocate(host: Host, fd: int, offset: int, count: int) -> int:
    opened = host.files.file(fd)
    end = _unsigned(offset) + _unsigned(count)
    if opened.can_write and end <= os.fstat(opened.fd).st_size:
        return 0
    return _resize(host, opened, end)


def _times(inode: os.stat_result, atime: int, mtime: int, flags: int) -> tuple[int, int]:
    import time

    def choose(value: int, set_: int, now: int, old: int) -> int:
        if set_ and now:
            raise WasiError(INVAL)
        return _unsigned(value) if set_ else time.time_ns() if now else old

    return (
        choose(atime, flags & 1, flags & 2, inode.st_atime_ns),
        choose(mtime, flags & 4, flags & 8, inode.st_mtime_ns),
    )


def fd_filestat_set_times(host: Host, fd: int, atime: int, mtime: int, flags: int) -> int:
    opened = host.files.get(fd)
    if opened.stream >= 0:
        return NOTSUP
    os.utime(opened.fd, ns=_times(os.fstat(opened.fd), atime, mtime, flags))
    return 0


def fd_pread(host: Host, fd: int, vectors: int, count: int, offset: int, out: int) -> int:
    host.files.file(fd)
    return host.files.read(host, fd, vectors, count, out, _unsigned(offset))


def fd_pwrite(host: Host, fd: int, vectors: int, count: int, offset: int, out: int) -> int:
    host.files.file(fd)
    return host.files.write(host, fd, vectors, count, out, _unsigned(offset))


def fd_seek(host: Host, fd: int, offset: int, whence: int, out: int) -> int:
    if whence > 2:
        return INVAL
    opened = host.files.file(fd)
    host.memory.pack("<Q", out, os.lseek(opened.fd, offset, whence))
    return 0


def fd_tell(host: Host, fd: int, out: int) -> int:
    host.memory.pack("<Q", out, os.lseek(host.files.file(fd).fd, 0, os.SEEK_CUR))
    return 0


def fd_readdir(host: Host, fd: int, out: int, room: int, cookie: int, used: int) -> int:
    opened = host.files.directory(fd)
    host.memory.check(out, room)
    if cookie == 0:
        with os.scandir(opened.fd) as entries:
            found = [
                (os.fsencode(e.name), e.inode(), _kind(e.stat(follow_symlinks=False).st_mode))
                for e in entries
            ]
        inode = os.fstat(opened.fd).st_ino
        opened.listing = sorted([(b".", inode, 3), (b"..", inode, 3), *found])
    data = b""
    for position in range(_unsigned(cookie), len(opened.listing)):
        if len(data) >= room:
            break
        name, number, kind = opened.listing[position]
        data += struct.pack("<QQIB3x", position + 1, number, len(name), kind) + name
    data = data[:room]
    host.memory.write(out, data)
    host.memory.pack("<I", used, len(data))
    return 0


def path_create_directory(host: Host, fd: int, ptr: int, count: int) -> int:
    with _parent(host, fd, ptr, count) as (directory, base):
        host.files.take(NAME_BYTES)
        try:
            os.mkdir(base, 0o700, dir_fd=directory)
        except OSError:
            host.files.give(NAME_BYTES)
            raise
    return 0


def path_filestat_get(host: Host, fd: int, lookup: int, ptr: int, count: int, out: int) -> int:
    directory = host.files.directory(fd).fd
    path = checked_path(host.memory.read(ptr, count))
    inode = open_beneath(directory, path, _O_PATH | (0 if lookup & _FOLLOW else os.O_NOFOLLOW))
    try:
        return _store_stat(host, out, os.fstat(inode))
    finally:
        os.close(inode)


def path_filestat_set_times(
    host: Host, fd: int, lookup: int, ptr: int, count: int, atime: int, mtime: int, flags: int
) -> int:
    if flags & 3 == 3 or flags & 12 == 12:
        return INVAL
    with _parent(host, fd, ptr, count) as (directory, base):
        inode = os.stat(base, dir_fd=directory, follow_symlinks=False)
        os.utime(base, ns=_times(inode, atime, mtime, flags), dir_fd=directory, follow_symlinks=False)
    return 0


def path_link(
    host: Host, fd: int, lookup: int, ptr: int, count: int, to_fd: int, to: int, to_count: int
) -> int:
    with _parent(host, fd, ptr, count) as source, _parent(host, to_fd, to, to_count) as target:
        host.files.take(NAME_BYTES)
        try:
            os.link(source[1], target[1], src_dir_fd=source[0], dst_dir_fd=target[0], follow_symlinks=False)
        except OSError:
            host.files.give(NAME_BYTES)
            raise
    return 0


def path_readlink(host: Host, fd: int, ptr: int, count: int, out: int, room: int, used: int) -> int:
    with _parent(host, fd, ptr, count) as (directory, base):
        host.memory.check(out, room)
        if room == 0:
            return INVAL
        target = os.readlink(base, dir_fd=directory)[:room]
    host.memory.write(out, target)
    host.memory.pack("<I", used, len(target))
    return 0


def path_unlink_file(host: Host, fd: int, ptr: int, count: int) -> int:
    with _parent(host, fd, ptr, count) as (directory, base):
        inode = os.stat(base, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(inode.st_mode):
            return ISDIR
        os.unlink(base, dir_fd=directory)
        host.files.forget(inode)
    return 0


def path_remove_directory(host: Host, fd: int, ptr: int, count: int) -> int:
    with _parent(host, fd, ptr, count) as (directory, base):
        inode = os.stat(base, dir_fd=directory, follow_symlinks=False)
        os.rmdir(base, dir_fd=directory)
        host.files.forget(inode)
    return 0


def path_rename(host: Host, fd: int, ptr: int, count: int, to_fd: int, to: int, to_count: int) -> int:
    with _parent(host, fd, ptr, count) as source, _parent(host, to_fd, to, to_count) as target:
        inode = os.stat(source[1], dir_fd=source[0], follow_symlinks=False)
        try:
            replaced = os.stat(target[1], dir_fd=target[0], follow_symlinks=False)
        except FileNotFoundError:
            replaced = None
        os.rename(source[1], target[1], src_dir_fd=source[0], dst_dir_fd=target[0])
        if replaced is not None and replaced.st_ino != inode.st_ino:
            host.files.forget(replaced)
    return 0


def path_symlink(host: Host, old: int, old_count: int, fd: int, ptr: int, count: int) -> int:
    target = checked_path(host.memory.read(old, old_count))
    if target.startswith(b"/"):
        return PERM  # could never be followed
    with _parent(host, fd, ptr, count) as (directory, base):
        host.files.take(NAME_BYTES)
        try:
            os.symlink(target, base, dir_fd=directory)
        except OSError:
            host.files.give(NAME_BYTES)
            raise
    return 0


def _open_or_create(host: Host, directory: int, path: bytes, flags: int, oflags: int) -> int:
    exclusive = oflags & _CREAT and oflags & _EXCL
    if not exclusive:
        try:
            return open_beneath(directory, path, flags)
        except WasiError as error:
            if error.errno != NOENT or not oflags & _CREAT:
                raise
    host.files.take(NAME_BYTES)
    try:
        return open_beneath(directory, path, flags | os.O_CREAT | os.O_EXCL)
    except WasiError:
        host.files.give(NAME_BYTES)
        raise


def path_open(
    host: Host,
    fd: int,
    lookup: int,
    ptr: int,
    count: int,
    oflags: int,
    rights: int,
    _i: int,
    flags: int,
    out: int,
) -> int:
    directory = host.files.directory(fd).fd
    path = checked_path(host.memory.read(ptr, count))
    truncates = bool(oflags & _TRUNC)
    reads = bool(rights & _READ)
    writes = (truncates or bool(rights & _WRITE)) and not oflags & _DIRECTORY
    base = (
        os.O_NONBLOCK
        | (0 if lookup & _FOLLOW else os.O_NOFOLLOW)
        | (os.O_DIRECTORY if oflags & _DIRECTORY else 0)
    )
    base |= os.O_APPEND if flags & _APPEND else 0
    mode = (os.O_RDWR if reads else os.O_WRONLY) if writes else os.O_RDONLY
    try:
        opened = _open_or_create(host, directory, path, base | mode, oflags)
    except WasiError as error:
        if error.errno != ISDIR or truncates or oflags & _CREAT:
            raise
        opened = open_beneath(directory, path, base | os.O_RDONLY)  # a directory, asked for with every right
    try:
        inode = os.fstat(opened)
        if truncates:  # by hand, so that the quota sees what was given up
            os.ftruncate(opened, 0)
            host.files.give(inode.st_size)
    except OSError:
        os.close(opened)
        raise
    number = host.files.add(
        Opened(
            fd=opened,
            is_directory=stat.S_ISDIR(inode.st_mode),
            flags=flags & 0xFFFF,
            can_read=reads or not writes,
            can_write=writes,
        )
    )
    host.memory.pack("<I", out, number)
    return 0


def typed(function: Callable[..., int]) -> Callable[..., int]:
    """Host errors become WASI's."""

    def enter(host: Host, *args: int) -> int:
        try:
            return function(host, *args)
        except OSError as error:
            raise from_host(error) from None
        except OverflowError:
            return INVAL

    return enter


# name -> (parameters, function); i = i32, I = i64
_TABLE: dict[str, tuple[str, Callable[..., int]]] = {
    "fd_advise": ("iIIi", fd_advise),
    "fd_allocate": ("iII", fd_allocate),
    "fd_close": ("i", fd_close),
    "fd_datasync": ("i", fd_sync),
    "fd_fdstat_set_flags": ("ii", fd_fdstat_set_flags),
    "fd_fdstat_set_rights": ("iII", fd_fdstat_set_rights),
    "fd_filestat_get": ("ii", fd_filestat_get),
    "fd_filestat_set_size": ("iI", fd_filestat_set_size),
    "fd_filestat_set_times": ("iIIi", fd_filestat_set_times),
    "fd_pread": ("iiiIi", fd_pread),
    "fd_prestat_dir_name": ("iii", fd_prestat_dir_name),
    "fd_prestat_get": ("ii", fd_prestat_get),
    "fd_pwrite": ("iiiIi", fd_pwrite),
    "fd_readdir": ("iiiIi", fd_readdir),
    "fd_renumber": ("ii", fd_renumber),
    "fd_seek": ("iIii", fd_seek),
    "fd_sync": ("i", fd_sync),
    "fd_tell": ("ii", fd_tell),
    "path_create_directory": ("iii", path_create_directory),
    "path_filestat_get": ("iiiii", path_filestat_get),
    "path_filestat_set_times": ("iiiiIIi", path_filestat_set_times),
    "path_link": ("iiiiiii", path_link),
    "path_open": ("iiiiiIIii", path_open),
    "path_readlink": ("iiiiii", path_readlink),
    "path_remove_directory": ("iii", path_remove_directory),
    "path_rename": ("iiiiii", path_rename),
    "path_symlink": ("iiiii", path_symlink),
    "path_unlink_file": ("iii", path_unlink_file),
}
FILE_FUNCTIONS = {name: (parameters, typed(function)) for name, (parameters, function) in _TABLE.items()}
