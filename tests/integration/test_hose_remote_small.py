"""Small transfers between hosts: sent by the loop, received with their offers, and all that can go wrong with them."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from edgeagent import native
from edgeagent.hose import remote_session, remote_stream
from edgeagent.hose.checksum import crc32_is_native
from edgeagent.hose.errors import AbortCode, LinkCut, LinkStalled, NoRoom, TransferRefused
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
from edgeagent.hose.remote import Delivery, MemoryBuffer, RemoteClient, RemoteListener
from edgeagent.hose.remote_link import Link
from edgeagent.hose.tickets import client_proof, listener_proof
from edgeagent.model.errors import Busy
from tests.integration.hose_remote_rig import MIB, WAIT_S, RawPeer, Rig
from tests.integration.hose_wire import HANDSHAKE_BYTES, wire

pytestmark = pytest.mark.skipif(
    native.core is None or not crc32_is_native(), reason="frames go one by one without the extension"
)

FIRST, SECOND = b"transfer-number1", b"transfer-number2"


def _content(size: int) -> bytes:
    return (bytes(i % 251 for i in range(4096)) * (size // 4096 + 1))[:size]


@pytest.fixture
def along(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Of each offer, whether all of it had come along when it was looked at."""
    seen: list[bool] = []
    receive_whole, receive = remote_session.Session._receive_whole, remote_session.Session._receive

    def whole(self: Any, offer: Offer) -> None:
        seen.append(True)
        receive_whole(self, offer)

    def other(self: Any, offer: Offer, came: Any) -> None:
        seen.append(False)
        receive(self, offer, came)

    monkeypatch.setattr(remote_session.Session, "_receive_whole", whole)
    monkeypatch.setattr(remote_session.Session, "_receive", other)
    yield seen


def _on_thread(rig: Rig) -> None:
    """The application takes what comes on the connection's thread, as a node does."""

    def deliver(delivery: Delivery) -> None:
        if rig.refuse is not None:
            raise rig.refuse
        rig.deliveries.put((delivery, bytes(delivery.payload)))

    rig.listener._app_deliver = deliver


@pytest.mark.parametrize("on_thread", [True, False])
@pytest.mark.parametrize("size", [1, 1000, 65536, 512 * 1024 + 1, MIB])
def test_all_comes_with_its_offer(size: int, along: list[bool], *, on_thread: bool) -> None:
    with Rig() as rig:
        if on_thread:
            _on_thread(rig)
        client, content = rig.client(), _content(size)
        for _ in range(4):
            report = rig.run(client.send(content))
            assert rig.delivered() == content
            assert (report.length, report.sent_bytes, report.stored_bytes, report.resumes) == (
                size,
                size,
                size,
                0,
            )
        assert along == [False, True, True, True]  # the first makes the room
        assert rig.listener.stats.transfers == 4
        assert rig.listener.stats.bytes == 4 * size


def test_sizes_that_change_find_room_or_make_it(along: list[bool]) -> None:
    with Rig() as rig:
        client = rig.client()
        for size in (1000, 600, 2000, 0, 2000, 3 * MIB, 700):
            rig.run(client.send(_content(size)))
            assert rig.delivered() == _content(size)
        assert along == [False, True, False, False, True, False, False]


def test_a_loop_that_makes_sockets_not_wait() -> None:
    uvloop = pytest.importorskip("uvloop")
    with Rig(loop=uvloop.new_event_loop()) as rig:
        client = rig.client()
        for size in (1000, 3 * MIB, 1000, MIB, 40 * MIB, 10):
            rig.run(client.send(_content(size)))
            assert rig.delivered() == _content(size)
            assert rig.run(client.ping()) >= 0


def test_what_the_kernel_does_not_take_at_once_is_left_to_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.hose.remote_link.SOCKET_BUFFER_BYTES", 8192)
    with Rig() as rig:
        client = rig.client()
        for _ in range(3):
            report = rig.run(client.send(_content(MIB)))
            assert rig.delivered() == _content(MIB)
            assert report.sent_bytes == MIB


def test_a_window_smaller_than_the_transfer() -> None:
    with Rig(payload_bytes=65536, window_bytes=131072) as rig:
        client = rig.client()
        for _ in range(3):
            rig.run(client.send(_content(MIB)))
            assert rig.delivered() == _content(MIB)


