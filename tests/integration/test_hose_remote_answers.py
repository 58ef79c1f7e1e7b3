"""What a listener may answer to a small transfer that is under way, and how its sender takes it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from edgeagent.hose import remote_stream
from edgeagent.hose.checksum import crc32_is_native
from edgeagent.hose.errors import AbortCode, LinkCut, LinkStalled, NoRoom
from edgeagent.hose.frames import (
    Abort,
    Accept,
    Ack,
    Again,
    Data,
    Done,
    Frame,
    Greeting,
    Hello,
    Offer,
    Welcome,
    decode,
    encode,
)
from edgeagent.hose.remote import Delivery, RemoteClient, RemoteListener
from edgeagent.hose.remote_link import Link
from edgeagent.hose.tickets import listener_proof
from tests.integration.hose_remote_rig import MIB, WAIT_S, Rig

pytestmark = pytest.mark.skipif(not crc32_is_native(), reason="frames go one by one without the extension")


class _Odd:
    """A listener by hand, over the connections that come: ``say(frame)`` is what it answers, None to hang up."""

    def __init__(self, rig: Rig, say: Any) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._ticket = rig.ticket()
        self._say = say
        self.connections = 0
        rig.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def client(self, rig: Rig, **settings: Any) -> RemoteClient:
        return rig.client(lambda: self._ticket, **settings)

    def _serve(self) -> None:
        while True:
            sock, _ = self._server.accept()
            with sock:
                if not self._connection(sock):
                    return

    def _connection(self, sock: socket.socket) -> bool:
        hello = self._greeted(sock)
        if hello is None:
            return False
        self.connections += 1
        proof = listener_proof(self._ticket.id, self._ticket.secret, hello.nonce, bytes(16))
        sock.sendall(encode(Welcome(proof, 1, 0, MIB, 1 << 40)))
        with suppress(OSError):
            while head := sock.recv(128, socket.MSG_WAITALL):
                frame = decode(head)
                if isinstance(frame, Data):
                    sock.recv(frame.stored, socket.MSG_WAITALL)
                answers: list[Frame] | None = self._say(frame)
                if answers is None:
                    return True
                sock.sendall(b"".join(map(encode, answers)))
        return True

    def _greeted(self, sock: socket.socket) -> Hello | None:
        with suppress(OSError):
            sock.sendall(encode(Greeting(bytes(16), 1 | 4)))
            if head := sock.recv(128, socket.MSG_WAITALL):
                hello = decode(head)
                assert isinstance(hello, Hello)
                return hello
        return None

    def close(self) -> None:
        with socket.create_connection(self._server.getsockname()):
            pass
        self._thread.join(WAIT_S)
        self._server.close()


def _friendly(frame: Frame) -> list[Frame]:
    match frame:
        case Offer(transfer, generation, total):
            return [Accept(transfer, generation, 0, total)]
        case Done(transfer, generation):
            return [Ack(transfer, generation)]
    return []


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig() as made:
        yield made


def test_a_listener_that_hangs_up_at_the_end_is_given_up(rig: Rig) -> None:
    ends = [0]

    def say(frame: Frame) -> list[Frame] | None:
        if isinstance(frame, Done):
            ends[0] += 1
            return _friendly(frame) if ends[0] == 1 else None
        return _friendly(frame)

    odd = _Odd(rig, say)
    try:
        client = odd.client(rig, retries=2)
        rig.run(client.send(b"1"))
        with pytest.raises(LinkCut):
            rig.run(client.send(b"2"))
        assert odd.connections == 3  # two more
    finally:
        rig.run(client.close())
        odd.close()


@pytest.mark.parametrize("is_accepted", [True, False])
def test_a_listener_that_says_nothing_is_a_stall(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, *, is_accepted: bool
) -> None:
    """After as long as is right for what does not come; the other bound is longer than the test waits."""
    monkeypatch.setattr(remote_stream, "ANSWER_S", 0.0)  # all answers come while the loop watches
    bounds = {"stall_s": 2 * WAIT_S, "ack_s": 0.2} if is_accepted else {"stall_s": 0.2, "ack_s": 2 * WAIT_S}
    ends = [0]

    def say(frame: Frame) -> list[Frame]:
        ends[0] += isinstance(frame, Done)
        if not ends[0] or (ends[0] == 1 and isinstance(frame, Done)):
            return _friendly(frame)
        return _friendly(frame) if is_accepted and isinstance(frame, Offer) else []

    odd = _Odd(rig, say)
    try:
        client = odd.client(rig, retries=0, **bounds)
        rig.run(client.send(b"1"))
        with pytest.raises(LinkStalled, match="acknowledgement" if is_accepted else "answer"):
            rig.run(client.send(b"2"))
    finally:
        rig.run(client.close())
        odd.close()


def test_what_is_asked_for_again_is_sent_by_the_thread(rig: Rig) -> None:
    asked: list[bytes] = []

    def say(frame: Frame) -> list[Frame]:
        match frame:
            case Data(transfer, generation, offset, length) if len(asked) == 1:
                asked.append(transfer)
                return [Again(transfer, generation, offset, length)]
            case Done(transfer, generation) if len(asked) == 2:
                return []  # it is to come once more
            case Data(transfer, generation) if len(asked) == 2:
                asked.append(transfer)
                return []
            case Offer(transfer) if not asked:
                asked.append(transfer)
        return _friendly(frame)

    def say_all(frame: Frame) -> list[Frame]:
        answers = say(frame)
        if isinstance(frame, Data) and len(asked) == 3:
            answers = [Ack(frame.transfer, frame.generation)]
        return answers

    odd = _Odd(rig, say_all)
    try:
        client = odd.client(rig)
        rig.run(client.send(b""))  # opens the connection, and is number one
        report = rig.run(client.send(b"12345"))
        assert (report.sent_bytes, report.connections) == (10, 0)
    finally:
        rig.run(client.close())
        odd.close()


def test_a_refusal_while_the_data_are_under_way(rig: Rig) -> None:
    offers = [0]

    def say(frame: Frame) -> list[Frame]:
        if isinstance(frame, Offer):
            offers[0] += 1
            if offers[0] == 2:
                return [Abort(frame.transfer, AbortCode.NO_ROOM, "full")]
        return _friendly(frame) if offers[0] == 1 else []

    odd = _Odd(rig, say)
    try:
        client = odd.client(rig)
        rig.run(client.send(b"1"))
        with pytest.raises(NoRoom, match="full"):
            rig.run(client.send(bytes(MIB)))
    finally:
        rig.run(client.close())
        odd.close()


def test_who_answers_late_is_not_waited_for_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_stream, "UNANSWERED_TRANSFERS", 2)
    exchange, waits = Link.exchange, []

    def watched(self: Link, *args: Any) -> Any:
        waits.append(args[-1] > 0)
        found = exchange(self, *args)
        return found._replace(answers=0) if len(waits) == 1 else found

    # The rig's application takes it on the loop that would wait: the answer is never soon enough.
    monkeypatch.setattr(Link, "exchange", watched)
    client = rig.client()
    for _ in range(7):
        rig.run(client.send(b"1"))
    assert waits == [True, False, False, True, False, False]


def test_a_cancelled_wait_lets_go_of_the_bytes_and_the_connection(rig: Rig) -> None:
    go_on = threading.Event()

    async def cancel(client: RemoteClient, content: bytearray) -> None:
        sending = asyncio.create_task(client.send(content))
        await asyncio.to_thread(_began.acquire)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

    _began = threading.Semaphore(0)

    def deliver(_: Delivery) -> None:
        _began.release()
        go_on.wait(WAIT_S)

    client = rig.client()
    rig.run(client.send(b"1"))
    listener: RemoteListener = rig.listener
    listener._app_deliver = deliver
    content = bytearray(b"2")
    rig.run(cancel(client, content))
    content += b"a memoryview would forbid this"
    go_on.set()
    assert rig.run(client.send(b"3")).connections == 1


def test_a_closed_client_sends_nothing(rig: Rig) -> None:
    client = rig.client()
    rig.run(client.send(b"1"))
    rig.run(client.close())
    with pytest.raises(LinkCut, match="closed"):
        rig.run(client.send(b"2"))


def test_a_wait_that_begins_too_late_is_over_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    real = remote_stream.Stream.go_on_from

    def late(self: remote_stream.Stream, exchanged: Any, job: remote_stream.Job) -> bool:
        is_sent = real(self, exchanged, job)
        assert job.sender is not None
        job.sender.deadline_s = 0.0
        return is_sent

    monkeypatch.setattr(remote_stream.Stream, "go_on_from", late)
    monkeypatch.setattr(remote_stream, "ANSWER_S", 0.0)
    client = rig.client()
    rig.run(client.send(b"1"))
    assert rig.run(client.send(b"2")).resumes >= 1  # over another connection, on which nothing goes along
    assert [rig.delivered(), rig.delivered()] == [b"1", b"2"]
    assert rig.deliveries.empty()
