"""Small transfers by the extension, in one call on each side, against the frames in Python."""

from __future__ import annotations

import errno
import random
import socket
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from edgeagent import native
from edgeagent.hose.frames import (
    FRAME_BYTES,
    NO_DIGEST,
    NO_ID,
    Abort,
    Accept,
    Ack,
    Data,
    Done,
    Offer,
    Ping,
    Window,
    encode,
    identity_of,
)
from edgeagent.hose.remote_runs import Came

pytestmark = pytest.mark.skipif(native.core is None, reason="the extension is not built")

STALL_S = 5.0
WAIT_S = 5.0
CONTENT = random.Random(1).randbytes(100_000)
OFFER = Offer(b"t" * 16, 7, len(CONTENT), 0, len(CONTENT))
ACCEPT, ACK = Accept(OFFER.transfer, 7, 0, OFFER.total), Ack(OFFER.transfer, 7)
DONE = Done(OFFER.transfer, 7, OFFER.total)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    with ours, theirs:
        for sock in (ours, theirs):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield ours, theirs


def _data(offset: int, payload: bytes, **more: Any) -> bytes:
    fields = {"length": len(payload), "stored": len(payload), "flags": 0, **more}
    check = zlib.crc32(payload).to_bytes(4, "little") + bytes(12)
    return encode(Data(OFFER.transfer, 7, offset, check=check, **fields)) + payload


def _stream(ahead: int, frame_bytes: int) -> bytes:
    """What goes along with the offer, as Python makes it."""
    frames = [_data(at, CONTENT[at : min(at + frame_bytes, ahead)]) for at in range(0, ahead, frame_bytes)]
    end = [encode(DONE)] if ahead == OFFER.total else []
    return b"".join([encode(OFFER), *frames, *end])


def _read(sock: socket.socket, count: int) -> bytes:
    sock.settimeout(WAIT_S)
    got = b""
    while len(got) < count:
        more = sock.recv(count - len(got))
        assert more
        got += more
    return got


def _exchange(sock: socket.socket, *, ahead: int = OFFER.total, answer_s: float = 0.0, **more: Any) -> Any:
    core: Any = native.core
    given = {"identity": identity_of(OFFER), "sha256": NO_DIGEST, "view": CONTENT, "ahead": ahead, **more}
    return core.exchange(sock.fileno(), *given.values(), 30_000, answer_s)


@pytest.mark.parametrize("ahead", [OFFER.total, 60_000, 1])
def test_what_goes_along_is_as_python_would_have_made_it(pair: Any, ahead: int) -> None:
    ours, theirs = pair
    assert _exchange(ours, ahead=ahead) == (0, ahead, 0, 0)
    ours.shutdown(socket.SHUT_WR)
    assert _read(theirs, len(wanted := _stream(ahead, 30_000))) == wanted
    assert theirs.recv(1) == b""


def test_nothing_is_a_transfer_too(pair: Any) -> None:
    ours, theirs = pair
    assert _exchange(ours, ahead=0, view=b"") == (0, 0, 0, 0)
    wanted = encode(Offer(OFFER.transfer, 7, 0, 0, 0)) + encode(Done(OFFER.transfer, 7, 0))
    assert _read(theirs, len(wanted)) == wanted


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        ([ACCEPT, ACK], 2),
        ([ACCEPT, ACK, Ping(1)], 2),
        ([ACCEPT], 1),
        ([ACCEPT, Window(OFFER.transfer, 7, OFFER.total)], 0),  # taken together or not at all
        ([Accept(OFFER.transfer, 7, 1, OFFER.total)], 0),
        ([Accept(OFFER.transfer, 8, 0, OFFER.total)], 0),
        ([ACK], 0),
        ([Abort(NO_ID, 1, "no")], 0),
        ([], 0),
    ],
)
def test_answers_that_are_not_the_expected_ones_are_left(pair: Any, said: list[Any], answers: int) -> None:
    ours, theirs = pair
    theirs.sendall(b"".join(map(encode, said)))
    assert _exchange(ours, answer_s=0.05)[3] == answers
    if left := said[answers:]:
        assert _read(ours, FRAME_BYTES) == encode(left[0])


