"""Frames that look as they must and are not: what a peer of the hose socket can do within the rules of descriptors."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeagent.hose.local_peer import LOOK_HERE_BYTES
from edgeagent.hose.messages import Bye, Credit, Publish, Refusal, Role, encode
from tests.integration.hose_raw_peer import ALL_SEALS, RawPeer, memfd
from tests.integration.hose_server import SealedPayload, Serve, servers

MIB = 1 << 20
F_SEAL_FUTURE_WRITE = 0x10
FALLOC_FL_KEEP_SIZE = 1
LARGE = LOOK_HERE_BYTES + MIB


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with servers(tmp_path) as start:
        yield start


def with_blocks_behind_its_end(size: int, filled: int) -> int:
    """As many blocks as its size needs, of which ``filled`` bytes are in it: the rest of the frame are holes."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    os.write(fd, b"x" * filled)
    libc = ctypes.CDLL(None, use_errno=True)
    behind = (ctypes.c_long(size), ctypes.c_long(size - filled))
    assert libc.fallocate(fd, FALLOC_FL_KEEP_SIZE, *behind) == 0
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, ALL_SEALS)
    inode = os.fstat(fd)
    assert (inode.st_size, inode.st_blocks * 512) == (size, size)
    return fd


@pytest.mark.parametrize("filled", [0, 4096, MIB // 2])
@pytest.mark.parametrize("size", [MIB, LARGE])
def test_holes_do_not_hide_behind_blocks_after_the_end(serve: Serve, size: int, filled: int) -> None:
    server = serve()
    with RawPeer.attached(server.path) as peer:
        peer.publish(with_blocks_behind_its_end(size, filled), size)
        assert peer.refusal() is Refusal.SPARSE
    server.wait_for_peers(0)
    assert server.frames.empty()


def test_a_large_frame_before_one_with_holes_still_counts(serve: Serve) -> None:
    """The pages of large frames are looked at when their turn has come to be delivered."""
    server = serve()
    with RawPeer.attached(server.path) as peer:
        peer.publish(memfd(b"x" * LARGE), LARGE)
        peer.publish(with_blocks_behind_its_end(LARGE, 0), LARGE)
        assert peer.refusal() is Refusal.SPARSE
        frame = server.frame()
        assert os.pread(frame.fd, 9, LARGE - 1) == b"x"
        server.release(frame)
    server.wait_for_peers(0)
    assert server.frames.empty()
    assert server.socket.stats.held_bytes == 0


def test_a_node_that_stops_lets_go_of_frames_it_looks_at(serve: Serve) -> None:
    with RawPeer.attached(serve().path) as peer:
        for _ in range(3):
            peer.publish(memfd(b"x" * LARGE), LARGE)
    # The end of `servers` checks that no frame and no descriptor is left.


def test_whoever_has_mapped_it_before_cannot_write_it(serve: Serve) -> None:
    """F_SEAL_FUTURE_WRITE leaves the mappings that are there writable: it is no F_SEAL_WRITE."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, b"frame")
    server = serve()
    with mmap.mmap(fd, 5) as writable, RawPeer.attached(server.path) as peer:
        others = ALL_SEALS & ~fcntl.F_SEAL_WRITE
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, others | F_SEAL_FUTURE_WRITE)
        peer.publish(fd)
        writable[:5] = b"other"
        assert peer.refusal() is Refusal.NOT_SEALED


def for_writing() -> int:
    fd = memfd(seals=0)
    only = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
    os.close(fd)
    fcntl.fcntl(only, fcntl.F_ADD_SEALS, ALL_SEALS)
    return only


def of_reserved_pages() -> int:
    """Large pages of which none is reserved: to read one would be a SIGBUS."""
    try:
        fd = os.memfd_create("test", os.MFD_ALLOW_SEALING | os.MFD_HUGETLB)
        os.ftruncate(fd, 1 << 30)
    except OSError as error:
        pytest.skip(f"no large pages here: {error}")
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, ALL_SEALS)
    return fd


@pytest.mark.parametrize(
    ("make", "why"), [(for_writing, Refusal.DESCRIPTOR), (of_reserved_pages, Refusal.SPARSE)]
)
def test_what_cannot_be_read_is_no_frame(serve: Serve, make: Callable[[], int], why: Refusal) -> None:
    fd = make()
    server = serve()
    with RawPeer.attached(server.path) as peer:
        peer.publish(fd)
        assert peer.refusal() is why


def test_a_peer_cannot_keep_its_session_alive_by_sending_it_to_the_node(serve: Serve) -> None:
    """Its own end of the connection as the frame's descriptor."""
    server = serve()
    peer = RawPeer.attached(server.path)
    peer.publish(os.dup(peer.sock.fileno()))
    peer.close()
    server.wait_for_peers(0)


def test_an_empty_packet_with_a_descriptor_is_no_bye(serve: Serve) -> None:
    server = serve()
    with RawPeer.attached(server.path) as peer:
        fd = memfd()
        peer.send(b"", [fd])
        os.close(fd)
        assert peer.refusal() is Refusal.DESCRIPTOR


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR])
def test_a_half_closed_consumer_holds_nothing(serve: Serve, how: int) -> None:
    server = serve()
    with RawPeer.attached(server.path, Role.CONSUMER) as peer:
        payloads = [SealedPayload(memfd(), 5) for _ in range(2)]
        server.publish("camera", payloads[0])
        peer.sock.shutdown(how)
        if how == socket.SHUT_RD:
            server.publish("camera", payloads[1])
        else:
            payloads.pop().release()
        server.wait_for_peers(0)
        assert all(payload.released.wait(20) for payload in payloads)


def test_a_producer_that_never_reads_is_left_with_its_own_frames(serve: Serve) -> None:
    """The credits it does not read fill its queue; the node waits for nobody."""
    server = serve(credits_max=1)
    begun = time.monotonic()
    with RawPeer.attached(server.path) as peer:
        sent = 0
        try:
            while time.monotonic() < begun + 20:
                peer.publish(memfd())
                server.release(server.frame())
                sent += 1
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert sent >= 2
    server.wait_for_peers(0)


def test_a_flood_of_anything_ends_with_one_refusal(serve: Serve) -> None:
    """Many packets before the node has looked at the first: all but what came before the refusal are dropped."""
    server = serve()
    with RawPeer.attached(server.path) as peer:
        frames = 0
        try:
            for seq in range(1, 400):
                fd = memfd()
                try:
                    peer.send(Publish(seq, peer.generation ^ (seq == 3), 0, 5), [fd])
                finally:
                    os.close(fd)
                peer.send(encode(Credit(1, 1)) if seq == 4 else encode(Bye()) if seq == 200 else b"?")
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert peer.refusal() is Refusal.PROTOCOL
    # What came before the refusal may reach the application after it, and is its until it lets go of it.
    while server.is_waiting_for_release():
        server.release(server.frame())
        frames += 1
    assert frames <= 1
    assert server.socket.stats.refused == 1
