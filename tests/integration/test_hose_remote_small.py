"""Small transfers between hosts: sent by the loop, received with their offers, and all that can go wrong with them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from edgeagent.hose import remote_session
from edgeagent.hose.checksum import crc32_is_native, nonce_of
from edgeagent.hose.errors import AbortCode, NoRoom, TransferRefused
from edgeagent.hose.frames import (
    Abort,
    Accept,
    Ack,
    Data,
    Done,
    Greeting,
    Hello,
    Offer,
    encode,
)
from edgeagent.hose.remote import Delivery, MemoryBuffer
from edgeagent.hose.remote_link import Link
from edgeagent.hose.tickets import client_proof
from edgeagent.model.errors import Busy
from tests.integration.hose_remote_rig import MIB, WAIT_S, RawPeer, Rig, pattern
from tests.integration.hose_wire import HANDSHAKE_BYTES, wire

pytestmark = pytest.mark.skipif(not crc32_is_native(), reason="frames go one by one without the extension")

FIRST, SECOND = b"transfer-number1", b"transfer-number2"


@pytest.fixture
def along(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each offer, whether all of it had come along when it was looked at."""
    seen: list[bool] = []
    receive_whole, receive = remote_session.Session._receive_whole, remote_session.Session._receive

    def whole(self: Any, offer: Offer) -> None:
        seen.append(True)
        receive_whole(self, offer)

    def other(self: Any, offer: Offer, came: Any) -> None:
        seen.append(False)
        receive(self, offer, came)

    monkeypatch.setattr(remote_session, "ROOM_S", WAIT_S)  # however slow this machine is
    monkeypatch.setattr(remote_session.Session, "_receive_whole", whole)
    monkeypatch.setattr(remote_session.Session, "_receive", other)
    return seen


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
        client, content = rig.client(), pattern(size)
        for _ in range(4):
            report = rig.run(client.send(content))
            assert rig.delivered() == content
            assert (report.length, report.sent_bytes, report.stored_bytes, report.resumes) == (
                size,
                size,
                size,
                0,
            )
        assert (len(along), along[0]) == (4, False)  # the first makes the room
        # The kernel may take less than all of a large one at once, where others keep the machine.
        assert all(along[1:]) or (size > 65536 and any(along[1:]))
        assert rig.listener.stats.transfers == 4
        assert rig.listener.stats.bytes == 4 * size


def test_sizes_that_change_find_room_or_make_it(along: list[bool]) -> None:
    with Rig() as rig:
        client = rig.client()
        for size in (1000, 600, 2000, 0, 2000, 3 * MIB, 700):
            rig.run(client.send(pattern(size)))
            assert rig.delivered() == pattern(size)
        assert along == [False, True, False, False, True, False, False]


def test_a_loop_that_makes_sockets_not_wait() -> None:
    uvloop = pytest.importorskip("uvloop")
    with Rig(loop=uvloop.new_event_loop()) as rig:
        client = rig.client()
        for size in (1000, 3 * MIB, 1000, MIB, 40 * MIB, 10):
            rig.run(client.send(pattern(size)))
            assert rig.delivered() == pattern(size)
            assert rig.run(client.ping()) >= 0


def test_what_the_kernel_does_not_take_at_once_is_left_to_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.hose.remote_link.SOCKET_BUFFER_BYTES", 8192)
    exchange, begun = Link.exchange, []

    def watched(self: Link, *args: Any) -> Any:
        begun.append(exchange(self, *args))
        return begun[-1]

    monkeypatch.setattr(Link, "exchange", watched)
    with Rig() as rig:
        client = rig.client()
        for _ in range(3):
            report = rig.run(client.send(pattern(MIB)))
            assert rig.delivered() == pattern(MIB)
            assert (report.sent_bytes, report.resumes) == (MIB, 0)
    assert [found.is_cut_short for found in begun] == [True, True]  # the first opens the connection