def test_answers_may_come_apart_and_late(pair: Any) -> None:
    ours, theirs = pair

    def answer() -> None:
        _read(theirs, len(_stream(OFFER.total, 30_000)))
        theirs.sendall(encode(ACCEPT))
        theirs.sendall(encode(ACK))

    thread = threading.Thread(target=answer)
    thread.start()
    assert _exchange(ours, answer_s=WAIT_S) == (0, OFFER.total, 0, 2)
    thread.join()


def test_half_an_answer_is_left(pair: Any) -> None:
    ours, theirs = pair
    theirs.sendall(encode(ACCEPT)[:100])
    assert _exchange(ours, answer_s=WAIT_S)[3] == 0
    theirs.sendall(encode(ACCEPT)[100:])
    assert _read(ours, FRAME_BYTES) == encode(ACCEPT)


def test_what_the_kernel_does_not_take_is_sent_from_where_it_stopped() -> None:
    core: Any = native.core
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        ours.setblocking(False)  # as a loop that watches it does
        error, offset, skip, answers = _exchange(ours, answer_s=WAIT_S)
        assert (error, answers) == (errno.EAGAIN, 0)
        assert skip > 0
        ours.setblocking(True)
        before = encode(OFFER) if not offset else b""
        rest = threading.Thread(
            target=core.send_frames,
            args=(ours.fileno(), identity_of(OFFER), CONTENT, offset, OFFER.total, 30_000),
            kwargs={
                "before": before,
                "after": encode(DONE),
                "skip": skip,
                "may_wait": True,
                "stall_s": STALL_S,
            },
        )
        rest.start()
        wanted = _stream(OFFER.total, 30_000)
        assert _read(theirs, len(wanted)) == wanted
        rest.join()


def test_a_connection_that_is_gone(pair: Any) -> None:
    ours, _ = pair
    ours.shutdown(socket.SHUT_WR)
    assert _exchange(ours, answer_s=WAIT_S)[0] == errno.EPIPE


@pytest.mark.parametrize("bad", [{"identity": b"?"}, {"sha256": b"?"}, {"ahead": 100_001}])
def test_what_cannot_be_exchanged_is_refused(pair: Any, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="identity, or a range"):
        _exchange(pair[0], **bad)


def _receive(sock: socket.socket, room: int = OFFER.total, within_s: float = WAIT_S) -> Any:
    core: Any = native.core
    offer, head, answers, into = (
        bytearray(count) for count in (FRAME_BYTES, FRAME_BYTES, 2 * FRAME_BYTES, room)
    )
    came, end, _, is_offer = core.receive_along(
        sock.fileno(), offer, head, answers, into, 1 << 20, within_s, STALL_S
    )
    return Came(came), end, is_offer, (bytes(offer), bytes(head), bytes(answers), bytes(into))


@pytest.mark.parametrize("room", [OFFER.total, OFFER.total + 1, 2 * OFFER.total - 1])
def test_what_comes_with_its_offer_is_there_in_one_call(pair: Any, room: int) -> None:
    ours, theirs = pair
    assert _exchange(ours)[0] == 0
    came, end, is_offer, (offer, _, answers, into) = _receive(theirs, room)
    assert (came, end, is_offer) == (Came.WHOLE, OFFER.total, True)
    assert offer == encode(OFFER)
    assert answers == encode(ACCEPT) + encode(ACK)
    assert into[: OFFER.total] == CONTENT
    assert not any(into[OFFER.total :])


