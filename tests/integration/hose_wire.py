"""A wire between a client and a hose listener that damages and cuts."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.integration.hose_remote_rig import Rig

__all__ = ["HANDSHAKE_BYTES", "wire"]

HANDSHAKE_BYTES = 128  # HELLO, from the client


class _Wire:
    """Between a client and the listener; acts when so many bytes of the client's have passed."""

    def __init__(self, port: int, damage_at: tuple[int, ...], cut_at: int) -> None:
        self._port = port
        self._damage_at = list(damage_at)
        self._cut_at = cut_at
        self._passed = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [near, far]
                for pump, ends in ((self._there, (near, far)), (self._back, (far, near))):
                    self._threads.append(threading.Thread(target=pump, args=ends))
                    self._threads[-1].start()

    def _there(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := bytearray(near.recv(1 << 16)):
                begin, self._passed = self._passed, self._passed + len(data)
                if self._damage_at and self._damage_at[0] < self._passed:
                    data[self._damage_at.pop(0) - begin] ^= 1
                if self._cut_at and self._passed > self._cut_at:
                    self._cut_at = 0
                    break
                far.sendall(data)
        _end(near, far)

    def _back(self, far: socket.socket, near: socket.socket) -> None:
        with suppress(OSError):
            while data := far.recv(1 << 16):
                near.sendall(data)
        _end(near, far)

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        _end(*self._sockets)
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()


def _end(*sockets: socket.socket) -> None:
    for sock in sockets:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire(rig: Rig, *, damage_at: tuple[int, ...] = (), cut_at: int = 0) -> Iterator[None]:
    between, listening = _Wire(rig.port, damage_at, cut_at), rig.port
    rig.port = between.port
    try:
        yield
    finally:
        between.close()
        rig.port = listening
