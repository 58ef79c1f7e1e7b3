"""What hostile and broken peers of the hose socket get: a typed refusal, and nobody else notices."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeagent.hose.messages import (
    Bye,
    Credit,
    Hello,
    Message,
    Publish,
    Refusal,
    Role,
    Welcome,
    encode,
    refused,
)
from tests.integration.hose_raw_peer import ALL_SEALS, RawPeer, memfd
from tests.integration.hose_server import HoseServer, SealedPayload, Serve, servers


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with servers(tmp_path) as start:
        yield start


@contextlib.contextmanager
def bystander(server: HoseServer) -> Iterator[None]:
    """A good producer beside a hostile one: it works before, during and after."""
    with RawPeer.attached(server.path, name="other") as peer:
        for size in (1, 2):
            peer.publish(memfd(b"x" * size), size)
            frame = server.frame()
            assert os.pread(frame.fd, 9, 0) == b"x" * size
            server.release(frame)
            assert isinstance(peer.receive()[0], Credit)
            if size == 1:
                yield
    server.wait_for_peers(0)


def missing(seal: int) -> int:
    return memfd(seals=ALL_SEALS & ~(seal | fcntl.F_SEAL_SEAL))


def pipe_end() -> int:
    reading, writing = os.pipe()
    os.close(writing)
    return reading


def on_tmpfs() -> int:
    fd = os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR)  # noqa: S108: a file that has no name
    os.write(fd, b"frame")
    return fd


DESCRIPTORS: dict[str, tuple[Callable[[], int], Refusal]] = {
    "unsealed": (lambda: memfd(seals=0), Refusal.NOT_SEALED),
    "without-write": (lambda: missing(fcntl.F_SEAL_WRITE), Refusal.NOT_SEALED),
    "without-shrink": (lambda: missing(fcntl.F_SEAL_SHRINK), Refusal.NOT_SEALED),
    "without-grow": (lambda: missing(fcntl.F_SEAL_GROW), Refusal.NOT_SEALED),
    "without-seal": (lambda: missing(fcntl.F_SEAL_SEAL), Refusal.NOT_SEALED),
    "too-small": (lambda: memfd(b"four"), Refusal.TOO_SMALL),
    "empty": (lambda: memfd(b""), Refusal.TOO_SMALL),
    "holes": (lambda: memfd(size=1 << 20), Refusal.SPARSE),
    "regular-file": (lambda: os.open(__file__, os.O_RDONLY), Refusal.DESCRIPTOR),
    "tmpfs-file": (on_tmpfs, Refusal.NOT_SEALED),
    "directory": (lambda: os.open("/", os.O_RDONLY), Refusal.DESCRIPTOR),
    "path-only": (lambda: os.open("/", os.O_PATH), Refusal.DESCRIPTOR),
    "pipe": (pipe_end, Refusal.DESCRIPTOR),
    "socket": (lambda: socket.socket(socket.AF_UNIX).detach(), Refusal.DESCRIPTOR),
    "device": (lambda: os.open("/dev/zero", os.O_RDWR), Refusal.DESCRIPTOR),
}


@pytest.mark.parametrize("kind", DESCRIPTORS)
def test_only_a_sealed_memfd_of_sufficient_size_is_a_frame(serve: Serve, kind: str) -> None:
    make, why = DESCRIPTORS[kind]
    server = serve()
    with bystander(server), RawPeer.attached(server.path) as peer:
        peer.publish(make())
        assert peer.refusal() is why
    assert server.socket.stats.refused == 1
    assert server.frames.empty()


@pytest.mark.parametrize(
    ("offset", "size", "why"),
    [
        (0, 0, Refusal.TOO_SMALL),
        (1, 5, Refusal.TOO_SMALL),
        (6, 1, Refusal.TOO_SMALL),
        ((1 << 64) - 1, 2, Refusal.TOO_LARGE),
        (1 << 63, 1 << 63, Refusal.TOO_LARGE),
        (0, 1025, Refusal.TOO_LARGE),
    ],
)
def test_a_range_outside_its_memfd_is_refused(serve: Serve, offset: int, size: int, why: Refusal) -> None:
    server = serve(frame_bytes_max=1024)
    with bystander(server), RawPeer.attached(server.path) as peer:
        peer.publish(memfd(), size, offset)
        assert peer.refusal() is why


@pytest.mark.parametrize("count", [0, 2, 3, 200])
def test_a_frame_comes_with_exactly_one_descriptor(serve: Serve, count: int) -> None:
    server = serve()
    with bystander(server), RawPeer.attached(server.path) as peer:
        fd = memfd()
        peer.send(Publish(1, peer.generation, 0, 5), [fd] * count)
        os.close(fd)
        assert peer.refusal() is Refusal.DESCRIPTOR


def test_other_messages_come_without_descriptors(serve: Serve) -> None:
    server = serve()
    with bystander(server), RawPeer(server.path) as peer:
        fd = memfd()
        peer.send(Hello(Role.PRODUCER, "camera"), [fd])
        os.close(fd)
        assert peer.refusal() is Refusal.DESCRIPTOR


def other_version() -> bytes:
    data = bytearray(encode(Hello(Role.PRODUCER, "camera")))
    data[4] = 2
    return bytes(data)


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (encode(Hello(Role.PRODUCER, "camera"))[:100], Refusal.PROTOCOL),
        (encode(Hello(Role.PRODUCER, "camera")) + b"\0", Refusal.PROTOCOL),
        (b"GET / HTTP/1.1\r\n\r\n", Refusal.PROTOCOL),
        (other_version(), Refusal.VERSION),
        (Welcome(1, 1), Refusal.PROTOCOL),
        (Credit(1, 1), Refusal.PROTOCOL),
        (refused(Refusal.BUSY, "no"), Refusal.PROTOCOL),
    ],
    ids=["truncated", "too-long", "another-protocol", "version", "welcome", "credit", "refused"],
)
def test_a_session_starts_with_a_hello(serve: Serve, first: Message | bytes, why: Refusal) -> None:
    server = serve()
    with bystander(server), RawPeer(server.path) as peer:
        peer.send(first)
        assert peer.refusal() is why


def test_a_frame_before_the_hello_is_refused(serve: Serve) -> None:
    server = serve()
    with bystander(server), RawPeer(server.path) as peer:
        peer.publish(memfd())
        assert peer.refusal() is Refusal.PROTOCOL


@pytest.mark.parametrize("role", Role)
def test_messages_of_the_other_role_are_out_of_turn(serve: Serve, role: Role) -> None:
    server = serve()
    with bystander(server), RawPeer.attached(server.path, role) as peer:
        if role is Role.PRODUCER:
            peer.send(Credit(1, peer.generation))
        else:
            peer.publish(memfd())
        assert peer.refusal() is Refusal.PROTOCOL


def test_a_second_hello_is_out_of_turn(serve: Serve) -> None:
    server = serve()
    with bystander(server), RawPeer.attached(server.path) as peer:
        peer.send(Hello(Role.CONSUMER, "camera"))
        assert peer.refusal() is Refusal.PROTOCOL


@pytest.mark.parametrize(("generation", "seq"), [(1, 1), (0, 0), (0, 2)])
def test_a_forged_generation_or_number_is_refused(serve: Serve, generation: int, seq: int) -> None:
    server = serve()
    with bystander(server), RawPeer.attached(server.path) as peer:
        fd = memfd()
        peer.send(Publish(seq, peer.generation ^ generation, 0, 5), [fd])
        os.close(fd)
        assert peer.refusal() is Refusal.STALE


@pytest.mark.parametrize(("generation", "seq"), [(1, 1), (0, 0), (0, 2)])
def test_a_forged_credit_is_refused_and_frees_the_frame(serve: Serve, generation: int, seq: int) -> None:
    server = serve()
    with bystander(server), RawPeer.attached(server.path, Role.CONSUMER) as peer:
        payload = SealedPayload(memfd(), 5)
        assert server.publish("camera", payload) == 1
        peer.send(Credit(seq, peer.generation ^ generation))
        assert peer.refusal() is Refusal.STALE
        assert payload.released.wait(20)


def test_a_credit_counts_once(serve: Serve) -> None:
    server = serve()
    with bystander(server), RawPeer.attached(server.path, Role.CONSUMER) as peer:
        payload = SealedPayload(memfd(), 5)
        server.publish("camera", payload)
        peer.send(Credit(1, peer.generation))
        peer.send(Credit(1, peer.generation))
        assert peer.refusal() is Refusal.STALE
        assert payload.releases == 1


def test_more_frames_than_credits_are_refused_and_the_others_stay(serve: Serve) -> None:
    server = serve(credits_max=2)
    with bystander(server), RawPeer.attached(server.path) as peer:
        assert peer.credits == 2
        for _ in range(3):
            peer.publish(memfd())
        held = [server.frame(), server.frame()]
        assert peer.refusal() is Refusal.CREDITS
        assert [os.pread(frame.fd, 5, 0) for frame in held] == [b"frame"] * 2
        # A session is over only when its last frame is: dying does not get around the bounds.
        assert server.socket.stats.peers == 2
        for frame in held:
            server.release(frame)
            server.release(frame)


def test_a_frame_cannot_be_changed_by_whoever_has_its_descriptor(serve: Serve) -> None:
    server = serve()
    with RawPeer.attached(server.path) as peer:
        fd = memfd(b"frame" * 1000)
        keeps = os.dup(fd)
        peer.publish(fd, 5000)
        frame = server.frame()
        for own in (keeps, frame.fd):
            with pytest.raises(PermissionError):
                os.pwrite(own, b"other", 0)
            with pytest.raises(PermissionError):
                os.ftruncate(own, 0)
            with pytest.raises(PermissionError):
                mmap.mmap(own, 5000, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            with pytest.raises(PermissionError):
                fcntl.fcntl(own, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
            assert punch_hole(own) != 0
        os.close(keeps)
        assert os.pread(frame.fd, 6000, 0) == b"frame" * 1000
        server.release(frame)


def punch_hole(fd: int) -> int:
    import ctypes

    keep_size, punch = 1, 2
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.fallocate(fd, keep_size | punch, ctypes.c_long(0), ctypes.c_long(4096)))


def test_sessions_are_bounded(serve: Serve) -> None:
    server = serve(peers_max=2)
    with RawPeer.attached(server.path), RawPeer.attached(server.path), RawPeer(server.path) as third:
        assert third.refusal() is Refusal.BUSY
    server.wait_for_peers(0)
    with RawPeer.attached(server.path):
        pass


def test_sessions_of_one_process_are_bounded(serve: Serve) -> None:
    server = serve(peers_per_process_max=1)
    with RawPeer.attached(server.path), RawPeer(server.path) as second:
        assert second.refusal() is Refusal.BUSY


def test_who_says_nothing_is_sent_away(serve: Serve) -> None:
    server = serve(hello_s=0.01)
    with RawPeer(server.path) as peer:
        assert peer.refusal() is Refusal.PROTOCOL


def test_an_unknown_hose_is_refused(serve: Serve) -> None:
    server = serve(accepts=lambda name: name == "camera")
    with RawPeer.attached(server.path), RawPeer(server.path) as peer:
        peer.send(Hello(Role.PRODUCER, "microphone"))
        assert peer.refusal() is Refusal.UNKNOWN_HOSE


def test_another_user_is_refused_unless_allowed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = os.geteuid()
    monkeypatch.setattr("edgeagent.hose.local_socket.os.geteuid", lambda: uid + 1)
    with RawPeer(serve().path) as peer:
        assert peer.refusal() is Refusal.FOREIGN
    with RawPeer.attached(serve(allowed_uids=(uid,)).path):
        pass


OTHER_USER = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
os.setuid(65534)
sock.connect(sys.argv[1])
sys.stdout.buffer.write(sock.recv(128))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_a_process_of_another_user_is_refused() -> None:
    # Not in pytest's own directory, where other users may not look.
    with tempfile.TemporaryDirectory(dir="/tmp") as place, servers(Path(place)) as serve:
        Path(place).chmod(0o755)
        server = serve(allowed_uids=(1234,))
        command = [sys.executable, "-I", "-c", OTHER_USER, server.path]
        done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert done.stdout[40] == Refusal.FOREIGN


def test_a_node_without_descriptors_refuses_and_lives(serve: Serve) -> None:
    server = serve()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with bystander(server), RawPeer.attached(server.path) as peer:
        fd = memfd()
        highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
        filler = [os.dup(fd)]
        while filler[-1] < highest:
            filler.append(os.dup(fd))
        resource.setrlimit(resource.RLIMIT_NOFILE, (filler[-1] + 1, hard))
        try:
            peer.send(Publish(1, peer.generation, 0, 5), [fd])
            assert peer.refusal() is Refusal.BUSY
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in (fd, *filler):
            os.close(number)


def test_what_is_not_sealed_is_not_published(serve: Serve) -> None:
    server = serve()
    payload = SealedPayload(memfd(seals=0), 5)
    with pytest.raises(ValueError, match="not sealed"):
        server.publish("camera", payload)
    assert payload.releases == 1


def test_leaving_and_coming_back_leaves_nothing(serve: Serve) -> None:
    server = serve()
    for _ in range(50):
        with RawPeer.attached(server.path) as peer:
            peer.publish(memfd())
            peer.send(Bye())
        server.release(server.frame())
    server.wait_for_peers(0)
