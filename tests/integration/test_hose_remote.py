"""Hoses between hosts over real sockets: what arrives, what survives a kill, and what is refused."""

from __future__ import annotations

import json
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import uvloop

from edgeagent.hose.errors import (
    AbortCode,
    ChecksumFailed,
    DuplicateTransfer,
    HoseFault,
    LinkCut,
    LinkStalled,
    NoRoom,
    PeerUntrusted,
    PlainLinkRefused,
    TicketRefused,
    TransferRefused,
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
    Offer,
    Ping,
    Welcome,
    Window,
    encode,
)
from edgeagent.hose.remote import MemoryBuffer, RemoteClient, RemoteSettings, Scope, Ticket
from edgeagent.hose.remote_link import Link
from edgeagent.model.errors import Busy
from tests.integration.hose_remote_rig import MIB, WAIT_S, RawPeer, Rig, tls_contexts

ROOT = Path(__file__).parents[2]
CHILD = [sys.executable, "-m", "tests.integration.hose_remote_child"]
ID = b"transfer-number-"


def _content(size: int) -> bytes:
    return (bytes(i % 251 for i in range(4096)) * (size // 4096 + 1))[:size]


def _offer(total: int, generation: int = 0) -> Offer:
    return Offer(ID, generation, total, 0, total)


@pytest.mark.parametrize("size", [0, 1, 1000, MIB - 1, MIB, 5 * MIB + 3])
def test_what_is_sent_arrives(size: int) -> None:
    released: list[bytes] = []
    with Rig(window_bytes=2 * MIB) as rig:
        client, content = rig.client(), _content(size)
        for _ in range(2):
            report = rig.run(client.send(content, hashed=True, on_released=released.append))
            assert rig.delivered() == content
            assert released.pop() == report.transfer
        assert report.sent_bytes == report.length == size
        assert report.connections == 0  # the first one's is still there
        assert rig.listener.stats.connections == 1
        assert rig.listener.stats.bytes == 2 * size


def test_large_transfers_use_several_streams() -> None:
    with Rig(streams=3, stripe_bytes_min=MIB) as rig:
        client, content = rig.client(), _content(4 * MIB + 1)
        for connections in (3, 0):
            assert rig.run(client.send(content, hashed=True)).connections == connections
            assert rig.delivered() == content
        assert rig.run(client.send(b"small")).connections == 0
        assert rig.delivered() == b"small"
        assert rig.listener.stats.transfers == 3


def test_uvloop_does_as_well() -> None:
    with Rig(loop=uvloop.new_event_loop()) as rig:
        content = _content(3 * MIB)
        rig.run(rig.client().send(content))
        assert rig.delivered() == content


def test_a_ping_returns() -> None:
    with Rig() as rig:
        assert 0 < rig.run(rig.client().ping()) < WAIT_S


def test_a_sender_that_is_killed_half_way_is_resumed() -> None:
    total = 8 * MIB
    with Rig() as rig:
        ticket = rig.ticket()
        arguments = [rig.port, ticket.id.hex(), ticket.secret.hex(), ID.hex(), total, 5]
        with subprocess.Popen(
            [*CHILD, "send", *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "half\n"
            child.send_signal(signal.SIGKILL)
        rig.wait_connections(0)
        assert rig.deliveries.empty()
        report = rig.run(rig.client().send(_content(total), transfer=ID))
        assert rig.delivered() == _content(total)
        assert report.sent_bytes == 3 * MIB
        assert rig.listener.stats.resumes == 1
        assert rig.listener.stats.transfers == 1


def test_a_receiver_that_is_killed_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        subprocess.Popen([*CHILD, "listen"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child,
        Rig() as rig,
    ):
        assert child.stdout is not None
        port, id_, secret = json.loads(child.stdout.readline())
        rig.port = port
        ticket = Ticket(bytes.fromhex(id_), bytes.fromhex(secret), 0.0, Scope("node-a", 1 << 30))
        client = rig.client(lambda: ticket)
        rig.run(client.send(_content(MIB)))
        write_data, frames = Link.write_data, 0

        def kill_at_third(self: Link, frame: Frame, payload: memoryview) -> None:
            nonlocal frames
            frames += 1
            if frames == 3:
                child.send_signal(signal.SIGKILL)
                child.wait(WAIT_S)
            write_data(self, frame, payload)

        monkeypatch.setattr(Link, "write_data", kill_at_third)
        with pytest.raises(LinkCut):
            rig.run(client.send(_content(8 * MIB)))


def test_a_cut_is_repaired_by_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    write_data, frames = Link.write_data, 0

    def cut_now_and_then(self: Link, frame: Frame, payload: memoryview) -> None:
        nonlocal frames
        frames += 1
        write_data(self, frame, payload if frames % 4 else payload[: len(payload) // 3])
        if not frames % 4:
            self.interrupt()

    monkeypatch.setattr(Link, "write_data", cut_now_and_then)
    with Rig(retries=2) as rig:
        content = _content(16 * MIB)
        report = rig.run(rig.client().send(content, hashed=True))
        assert rig.delivered() == content
        assert report.connections > 3  # more than the retries, since each brought progress
        assert rig.listener.stats.transfers == 1


def test_an_acknowledgement_that_was_lost_is_repeated_and_nothing_delivered_twice() -> None:
    offer = _offer(10)
    with Rig() as rig:
        for round_ in range(2):
            with rig.raw() as peer:
                peer.write(offer)
                assert peer.read() == Accept(ID, 0, 10 * round_, 10)
                if not round_:
                    peer.data(offer, 0, b"0123456789")
                peer.write(Done(ID, 0, 10))
                if round_:
                    assert peer.read() == Ack(ID, 0)
                else:
                    assert rig.delivered() == b"0123456789"
            rig.wait_connections(0)
        assert rig.deliveries.empty()
        assert rig.listener.stats.transfers == 1


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
    offer, content = _offer(2 * MIB), _content(2 * MIB)
    with Rig() as rig:
        with rig.raw() as peer:
            peer.write(offer)
            peer.read()
            peer.data(offer, 0, content[:MIB])
            second = Data(ID, 0, MIB, MIB, MIB, 0, peer.check(content[MIB:]))
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


def test_a_client_sends_a_damaged_frame_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read_payload, frames = Link.read_payload, 0

    def damaged(self: Link, view: memoryview) -> None:
        nonlocal frames
        frames += 1
        read_payload(self, view)
        if frames == 2:
            view[7] ^= 1

    monkeypatch.setattr(Link, "read_payload", damaged)
    with Rig() as rig:
        report = rig.run(rig.client().send(_content(4 * MIB)))
        assert rig.delivered() == _content(4 * MIB)
        assert report.sent_bytes == 5 * MIB


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


def test_a_double_is_refused_and_so_is_a_stale_generation() -> None:
    with Rig() as rig, rig.raw() as first, rig.raw() as second, rig.raw() as third:
        first.write(_offer(20, generation=5))
        first.read()
        second.write(_offer(20, generation=5))
        third.write(_offer(20, generation=4))
        for peer, code in ((second, AbortCode.DUPLICATE), (third, AbortCode.STALE)):
            answer = peer.read()
            assert isinstance(answer, Abort)
            assert answer.code == code
        with pytest.raises(DuplicateTransfer):
            rig.run(rig.client().send(b"x" * 20, transfer=ID, generation=5))


def test_no_memory_is_a_typed_refusal_and_passes() -> None:
    fail = [OSError(12, "Cannot allocate memory"), MemoryError()]

    def allocate(length: int) -> MemoryBuffer:
        if fail:
            raise fail.pop()
        return MemoryBuffer(length)

    with Rig(allocate=allocate) as rig:
        client = rig.client()
        for _ in range(2):
            with pytest.raises(NoRoom, match="no memory for 1000 bytes") as caught:
                rig.run(client.send(bytes(1000), transfer=ID))
            assert caught.value.status == 507
        rig.run(client.send(bytes(1000), transfer=ID))
        assert rig.delivered() == bytes(1000)


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


def test_what_the_application_refuses_is_told_to_the_sender() -> None:
    with Rig() as rig:
        client = rig.client()
        rig.refuse = Busy("the queue is full")
        with pytest.raises(TransferRefused, match="the queue is full"):
            rig.run(client.send(b"1", transfer=ID))
        rig.refuse = RuntimeError("a detail that stays inside")
        with pytest.raises(TransferRefused, match="the application failed"):
            rig.run(client.send(b"1", transfer=ID))
        rig.refuse = None
        rig.run(client.send(b"1", transfer=ID))
        assert rig.delivered() == b"1"


def test_a_transfer_that_nobody_comes_back_for_is_given_up() -> None:
    closed = threading.Event()

    class Watched(MemoryBuffer):
        def close(self) -> None:
            super().close()
            closed.set()

    with Rig(allocate=Watched, keep_s=30.0) as rig:
        with rig.raw() as peer:
            peer.write(_offer(20))
            peer.read()
        rig.wait_connections(0)
        rig.now_s += 29
        rig.listener._shared.expire()
        assert not closed.is_set()
        rig.now_s += 1
        rig.listener._shared.expire()
        assert closed.is_set()
        assert rig.listener.stats.expired == 1
        assert rig.listener._shared.inbox.held_bytes == 0


def test_a_trickle_is_a_stall() -> None:
    with Rig(stall_s=0.2) as rig, rig.raw() as peer:
        peer.write(_offer(20))
        peer.read()
        peer.write(Data(ID, 0, 0, 20, 20, 0, bytes(16)), b"0123")
        assert peer.at_end()
        rig.wait_connections(0)
        assert rig.listener.stats.faults == 1


def test_a_receiver_that_says_nothing_is_a_stall() -> None:
    with Rig(ack_s=0.2) as rig:
        over = threading.Event()

        def deliver(*_: Any) -> None:
            over.wait(WAIT_S)

        rig.listener._shared.deliver = deliver
        with pytest.raises(LinkStalled, match="acknowledgement"):
            rig.run(rig.client(retries=0).send(b"x"))
        over.set()


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


def test_a_cancelled_transfer_no_longer_reads_the_bytes() -> None:
    with Rig(ack_s=30.0) as rig:
        content = bytearray(_content(2 * MIB))
        arrived = threading.Event()

        def deliver(*_: Any) -> None:
            arrived.set()
            rig.listener._shared.stopped = True
            raise TimeoutError

        rig.listener._shared.deliver = deliver
        client = rig.client(retries=100, retry_wait_s=30.0)
        rig.port = 1  # nobody listens there
        unreachable = rig.client(retries=100, retry_wait_s=30.0)
        for one in (client, unreachable):
            future = rig.submit(one.send(content))
            if one is client:
                assert arrived.wait(WAIT_S)
            future.cancel()
            rig.run(one.close())  # waits for the transfer's end
        content += b"a memoryview would forbid this"


def test_stopping_ends_connections_and_closes_buffers() -> None:
    closed = threading.Event()

    class Watched(MemoryBuffer):
        def close(self) -> None:
            super().close()
            closed.set()

    with Rig(allocate=Watched) as rig, rig.raw() as peer:
        peer.write(_offer(20))
        peer.read()
        rig.run(rig.listener.stop())
        assert closed.is_set()
        assert peer.at_end()


def test_compression_where_it_is_wanted() -> None:
    with Rig(compression="always") as rig:
        content = bytes(5 * MIB) + secrets.token_bytes(MIB)
        report = rig.run(rig.client().send(content, hashed=True))
        assert rig.delivered() == content
        assert MIB < report.stored_bytes < 1.1 * MIB
        assert rig.run(rig.client(compression="never").send(content)).stored_bytes == len(content)


def test_loopback_is_never_compressed() -> None:
    with Rig() as rig:
        assert rig.run(rig.client().send(bytes(40 * MIB))).stored_bytes == 40 * MIB


def test_tls(tmp_path: Path) -> None:
    server, client = tls_contexts(tmp_path)
    with Rig(tls=server, client_tls=client, streams=2, stripe_bytes_min=4 * MIB) as rig:
        sender = rig.client()
        for size in (0, 1000, 9 * MIB + 1):
            rig.run(sender.send(_content(size), hashed=True))
            assert rig.delivered() == _content(size)
        with RawPeer(rig.port, None) as plain:
            plain.sock.sendall(encode(Ping(1)))
            assert plain.at_end()
    with Rig(tls=server, client_tls=client) as rig, pytest.raises(ssl.SSLError):
        ssl.create_default_context().wrap_socket(
            socket.create_connection(("127.0.0.1", rig.port)), server_hostname="127.0.0.1"
        )


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


def test_faults_are_problem_documents() -> None:
    assert HoseFault("x").problem()["type"] == "urn:edgeagent:problem:hose-failed"
    assert ChecksumFailed("x").problem()["status"] == 502


def test_settings_have_no_unknown_names() -> None:
    with pytest.raises(TypeError):
        RemoteSettings(window=1)  # type: ignore[call-arg]
    assert RemoteClient.__doc__