@pytest.mark.parametrize("cut_at", [64, 5000, 300_000, 700_000])
def test_a_cut_while_all_is_under_way(cut_at: int) -> None:
    """``cut_at``: bytes of the third transfer."""
    before = HANDSHAKE_BYTES + 2 * (MIB + 4 * 128)
    with Rig() as rig, wire(rig, cut_at=before + cut_at):
        client = rig.client()
        reports = [rig.run(client.send(_content(MIB))) for _ in range(4)]
        assert [rig.delivered() for _ in range(4)] == [_content(MIB)] * 4
        assert [report.connections for report in reports] == [1, 0, 1, 0]
        assert [report.resumes for report in reports] == [0, 0, 1, 0]
        assert rig.deliveries.empty()
        assert rig.listener.stats.transfers == 4


def test_damage_is_found_and_repaired() -> None:
    before = HANDSHAKE_BYTES + MIB + 4 * 128
    with Rig() as rig, wire(rig, damage_at=(before + 400_000,)):
        client = rig.client()
        for _ in range(3):
            rig.run(client.send(_content(MIB)))
            assert rig.delivered() == _content(MIB)
        assert rig.listener.stats.frames_again == 1


def test_a_connection_that_died_unseen_is_made_again() -> None:
    with Rig() as rig:
        client = rig.client()
        rig.run(client.send(b"1"))
        for link in list(rig.listener._links):
            link.interrupt()
        rig.wait_connections(0)
        report = rig.run(client.send(b"2"))
        assert (report.connections, rig.delivered(), rig.delivered()) == (1, b"1", b"2")


def test_what_the_application_refuses_is_told_and_forgotten(along: list[bool]) -> None:
    with Rig() as rig:
        _on_thread(rig)
        client = rig.client()
        rig.run(client.send(b"1"))
        rig.refuse = Busy("the queue is full")
        with pytest.raises(TransferRefused, match="the queue is full"):
            rig.run(client.send(b"2", transfer=SECOND, is_new=True))
        assert along == [False, True]
        assert rig.listener._shared.inbox.held_bytes == 0
        rig.refuse = None
        rig.run(client.send(b"2", transfer=SECOND))
        assert [rig.delivered(), rig.delivered()] == [b"1", b"2"]


def test_bounds_hold_for_what_came_along_too(along: list[bool]) -> None:
    with Rig(transfers_max=2, held_bytes_max=1000) as rig:
        client = rig.client()
        rig.run(client.send(_content(800)))
        with rig.raw() as peer:  # holds most of it
            offer = Offer(FIRST, 0, 600, 0, 600)
            peer.write(offer)
            assert isinstance(peer.read(), Accept)
            with pytest.raises(NoRoom):
                rig.run(client.send(_content(700)))
        assert along[-1]
        assert rig.delivered() == _content(800)
        assert rig.deliveries.empty()


def test_no_memory_for_the_next_one_is_no_failure(along: list[bool]) -> None:
    wanted = [MemoryBuffer, OSError(12, "none"), MemoryBuffer, MemoryError(), MemoryBuffer]

    def allocate(length: int) -> MemoryBuffer:
        found: Any = wanted.pop(0) if wanted else MemoryBuffer
        if isinstance(found, Exception):
            raise found
        return MemoryBuffer(length)

    with Rig(allocate=allocate) as rig:
        client = rig.client()
        for _ in range(4):
            rig.run(client.send(b"12345"))
            assert rig.delivered() == b"12345"
        assert along == [False, False, False, True]


def test_room_that_is_not_used_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_session, "ROOM_S", 0.001)
    closed = threading.Semaphore(0)

    class Watched(MemoryBuffer):
        def close(self) -> None:
            super().close()
            closed.release()

    with Rig(allocate=Watched) as rig:
        client = rig.client()
        rig.run(client.send(b"1"))
        assert closed.acquire(timeout=WAIT_S)
        assert closed.acquire(timeout=WAIT_S)  # the one of the transfer, and the one for the next
        rig.run(client.send(b"2"))
        assert [rig.delivered(), rig.delivered()] == [b"1", b"2"]


# -- by hand: what a client of ours would not do --------------------------------------------------------------------