@pytest.mark.parametrize(
    "head",
    [
        Ping(3),
        Offer(OFFER.transfer, 7, OFFER.total + 1, 0, OFFER.total + 1),  # there is no room
        Offer(OFFER.transfer, 7, OFFER.total // 2, 0, OFFER.total // 2),  # too much room
        Offer(OFFER.transfer, 7, 0, 0, 0),
        Offer(OFFER.transfer, 7, OFFER.total, 0, OFFER.total // 2, 0, 2),
        Offer(OFFER.transfer, 7, OFFER.total, 0, OFFER.total, sha256=b"h" * 32),
    ],
)
def test_other_heads_are_left_to_python(pair: Any, head: Any) -> None:
    ours, theirs = pair
    ours.sendall(encode(head) + b"more")
    came, _, is_offer, (_, got, _, into) = _receive(theirs)
    assert (came, is_offer, got) == (Came.HEAD, False, encode(head))
    assert not any(into)
    assert _read(theirs, 4) == b"more"


@pytest.mark.parametrize(
    "wrong", [encode(OFFER)[:-1] + b"?", encode(OFFER).replace(OFFER.transfer, NO_ID), bytes(FRAME_BYTES)]
)
def test_an_offer_that_is_none_is_left_to_python(pair: Any, wrong: bytes) -> None:
    ours, theirs = pair
    ours.sendall(wrong + b"more")
    assert _receive(theirs)[:3] == (Came.HEAD, 0, False)


def test_an_offer_without_data_is_left_to_python(pair: Any) -> None:
    ours, theirs = pair
    ours.sendall(encode(OFFER))
    assert _receive(theirs)[:3] == (Came.HEAD, 0, False)


@pytest.mark.parametrize(
    ("stream", "came", "end"),
    [
        (_data(0, CONTENT[:40_000]), Came.PAUSED, 40_000),
        (_data(0, CONTENT), Came.PAUSED, OFFER.total),  # the end is to come
        (_data(0, CONTENT) + encode(Done(OFFER.transfer, 7, 5)), Came.HEAD, OFFER.total),
        (_data(0, CONTENT[:9]) + _data(8, CONTENT[8:]), Came.HEAD, 9),
        (_data(0, CONTENT + b"!"), Came.HEAD, 0),  # more than was offered
        (_data(0, CONTENT[:9])[:-1] + b"?", Came.DAMAGED, 0),
        (encode(DONE), Came.HEAD, 0),
    ],
)
def test_what_is_out_of_the_ordinary_goes_on_in_python(
    pair: Any, stream: bytes, came: Came, end: int
) -> None:
    ours, theirs = pair
    ours.sendall(encode(OFFER) + stream)
    assert _receive(theirs)[:3] == (came, end, True)


def test_a_connection_that_ends_or_says_nothing(pair: Any) -> None:
    ours, theirs = pair
    assert _receive(theirs, within_s=0.0)[:3] == (Came.PAUSED, 0, False)
    ours.sendall(encode(OFFER) + _data(0, CONTENT[:10])[:-1])
    ours.close()
    assert _receive(theirs)[:3] == (Came.END, 0, True)
    assert _receive(theirs)[:3] == (Came.END, 0, False)


def test_a_head_within_a_time(pair: Any) -> None:
    core: Any = native.core
    ours, theirs = pair
    head = bytearray(FRAME_BYTES)
    assert Came(core.receive_head(theirs.fileno(), head, 0.001, STALL_S)[0]) is Came.PAUSED
    ours.sendall(encode(DONE))
    assert Came(core.receive_head(theirs.fileno(), head, WAIT_S, STALL_S)[0]) is Came.HEAD
    assert head == encode(DONE)
    ours.close()
    assert Came(core.receive_head(theirs.fileno(), head, WAIT_S, STALL_S)[0]) is Came.END
    with pytest.raises(ValueError, match="head"):
        core.receive_head(theirs.fileno(), bytearray(5), 0.0, STALL_S)
    with pytest.raises(ValueError, match="head"):
        core.receive_along(theirs.fileno(), head, head, head, head, 10, 0.0, STALL_S)


def test_an_answer_that_may_wait_does_not_wait_for_a_peer_that_waits_for_it(pair: Any) -> None:
    core: Any = native.core
    ours, theirs = pair
    ours.sendall(_data(0, CONTENT[:10]))  # and no more before the answer
    found: list[Any] = []

    def receive() -> None:
        head, into = bytearray(FRAME_BYTES), bytearray(OFFER.total)
        run = (0, OFFER.total, OFFER.total, 1 << 20, STALL_S, True, encode(ACCEPT))
        found.append(core.receive_frames(theirs.fileno(), head, into, identity_of(OFFER), *run))

    thread = threading.Thread(target=receive)
    thread.start()
    assert _read(ours, FRAME_BYTES) == encode(ACCEPT)
    ours.sendall(_data(10, CONTENT[10:]) + encode(DONE))
    thread.join()
    assert found == [(Came.HEAD, OFFER.total, 0)]
