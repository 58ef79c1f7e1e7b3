"""Bulk frames of the extension against the frames and checksums in Python."""

from __future__ import annotations

import errno
import random
import socket
import struct
import threading
import zlib
from typing import Any

import pytest

from edgeagent import native
from edgeagent.hose.frames import FRAME_BYTES, Data, Done, Offer, decode, encode, identity_of
from edgeagent.hose.remote_runs import Came

pytestmark = pytest.mark.skipif(native.core is None, reason="the extension is not built")

OFFER = Offer(b"t" * 16, 7, 1 << 20, 0, 1 << 20)
STALL_S = 5.0


@pytest.fixture
def pair() -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 5, 0))
        yield ours, theirs


def head(offset: int, payload: bytes, **more: Any) -> bytes:
    check = zlib.crc32(payload).to_bytes(4, "little") + bytes(12)
    fields = {"length": len(payload), "stored": len(payload), "flags": 0, "check": check, **more}
    return encode(Data(OFFER.transfer, OFFER.generation, offset, **fields))


def receive(
    sock: socket.socket, into: bytearray, *, next_: int = 0, stop: int = 0, most: int = 1 << 20
) -> Any:
    core: Any = native.core
    raw = bytearray(FRAME_BYTES)
    stop = stop or len(into)
    came, end, error = core.receive_frames(
        sock.fileno(), raw, into, identity_of(OFFER), next_, stop, len(into), most, STALL_S
    )
    return Came(came), end, error, bytes(raw)


@pytest.mark.parametrize(
    "count", [0, 1, 15, 16, 63, 64, 65, 127, 255, 256, 511, 512, 513, 767, 768, 4096, 100_003]
)
def test_the_checksum_is_zlibs(count: int) -> None:
    core: Any = native.core
    data = random.Random(count).randbytes(count + 3)
    for start in range(3):
        part = memoryview(data)[start : start + count]
        assert core.crc32(part) == zlib.crc32(part)
        assert core.crc32(part, 0x12345678) == zlib.crc32(part, 0x12345678)


def test_frames_arrive_as_python_would_have_made_them(pair: Any) -> None:
    core: Any = native.core
    ours, theirs = pair
    data = random.Random(1).randbytes(300_000)
    done = encode(Done(OFFER.transfer, OFFER.generation, OFFER.end))
    sender = threading.Thread(
        target=core.send_frames,
        args=(ours.fileno(), identity_of(OFFER), data, 1000, 300_000, 65536, b"", done, 0, True, STALL_S),
    )
    sender.start()
    at = 1000
    while at < len(data):
        frame = decode(theirs.recv(FRAME_BYTES, socket.MSG_WAITALL))
        assert isinstance(frame, Data)
        payload = theirs.recv(frame.length, socket.MSG_WAITALL)
        assert payload == data[at : at + 65536]
        assert encode(frame) == head(at, payload)
        at += frame.length
    assert theirs.recv(FRAME_BYTES, socket.MSG_WAITALL) == done
    sender.join()


def test_frames_are_received_to_their_places(pair: Any) -> None:
    core: Any = native.core
    ours, theirs = pair
    data, into = random.Random(2).randbytes(1 << 20), bytearray(1 << 20)
    sender = threading.Thread(
        target=core.send_frames,
        args=(ours.fileno(), identity_of(OFFER), data, 0, 1 << 20, 100_000, b"", b"", 0, True, STALL_S),
    )
    sender.start()
    came, end, _, _ = receive(theirs, into, stop=250_000)
    assert (came, end) == (Came.ALL, 300_000)  # whole frames
    came, end, _, _ = receive(theirs, into, next_=end)
    assert (came, end) == (Came.ALL, 1 << 20)
    assert bytes(into) == data
    sender.join()


@pytest.mark.parametrize(
    "second",
    [
        head(5, b"later"),
        head(6, b"world", flags=2),
        head(5, b"w" * 5, length=9, flags=1),
        head(5, b"x" * 2000),
        encode(Done(OFFER.transfer, OFFER.generation, 5)),
        encode(Data(b"u" * 16, 7, 5, 5, 5, 0, bytes(16))),
        encode(Data(OFFER.transfer, 8, 5, 5, 5, 0, bytes(16))),
        head(5, b"world")[:-1] + b"?",
        b"X" + head(5, b"world")[1:],
        head(5, b"world", check=bytes(15) + b"!"),
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_python(pair: Any, second: bytes) -> None:
    ours, theirs = pair
    into = bytearray(10)
    ours.sendall(head(0, b"hello") + b"hello" + second + b"world")
    came, end, _, raw = receive(theirs, into, most=1000)
    if second == head(5, b"later"):  # nothing is wrong with its head
        assert (came, end, raw) == (Came.DAMAGED, 5, second)
        return
    assert (came, end, raw) == (Came.HEAD, 5, second)
    assert bytes(into) == b"hello" + bytes(5)
    assert theirs.recv(5) == b"world"


def test_a_closed_connection(pair: Any) -> None:
    ours, theirs = pair
    ours.sendall(head(0, b"hello") + b"hel")
    ours.close()
    assert receive(theirs, bytearray(10))[:2] == (Came.END, 0)


def test_a_socket_that_fails(pair: Any) -> None:
    core: Any = native.core
    ours, theirs = pair
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 1000))
    assert receive(theirs, bytearray(10))[:3] == (Came.FAILED, 0, errno.EAGAIN)
    theirs.close()
    sent = core.send_frames(
        ours.fileno(), identity_of(OFFER), bytes(10), 0, 10, 4, b"", b"", 0, True, STALL_S
    )
    assert sent == (errno.EPIPE, 0, 0)


def test_a_trickle_is_a_stall(pair: Any) -> None:
    core: Any = native.core
    ours, theirs = pair
    ours.sendall(head(0, bytes(300_000)) + b"x")
    into, raw = bytearray(300_000), bytearray(FRAME_BYTES)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 1000))
    came, end, error = core.receive_frames(
        theirs.fileno(), raw, into, identity_of(OFFER), 0, 300_000, 300_000, 1 << 20, 1e-6
    )
    assert (Came(came), end) == (Came.FAILED, 0)
    assert error in (errno.ETIMEDOUT, errno.EAGAIN)


@pytest.mark.parametrize(
    "bad",
    [
        {"head": bytes(5)},
        {"identity": bytes(5)},
        {"stop": 11},
        {"next_": 8, "stop": 4},
        {"credit": 100},
        {"view": bytes(10)},
    ],
)
def test_ranges_that_are_none_are_refused(pair: Any, bad: dict[str, Any]) -> None:
    core: Any = native.core
    given = {
        "head": bytearray(FRAME_BYTES),
        "view": bytearray(10),
        "identity": identity_of(OFFER),
        "next_": 0,
        "stop": 10,
        "credit": 10,
        **bad,
    }
    with pytest.raises(ValueError, match=r"range|written"):
        core.receive_frames(pair[0].fileno(), *given.values(), 1 << 20, STALL_S)
    with pytest.raises(ValueError, match="range"):
        core.send_frames(
            pair[0].fileno(), identity_of(OFFER), bytes(10), 0, 11, 4, b"", b"", 0, True, STALL_S
        )
