"""Transfers over a wire that damages and cuts: with the extension's runs of frames, and frame by frame."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from edgeagent import native
from edgeagent.hose import checksum
from edgeagent.hose.remote_link import Link
from tests.integration.hose_remote_rig import MIB, Rig

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
def _wire(rig: Rig, *, damage_at: tuple[int, ...] = (), cut_at: int = 0) -> Iterator[None]:
    wire, listening = _Wire(rig.port, damage_at, cut_at), rig.port
    rig.port = wire.port
    try:
        yield
    finally:
        wire.close()
        rig.port = listening


@pytest.fixture(params=["runs", "frames"], autouse=True)
def runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether frames go many at a time."""
    if request.param == "frames":
        monkeypatch.setattr(Link, "has_runs", False)
        return False
    fast = native.core is not None and native.core.crc32_is_fast()
    if not fast:
        pytest.skip("no fast CRC-32 here, and no runs")
    both = checksum.ALL | checksum.Checksum.CRC32_FIRST
    for module in ("remote_stream", "remote_session"):
        monkeypatch.setattr(f"edgeagent.hose.{module}.worthwhile", lambda: both)
    return True


def _content(count: int) -> bytes:
    return bytes(i % 251 for i in range(4099)) * (count // 4099 + 1)


@pytest.mark.parametrize("count", [0, 1, 511 * 1024, MIB, 3 * MIB + 17, 40 * MIB])
def test_a_clean_wire(count: int) -> None:
    content = _content(count)[:count]
    with Rig() as rig, _wire(rig):
        report = rig.run(rig.client().send(content, hashed=True))
        assert rig.delivered() == content
        assert (report.sent_bytes, report.stored_bytes, report.resumes) == (count, count, 0)
        assert rig.listener.stats.bytes == count


@pytest.mark.parametrize("at", [300_000, 5 * MIB, 8 * MIB - 1])
def test_a_damaged_frame_is_sent_again(at: int) -> None:
    content = _content(8 * MIB)[: 8 * MIB]
    with Rig() as rig, _wire(rig, damage_at=(HANDSHAKE_BYTES + at,)):
        report = rig.run(rig.client().send(content, hashed=True))
        assert rig.delivered() == content
        assert report.connections == 1
        assert rig.listener.stats.frames_again == 1
        assert len(content) < report.sent_bytes <= len(content) + MIB


def test_two_damaged_frames(runs: bool) -> None:
    content = _content(16 * MIB)[: 16 * MIB]
    with Rig() as rig, _wire(rig, damage_at=(2 * MIB + 4096, 9 * MIB)):
        rig.run(rig.client().send(content, hashed=True))
        assert rig.delivered() == content
        assert rig.listener.stats.frames_again == 2


def test_a_cut_in_the_middle() -> None:
    content = _content(8 * MIB)[: 8 * MIB]
    with Rig() as rig, _wire(rig, cut_at=4 * MIB + 12345):
        report = rig.run(rig.client().send(content, hashed=True))
        assert rig.delivered() == content
        assert (report.connections, report.resumes) == (2, 1)
        assert rig.listener.stats.resumes == 1
