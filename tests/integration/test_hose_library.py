"""libedgehose.so against wrong use and against hostile nodes: errors, never a crash."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from edgeagent.hose import client
from edgeagent.hose.client import Hose, library_path
from edgeagent.hose.messages import (
    Bye,
    Credit,
    Message,
    Publish,
    Refusal,
    Welcome,
    encode,
    refused,
)
from tests.integration.hose_raw_peer import ALL_SEALS, RawPeer, memfd
from tests.integration.hose_server import WAIT_S, Serve, servers

pytestmark = pytest.mark.skipif(not library_path().is_file(), reason="libedgehose.so is not built")

GENERATION = 7
PRODUCER, CONSUMER = 1, 2


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with servers(tmp_path) as start:
        yield start


@pytest.fixture
def library() -> Any:
    return client._Library.load()


class Raw:
    """The C functions, without the binding's own checks."""

    def __init__(self, library: Any) -> None:
        self.ffi, self.lib = library.ffi, library.lib

    def attach(self, path: str, role: int = PRODUCER) -> Any:
        out = self.ffi.new("edgehose **")
        assert self.lib.edgehose_attach(path.encode(), b"camera", role, out) == 0
        return out[0]

    def loan(self, handle: Any, size: int = 4096) -> Any:
        out = self.ffi.new("void **")
        assert self.lib.edgehose_loan(handle, size, out) == 0
        return out[0]

    def error(self) -> str:
        return str(self.ffi.string(self.lib.edgehose_error(self.ffi.NULL)).decode())


def test_null_is_an_error_everywhere(library: Any) -> None:
    raw = Raw(library)
    lib, null = raw.lib, raw.ffi.NULL
    out, pointer, size = raw.ffi.new("edgehose **"), raw.ffi.new("void **"), raw.ffi.new("size_t *")
    const = raw.ffi.new("const void **")
    calls: list[Callable[[], int]] = [
        lambda: lib.edgehose_attach(null, b"camera", PRODUCER, out),
        lambda: lib.edgehose_attach(b"x", null, PRODUCER, out),
        lambda: lib.edgehose_attach(b"x", b"camera", PRODUCER, null),
        lambda: lib.edgehose_attach(b"x", b"camera", 3, out),
        lambda: lib.edgehose_attach(b"x", b"Camera!", PRODUCER, out),
        lambda: lib.edgehose_attach(b"x", b"c" * 64, PRODUCER, out),
        lambda: lib.edgehose_attach(b"x" * 200, b"camera", PRODUCER, out),
        lambda: lib.edgehose_loan(null, 1, pointer),
        lambda: lib.edgehose_publish(null, null, 1, null),
        lambda: lib.edgehose_set_timeout(null, 1),
        lambda: lib.edgehose_abandon(null, null),
        lambda: lib.edgehose_take(null, const, size, 0),
        lambda: lib.edgehose_release(null, null),
        lambda: lib.edgehose_close(null),
    ]
    for call in calls:
        assert call() == -errno.EINVAL
        assert raw.error()
    assert lib.edgehose_attach(b"/nowhere/hose.sock", b"camera", PRODUCER, out) == -errno.ENOENT
    assert out[0] == null


def test_foreign_pointers_and_second_releases_are_errors(library: Any, serve: Serve) -> None:
    raw, server = Raw(library), serve()
    lib, null = raw.lib, raw.ffi.NULL
    handle, other = raw.attach(server.path), raw.attach(server.path)
    loan = raw.loan(handle)
    own = raw.ffi.new("char[]", 64)
    for pointer in (null, own, loan + 1, raw.ffi.cast("void *", 1), raw.loan(other)):
        assert lib.edgehose_publish(handle, pointer, 1, null) == -errno.EINVAL
        assert lib.edgehose_abandon(handle, pointer) == -errno.EINVAL
        assert lib.edgehose_release(handle, pointer) == -errno.EINVAL
    assert lib.edgehose_release(handle, loan) == -errno.EINVAL  # a loan is not a frame
    for size in (0, 4097, 1 << 63):
        assert lib.edgehose_publish(handle, loan, size, null) == -errno.EINVAL
    assert lib.edgehose_abandon(handle, loan) == 0
    assert lib.edgehose_abandon(handle, loan) == -errno.EINVAL
    assert lib.edgehose_publish(handle, loan, 1, null) == -errno.EINVAL
    loan = raw.loan(handle)
    assert lib.edgehose_publish(handle, loan, 1, null) == 0
    assert lib.edgehose_publish(handle, loan, 1, null) == -errno.EINVAL
    server.release(server.frame())
    for each in (handle, other):
        assert lib.edgehose_close(each) == 0
        assert lib.edgehose_close(each) == -errno.EINVAL
    assert lib.edgehose_loan(handle, 1, raw.ffi.new("void **")) == -errno.EINVAL
    assert lib.edgehose_close(raw.ffi.cast("edgehose *", 1)) == -errno.EINVAL


