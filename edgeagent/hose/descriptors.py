"""File descriptors that come from other processes: how one is received, and what must hold before it is used.

Nothing here maps memory. A descriptor passes ``check_frame`` first; until then it may be anything that a hostile
process can open.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
import threading

from edgeagent.hose.messages import MESSAGE_BYTES, BadMessage, Refusal

__all__ = ["FRAME_SEALS", "check_frame", "check_pages", "close_unchecked", "peer_of", "receive", "send"]

FRAME_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_INT_BYTES = array.array("i").itemsize
_UCRED = struct.Struct("3i")
_BLOCK_BYTES = 512  # of st_blocks, whatever the file system


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Process id and user id of whoever connected, as the kernel noted them at that time."""
    pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid


def send(sock: socket.socket, data: bytes, fd: int | None = None) -> None:
    """Send one message without waiting, with at most one descriptor; raises OSError, BlockingIOError too."""
    rights = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
    sock.sendmsg([data], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def receive(sock: socket.socket) -> tuple[bytes, int | None]:
    """One message and the descriptor that came along, which is the caller's to close; ``b""`` at the end.

    Raises OSError (BlockingIOError: nothing yet), and BadMessage for more than one descriptor, which all are closed.
    """
    # Room for one: CMSG_LEN, for the padding of CMSG_SPACE would hold a second. The kernel closes what does not fit.
    data, ancillary, flags, _ = sock.recvmsg(
        MESSAGE_BYTES + 1, socket.CMSG_LEN(_INT_BYTES), socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    )
    fds = array.array("i")
    for level, kind, rights in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(rights[: len(rights) - len(rights) % _INT_BYTES])
    if len(fds) > 1 or flags & socket.MSG_CTRUNC:
        for fd in fds:
            close_unchecked(fd)
        if not fds:  # there was room: this process may open no more files
            raise BadMessage(Refusal.BUSY, "the node has no descriptor left")
        raise BadMessage(Refusal.DESCRIPTOR, "a message carries one descriptor at most")
    return data, fds[0] if fds else None


def check_frame(fd: int, offset: int, size: int) -> None:
    """Raise BadMessage unless ``fd`` is a memfd that nobody can change and that holds the range; sizes in bytes.

    Quick whatever the size; ``check_pages`` is the rest of it.
    """
    # Seals first. They are asked of no file system; fstat on a file of a hostile one (FUSE) could hang.
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        raise BadMessage(Refusal.DESCRIPTOR, "the descriptor is not of a memfd") from None
    if seals & FRAME_SEALS != FRAME_SEALS:
        raise BadMessage(Refusal.NOT_SEALED, "the memfd is not sealed against write, shrink, grow and seal")
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
        raise BadMessage(Refusal.DESCRIPTOR, "the descriptor cannot be read from")
    inode = os.fstat(fd)
    if size < 1:
        raise BadMessage(Refusal.TOO_SMALL, "a frame has at least 1 byte")
    if offset + size > inode.st_size:
        raise BadMessage(
            Refusal.TOO_SMALL, f"the memfd has {inode.st_size} bytes, the frame ends at {offset + size}"
        )
    # Sealed as it is, a hole would be filled at the reader's first touch, from the reader's memory.
    if inode.st_blocks * _BLOCK_BYTES < inode.st_size:
        raise BadMessage(Refusal.SPARSE, "the memfd has holes")


def check_pages(fd: int, offset: int, size: int) -> None:
    """Raise BadMessage unless the range of a checked memfd has no holes; takes up to 35 us for each MiB of small pages.

    The number of blocks does not tell: a memfd may have some behind its end (fallocate with FALLOC_FL_KEEP_SIZE).
    """
    if os.lseek(fd, offset, os.SEEK_HOLE) < offset + size:
        raise BadMessage(Refusal.SPARSE, "the frame has holes")


def close_unchecked(fd: int) -> None:
    """Close a descriptor that may be of anything, without waiting for whatever its file system does at a close."""
    try:
        fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        threading.Thread(target=os.close, args=(fd,), name="hose-close", daemon=True).start()
    else:
        os.close(fd)
