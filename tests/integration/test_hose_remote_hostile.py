"""Peers that lie, stall, flood or forge at the hose port get a typed refusal, and others go on."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios
import threading
from pathlib import Path

import pytest

from edgeagent.hose.checksum import nonce_of
from edgeagent.hose.errors import (
    AbortCode,
    LinkCut,
    LinkStalled,
    NoRoom,
    PeerUntrusted,
    PlainLinkRefused,
    TicketRefused,
    TransferTooLarge,
)
from edgeagent.hose.frames import (
    RESENT,
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
    Ping,
    Welcome,
    Window,
    decode,
    encode,
)
from edgeagent.hose.remote import MemoryBuffer, Ticket
from edgeagent.hose.tickets import listener_proof
from tests.integration.hose_remote_rig import MIB, WAIT_S, RawPeer, Rig, pattern, tls_contexts

ROOT = Path(__file__).parents[2]
CHILD = [sys.executable, "-m", "tests.integration.hose_remote_child"]
ID = b"transfer-number-"


def _offer(total: int, generation: int = 0) -> Offer:
    return Offer(ID, generation, total, 0, total)


@pytest.mark.parametrize("case", ["forged", "expired", "used", "unknown"])
def test_a_bad_ticket_is_refused(case: str) -> None:
    with Rig() as rig:
        good = rig.ticket()
        ticket = {
            "forged": Ticket(good.id, b"?" * 32, good.expires_s, good.scope),
            "unknown": Ticket(b"?" * 16, good.secret, good.expires_s, good.scope),
        }.get(case, good)
        if case == "expired":
            rig.now_s += 61
        if case == "used":
            RawPeer(rig.port, good).sock.close()
        with pytest.raises(TicketRefused) as caught:
            rig.run(rig.client(lambda: ticket).send(b"data"))
        assert caught.value.message == "the other side ended it: the ticket is not accepted"
        rig.wait_connections(0)
        assert rig.listener.stats.tickets_refused == 1
        assert rig.deliveries.empty()


def test_a_listener_that_does_not_know_the_ticket_gets_no_byte() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, Rig() as rig:
        rig.port = server.getsockname()[1]
        seen: list[bytes] = []

        def impostor() -> None:
            sock, _ = server.accept()
            with sock:
                sock.sendall(encode(Greeting(bytes(16), 1)))
                seen.append(sock.recv(128, socket.MSG_WAITALL))
                sock.sendall(encode(Welcome(bytes(32), 1, 0, MIB, 1 << 40)))
                while got := sock.recv(4096):
                    seen.append(got)

        thread = threading.Thread(target=impostor)
        thread.start()
        with pytest.raises(TicketRefused, match="said to have issued"):
            rig.run(rig.client().send(b"secret"))
        thread.join(WAIT_S)
        assert not any(b"secret" in got for got in seen)


@pytest.mark.parametrize("is_new", [True, False])
def test_only_what_is_new_brings_data_along_with_its_offer(*, is_new: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, Rig() as rig:
        rig.port, ticket = server.getsockname()[1], rig.ticket()
        seen: list[Frame] = []

        def mute() -> None:
            sock, _ = server.accept()
            with sock:
                sock.sendall(encode(Greeting(bytes(16), 1)))
                hello = decode(sock.recv(128, socket.MSG_WAITALL))
                assert isinstance(hello, Hello)
                proof = listener_proof(ticket.id, ticket.secret, hello.nonce, bytes(16))
                sock.sendall(encode(Welcome(proof, 1, 0, MIB, 1 << 40)))
                while head := sock.recv(128, socket.MSG_WAITALL):
                    seen.append(frame := decode(head))
                    if isinstance(frame, Data):
                        sock.recv(frame.stored, socket.MSG_WAITALL)

        thread = threading.Thread(target=mute)
        thread.start()
        client = rig.client(lambda: ticket, stall_s=0.2, retries=0)
        with pytest.raises(LinkStalled):
            rig.run(client.send(b"x", transfer=ID, is_new=is_new))
        thread.join(WAIT_S)
        assert [type(frame) for frame in seen if not isinstance(frame, Abort)] == [Offer, Data, Done][
            : 3 if is_new else 1
        ]


def test_what_came_along_with_a_refused_offer_is_not_taken() -> None:
    def allocate(_: int) -> MemoryBuffer:
        raise MemoryError

    with Rig(allocate=allocate) as rig:
        for _ in range(3):
            with pytest.raises(NoRoom):
                rig.run(rig.client().send(pattern(8 * MIB)))
        assert rig.listener.stats.bytes == 0
        assert rig.deliveries.empty()


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\n\r\n".ljust(128),
        encode(Ping(1)),
        encode(_offer(10)),
        encode(Ping(1))[:4] + b"\x02" + encode(Ping(1))[5:],
    ],
)
def test_no_ticket_no_service(junk: bytes) -> None:
    with Rig() as rig, RawPeer(rig.port, None) as peer:
        peer.read()
        peer.sock.sendall(junk)
        assert isinstance(peer.read(), Abort)
        assert peer.at_end()


@pytest.mark.parametrize("cut_at", [1, 64, 127, 128, 129, 128 + MIB - 1])
def test_a_frame_cut_short_loses_only_itself(cut_at: int) -> None:
    offer, content = _offer(2 * MIB), pattern(2 * MIB)
    with Rig() as rig:
        with rig.raw() as peer:
            peer.write(offer)
            peer.read()
            peer.data(offer, 0, content[:MIB])
            second = Data(ID, 0, MIB, MIB, MIB, 0, peer.check(content[MIB:], nonce_of(1, MIB, resent=False)))
            peer.sock.sendall((encode(second) + content[MIB:])[:cut_at])
        rig.wait_connections(0)
        report = rig.run(rig.client().send(content, transfer=ID))
        assert report.sent_bytes == MIB
        assert rig.delivered() == content


def test_a_wrong_checksum_is_forgiven_once() -> None:
    offer = _offer(20)
    with Rig() as rig, rig.raw() as peer:
        peer.write(offer)
        assert peer.read() == Accept(ID, 0, 0, 20)
        peer.data(offer, 0, b"0123456789", good=False)
        assert peer.read() == Again(ID, 0, 0, 10)
        peer.data(offer, 10, b"abcdefghij")
        peer.data(offer, 0, b"0123456789", flags=RESENT)
        peer.write(Done(ID, 0, 20))
        assert peer.read() == Ack(ID, 0)
        assert rig.delivered() == b"0123456789abcdefghij"
        assert rig.listener.stats.frames_again == 1


def test_a_wrong_checksum_is_not_forgiven_twice() -> None:
    offer = _offer(20)
    with Rig() as rig, rig.raw() as peer:
        peer.write(offer)
        peer.read()
        peer.data(offer, 0, b"0123456789", good=False)
        peer.read()
        peer.data(offer, 0, b"0123456789", flags=RESENT, good=False)
        answer = peer.read()
        assert isinstance(answer, Abort)
        assert answer.code == AbortCode.CHECKSUM
        assert peer.at_end()
        assert rig.listener._shared.inbox.held_bytes == 0


def test_a_whole_that_is_not_what_was_offered_is_refused() -> None:
    offer = Offer(ID, 0, 4, 0, 4, sha256=b"?" * 32)
    with Rig() as rig, rig.raw() as peer:
        peer.write(offer)
        peer.read()
        peer.data(offer, 0, b"0123")
        peer.write(Done(ID, 0, 4))
        answer = peer.read()
        assert isinstance(answer, Abort)
        assert answer.code == AbortCode.CHECKSUM
        assert rig.deliveries.empty()


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (Data(ID, 0, 10, 10, 10, 0, bytes(16)), AbortCode.PROTOCOL),  # reordered
        (Data(ID, 0, 0, 30, 30, 0, bytes(16)), AbortCode.PROTOCOL),  # past the end
        (Data(ID, 1, 0, 10, 10, 0, bytes(16)), AbortCode.STALE),
        (Data(ID, 0, 0, 10, 10, 1, bytes(16)), AbortCode.PROTOCOL),  # compressed, and that was not agreed
        (Done(ID, 0, 20), AbortCode.PROTOCOL),  # ends early
        (Window(ID, 0, 20), AbortCode.PROTOCOL),
    ],
)
def test_lies_end_the_connection(wrong: Frame, code: AbortCode) -> None:
    with Rig() as rig, rig.raw() as peer:
        peer.write(_offer(20))
        peer.read()
        peer.write(wrong)
        answer = peer.read()
        assert isinstance(answer, Abort)
        assert answer.code == code
        assert peer.at_end()
        rig.run(rig.client().send(b"others go on"))
        assert rig.delivered() == b"others go on"


def test_who_comes_back_takes_over_and_a_stale_generation_is_refused() -> None:
    """The listener has not seen the cut: the first connection is still open to it."""
    with Rig() as rig, rig.raw() as first, rig.raw() as second, rig.raw() as third, rig.raw() as fourth:
        first.write(_offer(20, generation=5))
        first.read()
        second.write(_offer(20, generation=5))
        assert isinstance(second.read(), Accept)
        assert first.at_end()
        for peer, total, generation, code in (
            (third, 20, 4, AbortCode.STALE),
            (fourth, 21, 5, AbortCode.DUPLICATE),  # not what was offered before
        ):
            peer.write(_offer(total, generation=generation))
            answer = peer.read()
            assert isinstance(answer, Abort)
            assert answer.code == code
        rig.run(rig.client().send(b"x" * 20, transfer=ID, generation=5))
        assert second.at_end()
        assert rig.delivered() == b"x" * 20


def _unacknowledged(sock: socket.socket) -> int:
    """Bytes that the kernel of the other side does not have yet."""
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0])


def test_half_open_transfers_go_on_behind_what_was_verified() -> None:
    """The first connection says nothing more and is not closed, as after a cut that only the sender has seen."""
    content = pattern(3 * MIB)
    with Rig() as rig, rig.raw() as first:
        offer = _offer(3 * MIB)
        first.write(offer)
        first.read()
        first.data(offer, 0, content[:MIB])
        while _unacknowledged(first.sock):
            rig.run(asyncio.sleep(0))
        report = rig.run(rig.client().send(content, transfer=ID))
        assert (report.sent_bytes, report.connections) == (2 * MIB, 1)  # at once, without another try
        assert first.at_end()
        assert rig.delivered() == content
        assert rig.listener.stats.resumes == 1


def test_bounds_of_node_and_ticket_hold_before_memory_is_taken() -> None:
    def allocate(length: int) -> MemoryBuffer:
        assert length <= 1000
        return MemoryBuffer(length)

    with Rig(allocate=allocate, held_bytes_max=1000) as rig:
        with pytest.raises(NoRoom):
            rig.run(rig.client().send(bytes(1001)))
        with pytest.raises(TransferTooLarge):
            rig.run(rig.client(lambda: rig.ticket(bytes_max=10)).send(bytes(11)))
        with rig.raw(bytes_max=10) as peer:
            peer.write(_offer(11))
            answer = peer.read()
            assert isinstance(answer, Abort)
            assert answer.code == AbortCode.TOO_LARGE


def test_a_trickle_is_a_stall() -> None:
    with Rig(stall_s=0.2) as rig, rig.raw() as peer:
        peer.write(_offer(20))
        peer.read()
        peer.write(Data(ID, 0, 0, 20, 20, 0, bytes(16)), b"0123")
        assert peer.at_end()
        rig.wait_connections(0)
        assert rig.listener.stats.faults == 1


def test_a_flood_of_connections_is_bounded() -> None:
    with Rig(handshakes_max_per_host=4, handshake_s=0.5) as rig:
        peers = [RawPeer(rig.port, None) for _ in range(30)]
        assert all(peer.at_end() for peer in peers)  # at once, or when the handshake takes too long
        for peer in peers:
            peer.sock.close()
        rig.wait_connections(0)
        assert rig.listener.stats.connections_refused >= 20
        rig.run(rig.client().send(b"after the flood"))
        assert rig.delivered() == b"after the flood"
        assert not rig.listener._handshakes


def test_connections_in_use_are_bounded_too() -> None:
    with Rig(connections_max=2) as rig, rig.raw(), rig.raw():
        with pytest.raises(LinkCut):
            rig.run(rig.client().send(b"x"))
        assert rig.listener.stats.connections_refused >= 1


def test_tls_with_another_certificate_is_not_trusted(tmp_path: Path) -> None:
    for server, client in (
        (tls_contexts(tmp_path)[0], tls_contexts(tmp_path)[1]),
        tls_contexts(tmp_path, host="192.0.2.1"),
    ):
        with Rig(tls=server, client_tls=client) as rig, pytest.raises(PeerUntrusted):
            rig.run(rig.client().send(b"x"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_beyond_loopback_only_with_tls(host: str) -> None:
    with Rig() as rig, pytest.raises(PlainLinkRefused) as caught:
        rig.run(rig.listener.start(host))
    assert "TLS" in caught.value.hint
    assert caught.value.status == 400
