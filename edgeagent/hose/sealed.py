"""Making memfds that are sealed against every change; what comes from others is checked in ``descriptors``."""

from __future__ import annotations

import fcntl
import os

from edgeagent.hose.descriptors import FRAME_SEALS

__all__ = ["sealed_memfd"]


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
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, FRAME_SEALS)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise RuntimeError(f"the payload cannot be sealed for another process: {error}") from None
    return fd
