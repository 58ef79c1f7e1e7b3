"""A peer of the hose socket without the library, which can say anything; and memfds of all kinds."""

from __future__ import annotations

import array
import fcntl
import os
import socket
from collections.abc import Iterable
from typing import Self

from edgeagent.hose.messages import (
    MESSAGE_BYTES,
    Credit,
    Hello,
    Message,
    Publish,
    Refusal,
    Refused,
    Role,
    Welcome,
    decode,
    encode,
)

__all__ = ["ALL_SEALS", "RawPeer", "memfd"]

ALL_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
WAIT_S = 20.0


def memfd(content: bytes = b"frame", *, seals: int = ALL_SEALS, size: int | None = None) -> int:
    """A memfd with the content, as long as ``size``, with the seals."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    if size is not None:
        os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


class RawPeer:
    """Blocking, with a time limit; closed by ``with``."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(WAIT_S)
        self.sock.connect(path)
        self.generation = 0
        self.credits = 0
        self.seq = 0

    @classmethod
    def attached(cls, path: str, role: Role = Role.PRODUCER, name: str = "camera", wanted: int = 0) -> Self:
        """A peer that has been welcomed."""
        peer = cls(path)
        peer.send(Hello(role, name, wanted))
        welcome, fd = peer.receive()
        assert isinstance(welcome, Welcome), welcome
        assert fd is None
        peer.generation, peer.credits = welcome.generation, welcome.credits
        return peer

    def send(self, message: Message | bytes, fds: Iterable[int] = ()) -> None:
        data = message if isinstance(message, bytes) else encode(message)
        rights = array.array("i", fds)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
        self.sock.sendmsg([data], ancillary)

    def publish(self, fd: int, size: int = 5, offset: int = 0) -> None:
        """The next frame; the descriptor is closed here."""
        self.seq += 1
        try:
            self.send(Publish(self.seq, self.generation, offset, size), [fd])
        finally:
            os.close(fd)

    def receive(self) -> tuple[Message | None, int | None]:
        """The next message, and its descriptor; None at the end."""
        for _ in range(2):  # a reset is reported once, before what is left in the queue
            try:
                data, fds, _, _ = socket.recv_fds(self.sock, MESSAGE_BYTES + 1, 4)
                break
            except ConnectionResetError:
                data, fds = b"", []
        assert len(fds) <= 1
        return (decode(data) if data else None), (fds[0] if fds else None)

    def refusal(self) -> Refusal:
        """Why the session was ended; fails when it was not."""
        while True:
            message, fd = self.receive()
            if fd is not None:
                os.close(fd)
            if isinstance(message, Refused):
                assert self.receive() == (None, None)
                return Refusal(message.code)
            assert isinstance(message, Credit | Publish), message

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