def test_a_window_smaller_than_the_transfer() -> None:
    with Rig(payload_bytes=65536, window_bytes=131072) as rig:
        client = rig.client()
        for _ in range(3):
            rig.run(client.send(pattern(MIB)))
            assert rig.delivered() == pattern(MIB)


@pytest.mark.parametrize("cut_at", [64, 5000, 300_000, 700_000])
def test_a_cut_while_all_is_under_way(cut_at: int) -> None:
    """``cut_at``: bytes of the third transfer."""
    before = HANDSHAKE_BYTES + 2 * (MIB + 4 * 128)
    with Rig() as rig, wire(rig, cut_at=before + cut_at):
        client = rig.client()
        reports = [rig.run(client.send(pattern(MIB))) for _ in range(4)]
        assert [rig.delivered() for _ in range(4)] == [pattern(MIB)] * 4
        assert [report.connections for report in reports] == [1, 0, 1, 0]
        assert [report.resumes for report in reports] == [0, 0, 1, 0]
        assert rig.deliveries.empty()
        assert rig.listener.stats.transfers == 4


def test_damage_is_found_and_repaired() -> None:
    before = HANDSHAKE_BYTES + MIB + 4 * 128
    with Rig() as rig, wire(rig, damage_at=(before + 400_000,)):
        client = rig.client()
        for _ in range(3):
            rig.run(client.send(pattern(MIB)))
            assert rig.delivered() == pattern(MIB)
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
        rig.run(client.send(pattern(800)))
        with rig.raw() as peer:  # holds most of it
            offer = Offer(FIRST, 0, 600, 0, 600)
            peer.write(offer)
            assert isinstance(peer.read(), Accept)
            with pytest.raises(NoRoom):
                rig.run(client.send(pattern(700)))
        assert along[-1]
        assert rig.delivered() == pattern(800)
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
    check, size = peer.check(payload, nonce_of(number, 0, resent=False)), len(payload)
    data = Data(offer.transfer, offer.generation, 0, size, size, 0, check)
    return encode(offer) + encode(data) + payload + encode(Done(offer.transfer, offer.generation, offer.end))


def _offer(transfer: bytes, size: int = 10, generation: int = 0) -> Offer:
    return Offer(transfer, generation, size, 0, size)


def _warm(rig: Rig, peer: RawPeer, size: int = 10) -> None:
    """One transfer, after which there is room for another."""
    offer = _offer(FIRST, size)
    peer.sock.sendall(_whole(offer, pattern(size), peer, 1))
    assert peer.read() == Accept(FIRST, 0, 0, size)
    assert peer.read() == Ack(FIRST, 0)
    assert rig.delivered() == pattern(size)


def test_an_answer_does_not_wait_for_a_slow_application(along: list[bool]) -> None:
    with Rig() as rig, rig.raw() as peer:
        _warm(rig, peer)
        go_on = threading.Event()

        def deliver(_: Delivery) -> None:
            go_on.wait(WAIT_S)

        rig.listener._app_deliver = deliver
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
        answer = peer.read()
        if isinstance(answer, Accept):  # it can be given before the flood is looked at
            answer = peer.read()
        assert isinstance(answer, Abort)
        assert answer.code == AbortCode.PROTOCOL
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


@pytest.mark.parametrize("before", ["accept_whole", "acknowledge_whole"])
def test_a_connection_that_is_cut_before_an_answer(before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, cuts = getattr(Link, before), [1]

    def cut(self: Link) -> None:
        if cuts:
            cuts.pop()
            self.interrupt()
        answer(self)

    monkeypatch.setattr(Link, before, cut)
    with Rig() as rig:
        client = rig.client()
        rig.run(client.send(b"1"))
        assert rig.run(client.send(b"2")).resumes >= 1
        assert not cuts
        assert [rig.delivered(), rig.delivered()] == [b"1", b"2"]
        assert rig.deliveries.empty()  # delivered once, acknowledged on the second connection