def _whole(offer: Offer, payload: bytes, peer: RawPeer, number: int) -> bytes:
    from edgeagent.hose.checksum import nonce_of

    check, size = peer.check(payload, nonce_of(number, 0, resent=False)), len(payload)
    data = Data(offer.transfer, offer.generation, 0, size, size, 0, check)
    return encode(offer) + encode(data) + payload + encode(Done(offer.transfer, offer.generation, offer.end))


def _offer(transfer: bytes, size: int = 10, generation: int = 0) -> Offer:
    return Offer(transfer, generation, size, 0, size)


def _warm(rig: Rig, peer: RawPeer, size: int = 10) -> None:
    """One transfer, after which there is room for another."""
    offer = _offer(FIRST, size)
    peer.sock.sendall(_whole(offer, _content(size), peer, 1))
    assert peer.read() == Accept(FIRST, 0, 0, size)
    assert peer.read() == Ack(FIRST, 0)
    assert rig.delivered() == _content(size)


def test_an_answer_does_not_wait_for_a_slow_application(along: list[bool]) -> None:
    with Rig() as rig, rig.raw() as peer:
        _warm(rig, peer)
        go_on = threading.Event()
        rig.listener._app_deliver = lambda _: go_on.wait(WAIT_S) and None
        peer.sock.sendall(_whole(_offer(SECOND), b"0123456789", peer, 2))
        assert peer.read() == Accept(SECOND, 0, 0, 10)
        go_on.set()
        assert peer.read() == Ack(SECOND, 0)
        assert along == [False, True]


def test_many_at_once_are_taken_one_after_the_other(along: list[bool]) -> None:
    with Rig() as rig, rig.raw() as peer:
        _warm(rig, peer)
        offers = [_offer(bytes((k,)) * 16) for k in range(1, 20)]
        peer.sock.sendall(
            b"".join(_whole(offer, b"0123456789", peer, 2 + k) for k, offer in enumerate(offers))
        )
        for offer in offers:
            assert peer.read() == Accept(offer.transfer, 0, 0, 10)
            assert peer.read() == Ack(offer.transfer, 0)
        assert all(along[1:])
        assert rig.listener.stats.transfers == 20


@pytest.mark.parametrize("warm", [True, False])
def test_a_flood_before_the_answer_is_not_taken(*, warm: bool) -> None:
    with Rig() as rig, rig.raw() as peer:
        if warm:
            _warm(rig, peer)
        offer = _offer(SECOND)
        data = Data(SECOND, 0, 0, 4000, 4000, 0, bytes(16))
        peer.sock.sendall(encode(offer) + encode(data) + bytes(4000))
        answers = [peer.read(), peer.read()]
        assert isinstance(answers[0], Accept)
        assert isinstance(answers[1], Abort)
        assert answers[1].code == AbortCode.PROTOCOL
        assert peer.at_end()
        rig.wait_connections(0)
        assert rig.deliveries.empty()
        assert rig.listener.stats.bytes == (10 if warm else 0)


def test_a_forged_ticket_with_everything_behind_it_gets_nothing() -> None:
    allocated: list[int] = []

    def allocate(length: int) -> MemoryBuffer:
        allocated.append(length)
        return MemoryBuffer(length)

    with Rig(allocate=allocate) as rig, RawPeer(rig.port, None) as peer:
        greeting, ticket = peer.read(), rig.ticket()
        assert isinstance(greeting, Greeting)
        proof = client_proof(ticket.id, b"?" * 32, bytes(16), greeting.nonce)
        hello = Hello(ticket.id, bytes(16), proof, 1, 0)
        peer.sock.sendall(encode(hello) + _whole(_offer(FIRST), b"0123456789", peer, 1))
        answer = peer.read()
        assert isinstance(answer, Abort)
        assert answer.code == AbortCode.TICKET
        assert peer.at_end()
        rig.wait_connections(0)
        assert rig.deliveries.empty()
        assert not allocated