def test_roles_and_bounds(library: Any, serve: Serve) -> None:
    raw, server = Raw(library), serve(peers_per_process_max=80, peers_max=80)
    lib = raw.lib
    pointer, const, size = raw.ffi.new("void **"), raw.ffi.new("const void **"), raw.ffi.new("size_t *")
    producer, consumer = raw.attach(server.path), raw.attach(server.path, CONSUMER)
    assert lib.edgehose_take(producer, const, size, 0) == -errno.EINVAL
    assert lib.edgehose_loan(consumer, 1, pointer) == -errno.EINVAL
    assert lib.edgehose_loan(producer, 0, pointer) == -errno.EINVAL
    assert lib.edgehose_loan(producer, (1 << 64) - 1, pointer) == -errno.EFBIG
    assert lib.edgehose_loan(producer, 1 << 50, pointer) in {-errno.ENOMEM, -errno.EINVAL, -errno.EFBIG}
    assert lib.edgehose_take(consumer, const, size, 0) == -errno.EAGAIN
    loans = [raw.loan(producer, 1) for _ in range(64)]
    assert len(set(loans)) == 64
    assert lib.edgehose_loan(producer, 1, pointer) == -errno.ENOBUFS
    handles = [raw.attach(server.path) for _ in range(62)]
    out = raw.ffi.new("edgehose **")
    assert lib.edgehose_attach(server.path.encode(), b"camera", PRODUCER, out) == -errno.EMFILE
    for handle in (producer, consumer, *handles):
        assert lib.edgehose_close(handle) == 0


def test_publishing_without_waiting_keeps_the_loan_when_there_is_no_credit(
    library: Any, serve: Serve
) -> None:
    raw, server = Raw(library), serve(credits_max=1)
    handle, seq = raw.attach(server.path), raw.ffi.new("uint64_t *")
    assert raw.lib.edgehose_try_publish(handle, raw.loan(handle), 1, seq) == 0
    assert seq[0] == 1
    held, loan = server.frame(), raw.loan(handle)
    assert raw.lib.edgehose_try_publish(handle, loan, 1, seq) == -errno.EAGAIN
    assert raw.error() == "the node has not returned a credit yet"
    assert raw.lib.edgehose_set_timeout(handle, 1) == 0
    assert raw.lib.edgehose_publish(handle, loan, 1, seq) == -errno.EAGAIN
    server.release(held)
    assert raw.lib.edgehose_set_timeout(handle, -1) == 0
    assert raw.lib.edgehose_publish(handle, loan, 1, seq) == 0
    assert seq[0] == 2
    server.release(server.frame())
    assert raw.lib.edgehose_close(handle) == 0


def test_the_binding_declares_what_the_header_does() -> None:
    header = (Path(__file__).parents[2] / "native/include/edgehose.h").read_text()
    prototypes = re.findall(r"^EDGEHOSE_API ([^;]+;)", header, re.MULTILINE)
    declared = [line for line in client._DECLARATIONS.splitlines() if "(" in line]
    assert sorted(prototypes) == sorted(declared)


def test_a_published_frame_is_immutable(library: Any, serve: Serve) -> None:
    server = serve()
    with Hose.attach(server.path, "camera") as hose:
        loan = hose.loan(1 << 21)
        address = int(library.ffi.cast("uintptr_t", loan._pointer))
        assert address % (1 << 21) == 0
        loan.data[:3] = b"abc"
        loan.publish(3)
        frame = server.frame()
        assert fcntl.fcntl(frame.fd, fcntl.F_GET_SEALS) & ALL_SEALS == ALL_SEALS
        with pytest.raises(PermissionError):
            mmap.mmap(frame.fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        # No mapping of it is left in this process.
        inode = os.fstat(frame.fd).st_ino
        assert f" {inode} " not in Path("/proc/self/maps").read_text()
        server.release(frame)


def test_buffers_are_kept_while_anybody_looks_at_them(serve: Serve) -> None:
    server = serve()
    with Hose.attach(server.path, "camera") as hose:
        loan = hose.loan(10)
        piece = loan.data[2:4]
        for give_away in (loan.publish, loan.abandon, hose.close):
            with pytest.raises(BufferError):
                give_away()
        piece[:] = b"hi"
        del piece
        assert loan.publish() == 1
        with pytest.raises(ValueError, match="given away"):
            loan.data  # noqa: B018
        with pytest.raises(ValueError, match="given away"):
            loan.publish()
        frame = server.frame()
        assert os.pread(frame.fd, 10, 0) == b"\0\0hi" + bytes(6)
        server.release(frame)
        hose.loan(10).abandon()
    with pytest.raises(ValueError, match="closed"):
        hose.loan(1)


def test_a_close_wakes_whoever_waits(serve: Serve) -> None:
    server = serve()
    hose = Hose.attach(server.path, "camera", "consumer")
    seen: list[str] = []

    def wait() -> None:
        try:
            hose.take(WAIT_S)
        except OSError as error:
            seen.append(type(error).__name__)
        except ValueError:
            seen.append("ConnectionResetError")  # closed before the call

    waiting = threading.Thread(target=wait)
    waiting.start()
    hose.close()
    waiting.join(WAIT_S)
    assert seen in (["ConnectionResetError"], ["OSError"])


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (Refusal.FOREIGN, PermissionError),
        (Refusal.UNKNOWN_HOSE, FileNotFoundError),
        (Refusal.BUSY, OSError),
        (Refusal.PROTOCOL, OSError),
    ],
)
def test_a_refusal_is_told_with_its_text(tmp_path: Path, code: Refusal, error: type[OSError]) -> None:
    with Node(tmp_path) as node:
        node.script = [refused(code, "because\x1b[2J")]
        with pytest.raises(error, match=r"the node refused: because\?\[2J"):
            Hose.attach(node.path, "camera")


