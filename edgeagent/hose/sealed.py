"""Memfds that are sealed against every change: what processes that do not trust each other can share."""

from __future__ import annotations

import fcntl
import os
import stat

__all__ = ["SEALS", "check_sealed", "sealed_memfd"]

SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def sealed_memfd(data: bytes | memoryview) -> int:
    """A new sealed memfd that holds ``data``; the descriptor is the caller's to close.

    Raises RuntimeError where the kernel refuses.
    """
    fd = -1
    try:
        fd = os.memfd_create("edge-hose", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise RuntimeError(f"the payload cannot be sealed for another process: {error}") from None
    return fd


def check_sealed(fd: int, offset: int, count: int) -> None:
    """Raises ValueError unless ``fd`` is a sealed memfd that has ``count`` bytes from ``offset`` on."""
    try:
        seals, inode = fcntl.fcntl(fd, fcntl.F_GET_SEALS), os.fstat(fd)
    except OSError:
        raise ValueError("it is no memfd that can be sealed") from None
    if not stat.S_ISREG(inode.st_mode) or seals & SEALS != SEALS:
        raise ValueError("it is not sealed against every change")
    if count < 1 or offset < 0 or offset + count > inode.st_size:
        raise ValueError("it is smaller than the message says")