@pytest.mark.parametrize("code", ["stale", "again", "other"])
def test_data_along_with_an_offer_that_was_made_before(code: str) -> None:
    with Rig() as rig, rig.raw() as peer:
        _warm(rig, peer)
        with rig.raw() as before:
            before.sock.sendall(_whole(_offer(SECOND, generation=1), b"0123456789", before, 1))
            assert [type(before.read()) for _ in range(2)] == [Accept, Ack]
            assert rig.delivered() == b"0123456789"
        offer = {"stale": _offer(SECOND), "again": _offer(SECOND, 10, 1), "other": _offer(SECOND, 9, 1)}[code]
        peer.sock.sendall(_whole(offer, b"9876543210"[: offer.total], peer, 2))
        answer = peer.read()
        assert isinstance(answer, Abort)
        assert (
            answer.code
            == {"stale": AbortCode.STALE, "again": AbortCode.PROTOCOL, "other": AbortCode.DUPLICATE}[code]
        )
        rig.wait_connections(0)
        assert rig.deliveries.empty()


def test_a_higher_generation_takes_the_place_of_a_lower_one() -> None:
    with Rig() as rig, rig.raw() as peer:
        _warm(rig, peer)
        peer.sock.sendall(_whole(_offer(FIRST, generation=1), b"9876543210", peer, 2))
        assert [peer.read(), peer.read()] == [Accept(FIRST, 1, 0, 10), Ack(FIRST, 1)]
        assert rig.delivered() == b"9876543210"


def test_an_acknowledgement_that_was_lost_is_repeated() -> None:
    with Rig() as rig:
        with rig.raw() as peer:
            _warm(rig, peer)
            peer.sock.sendall(_whole(_offer(SECOND), b"0123456789", peer, 2))
            assert rig.delivered() == b"0123456789"
        with rig.raw() as peer:
            peer.write(_offer(SECOND))
            assert peer.read() == Accept(SECOND, 0, 10, 10)
            peer.write(Done(SECOND, 0, 10))
            assert peer.read() == Ack(SECOND, 0)
        assert rig.deliveries.empty()


def test_a_connection_that_is_cut_before_the_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    acknowledge, cuts = Link.acknowledge_whole, [1]

    def cut(self: Link) -> None:
        if cuts:
            cuts.pop()
            self.interrupt()
        acknowledge(self)

    monkeypatch.setattr(Link, "acknowledge_whole", cut)
    with Rig() as rig:
        client = rig.client()
        rig.run(client.send(b"1"))
        report = rig.run(client.send(b"2"))
        assert (report.connections, report.resumes) == (1, 1)
        assert [rig.delivered(), rig.delivered()] == [b"1", b"2"]
        assert rig.deliveries.empty()  # delivered once, acknowledged on the second connection


def test_a_connection_that_is_cut_before_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    accept, cuts = Link.accept_whole, [1]

    def cut(self: Link) -> None:
        if cuts:
            cuts.pop()
            self.interrupt()
        accept(self)

    monkeypatch.setattr(Link, "accept_whole", cut)
    with Rig() as rig:
        client = rig.client()
        rig.run(client.send(b"1"))
        assert rig.run(client.send(b"2")).resumes == 1
        assert [rig.delivered(), rig.delivered()] == [b"1", b"2"]
        assert rig.deliveries.empty()


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
        sock.sendall(encode(Greeting(bytes(16), 1 | 4)))
        head = sock.recv(128, socket.MSG_WAITALL)
        if not head:
            return False
        hello = decode(head)
        assert isinstance(hello, Hello)
        self.connections += 1
        proof = listener_proof(self._ticket.id, self._ticket.secret, hello.nonce, bytes(16))
        sock.sendall(encode(Welcome(proof, 1, 0, MIB, 1 << 40)))
        try:
            while head := sock.recv(128, socket.MSG_WAITALL):
                frame = decode(head)
                if isinstance(frame, Data):
                    sock.recv(frame.stored, socket.MSG_WAITALL)
                answers: list[Frame] | None = self._say(frame)
                if answers is None:
                    return True
                sock.sendall(b"".join(map(encode, answers)))
        except ConnectionResetError:
            pass
        return True

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
def test_a_listener_that_says_nothing_is_a_stall(rig: Rig, *, is_accepted: bool) -> None:
    ends = [0]

    def say(frame: Frame) -> list[Frame]:
        ends[0] += isinstance(frame, Done)
        if not ends[0] or (ends[0] == 1 and isinstance(frame, Done)):
            return _friendly(frame)
        return _friendly(frame) if is_accepted and isinstance(frame, Offer) else []

    odd = _Odd(rig, say)
    try:
        client = odd.client(rig, retries=0, stall_s=0.2, ack_s=0.3)
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
            rig.run(client.send(_content(MIB)))
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