class Node:
    """A node that sends what it is told after the hello, then waits for the end; ``got`` is what came."""

    def __init__(self, place: Path) -> None:
        self.path = str(place / "node.sock")
        self.script: list[Message | bytes | tuple[Message, list[int]]] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.settimeout(WAIT_S)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        sock, _ = self._listener.accept()
        with sock:
            sock.settimeout(WAIT_S)
            peer = RawPeer.__new__(RawPeer)
            peer.sock = sock
            peer.receive()
            for step in self.script:
                message, fds = step if isinstance(step, tuple) else (step, [])
                with contextlib.suppress(BrokenPipeError):  # it left at what came before
                    peer.send(message, fds)
                for fd in fds:
                    os.close(fd)
            while (received := peer.receive()) != (None, None):
                if received[1] is not None:
                    os.close(received[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(WAIT_S)
        self._listener.close()


def frame(fd: int, size: int = 5, offset: int = 0, generation: int = GENERATION) -> tuple[Message, list[int]]:
    return Publish(1, generation, offset, size), [fd]


def two_fds() -> tuple[Message, list[int]]:
    return Publish(1, GENERATION, 0, 5), [memfd(), memfd()]


BAD_FRAMES: dict[str, Callable[[], Any]] = {
    "unsealed": lambda: frame(memfd(seals=0)),
    "without-write": lambda: frame(memfd(seals=ALL_SEALS & ~fcntl.F_SEAL_WRITE)),
    "too-small": lambda: frame(memfd(), 6),
    "offset": lambda: frame(memfd(), 1, 5),
    "overflow": lambda: frame(memfd(), (1 << 63) - 1, 1 << 63),
    "no-bytes": lambda: frame(memfd(), 0),
    "generation": lambda: frame(memfd(), generation=8),
    "file": lambda: frame(os.open(__file__, os.O_RDONLY)),
    "no-descriptor": lambda: Publish(1, GENERATION, 0, 5),
    "two-descriptors": two_fds,
    "truncated": lambda: encode(Bye())[:50],
    "too-long": lambda: encode(Bye()) + b"\0",
    "another-version": lambda: encode(Bye()).replace(b"EHOS\1", b"EHOS\2"),
    "nonsense": lambda: b"nonsense",
    "credit": lambda: Credit(1, GENERATION),
    "bye": Bye,
}


@pytest.mark.parametrize("kind", BAD_FRAMES)
def test_a_consumer_takes_no_bad_frame(tmp_path: Path, kind: str) -> None:
    with Node(tmp_path) as node:
        node.script = [Welcome(8, GENERATION), BAD_FRAMES[kind]()]
        with Hose.attach(node.path, "camera", "consumer") as hose:
            for _ in range(2):  # and it stays that way
                with pytest.raises(OSError, match=r"the node|no message") as caught:
                    hose.take(WAIT_S)
                assert caught.value.errno in {errno.EBADMSG, errno.EPROTO, errno.ECONNRESET}


@pytest.mark.parametrize(
    "credit", [Credit(9, GENERATION), Credit(0, GENERATION), Credit(1, 8), Welcome(8, 7)]
)
def test_a_producer_believes_no_forged_credit(tmp_path: Path, credit: Message) -> None:
    with Node(tmp_path) as node:
        node.script = [Welcome(8, GENERATION), credit, credit]
        with Hose.attach(node.path, "camera") as hose:

            def publish_more_than_there_are_credits() -> None:
                for _ in range(9):
                    hose.loan(1).publish(timeout_s=WAIT_S)

            with pytest.raises(OSError, match="a credit that was not out") as caught:
                publish_more_than_there_are_credits()
        assert caught.value.errno == errno.EPROTO


def test_frames_at_any_offset_are_read(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40
    with Node(tmp_path) as node:
        node.script = [Welcome(8, GENERATION)]
        node.script += [
            (Publish(1, GENERATION, at, 300), [memfd(content)]) for at in (0, 1, 4095, 4096, 5000)
        ]
        with Hose.attach(node.path, "camera", "consumer") as hose:
            for at in (0, 1, 4095, 4096, 5000):
                with hose.take(WAIT_S) as taken:
                    assert taken.data.readonly
                    assert bytes(taken.data) == content[at : at + 300]


def test_without_the_library_the_binding_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGEHOSE_LIB", str(tmp_path / "none.so"))
    with pytest.raises(ImportError, match=r"make native builds it"):
        Hose.attach(tmp_path / "x.sock", "camera")
