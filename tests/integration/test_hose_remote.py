"""Hoses between hosts over real sockets: what arrives, what survives a kill, and what is refused."""

from __future__ import annotations

import asyncio
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
    ChecksumFailed,
    HoseFault,
    LinkCut,
    LinkStalled,
    NoRoom,
    TransferRefused,
)
from edgeagent.hose.frames import (
    Accept,
    Ack,
    Done,
    Frame,
    Offer,
    Ping,
    encode,
)
from edgeagent.hose.remote import Delivery, MemoryBuffer, RemoteClient, RemoteSettings, Scope, Ticket
from edgeagent.hose.remote_link import Link
from edgeagent.hose.remote_stream import Job, Stream
from edgeagent.model.errors import Busy
from tests.integration.hose_remote_rig import MIB, WAIT_S, RawPeer, Rig, pattern, tls_contexts

ROOT = Path(__file__).parents[2]
CHILD = [sys.executable, "-m", "tests.integration.hose_remote_child"]
ID = b"transfer-number-"


def _offer(total: int, generation: int = 0) -> Offer:
    return Offer(ID, generation, total, 0, total)


@pytest.mark.parametrize("size", [0, 1, 1000, MIB - 1, MIB, 5 * MIB + 3])
def test_what_is_sent_arrives(size: int) -> None:
    released: list[bytes] = []
    with Rig(window_bytes=2 * MIB) as rig:
        client, content = rig.client(), pattern(size)
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
        client, content = rig.client(), pattern(4 * MIB + 1)
        for connections in (3, 0):
            assert rig.run(client.send(content, hashed=True)).connections == connections
            assert rig.delivered() == content
        assert rig.run(client.send(b"small")).connections == 0
        assert rig.delivered() == b"small"
        assert rig.listener.stats.transfers == 3


def test_uvloop_does_as_well() -> None:
    with Rig(loop=uvloop.new_event_loop()) as rig:
        content = pattern(3 * MIB)
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
        report = rig.run(rig.client().send(pattern(total), transfer=ID))
        assert rig.delivered() == pattern(total)
        assert report.sent_bytes == 3 * MIB
        assert rig.listener.stats.resumes == 1
        assert rig.listener.stats.transfers == 1


def test_a_receiver_that_is_killed_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Link, "has_runs", False)  # frame by frame
    with (
        subprocess.Popen([*CHILD, "listen"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child,
        Rig() as rig,
    ):
        assert child.stdout is not None
        port, id_, secret = json.loads(child.stdout.readline())
        rig.port = port
        ticket = Ticket(bytes.fromhex(id_), bytes.fromhex(secret), 0.0, Scope("node-a", 1 << 30))
        client = rig.client(lambda: ticket)
        rig.run(client.send(pattern(MIB)))
        write_data, frames = Link.write_data, 0

        def kill_at_third(self: Link, frame: Frame, payload: memoryview, after: Frame | None = None) -> None:
            nonlocal frames
            frames += 1
            if frames == 3:
                child.send_signal(signal.SIGKILL)
                child.wait(WAIT_S)
            write_data(self, frame, payload, after)

        monkeypatch.setattr(Link, "write_data", kill_at_third)
        with pytest.raises(LinkCut):
            rig.run(client.send(pattern(8 * MIB)))


def test_a_cut_is_repaired_by_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    write_data, frames = Link.write_data, 0

    def cut_now_and_then(self: Link, frame: Frame, payload: memoryview, after: Frame | None = None) -> None:
        nonlocal frames
        frames += 1
        if frames % 4:
            write_data(self, frame, payload, after)
        else:
            write_data(self, frame, payload[: len(payload) // 3])
            self.interrupt()

    monkeypatch.setattr(Link, "write_data", cut_now_and_then)
    monkeypatch.setattr(Link, "has_runs", False)  # frame by frame
    with Rig(retries=2) as rig:
        content = pattern(16 * MIB)
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


def test_a_client_sends_a_damaged_frame_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read_payload, frames = Link.read_payload, 0

    def damaged(self: Link, view: memoryview) -> None:
        nonlocal frames
        frames += 1
        read_payload(self, view)
        if frames == 2:
            view[7] ^= 1

    monkeypatch.setattr(Link, "read_payload", damaged)
    monkeypatch.setattr(Link, "has_runs", False)  # frame by frame
    with Rig() as rig:
        report = rig.run(rig.client().send(pattern(4 * MIB)))
        assert rig.delivered() == pattern(4 * MIB)
        assert report.sent_bytes == 5 * MIB


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


def test_an_application_may_take_it_on_the_thread_of_the_connection() -> None:
    with Rig() as rig:
        threads: list[str] = []

        def deliver(_: Delivery) -> None:
            threads.append(threading.current_thread().name)
            if len(threads) == 2:
                raise Busy("the queue is full")

        rig.listener._app_deliver = deliver
        rig.run(rig.client().send(b"1"))
        with pytest.raises(TransferRefused, match="the queue is full"):
            rig.run(rig.client().send(b"2"))
        assert threads == ["hose-link"] * 2


@pytest.mark.parametrize("streams", [1, 3])
def test_a_buffer_that_cannot_be_published_is_never_acknowledged(streams: int) -> None:
    class Unpublishable(MemoryBuffer):
        def publish(self, length: int) -> memoryview:
            raise OSError(16, f"{length} bytes are busy")

    with Rig(allocate=Unpublishable, streams=streams, stripe_bytes_min=1) as rig:
        with pytest.raises(TransferRefused, match="publish"):
            rig.run(rig.client().send(pattern(MIB)))
        rig.wait_connections(0)
        assert rig.deliveries.empty()
        assert rig.listener._shared.inbox.held_bytes == 0


def test_no_view_is_left_when_a_buffer_is_published() -> None:
    class Exclusive:
        def __init__(self, length: int) -> None:
            self.memory = bytearray(length)

        @property
        def view(self) -> memoryview:
            return memoryview(self.memory)

        def publish(self, _: int) -> bytearray:
            self.memory += b"!"  # a view would forbid this
            return self.memory

        def close(self) -> None:
            pass

    with Rig(allocate=Exclusive, streams=4, stripe_bytes_min=1) as rig:
        client = rig.client()
        for _ in range(10):
            rig.run(client.send(pattern(MIB), hashed=True))
            assert rig.delivered() == pattern(MIB) + b"!"


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


def test_a_receiver_that_says_nothing_is_a_stall() -> None:
    with Rig(ack_s=0.2) as rig:
        over = threading.Event()

        def deliver(*_: Any) -> None:
            over.wait(WAIT_S)

        rig.listener._shared.deliver = deliver
        with pytest.raises(LinkStalled, match="acknowledgement"):
            rig.run(rig.client(retries=0).send(b"x"))
        over.set()


@pytest.mark.parametrize("reachable", [True, False])
def test_a_cancelled_transfer_no_longer_reads_the_bytes(
    monkeypatch: pytest.MonkeyPatch, *, reachable: bool
) -> None:
    send, begun, ended, over = Stream.send, threading.Event(), threading.Event(), threading.Event()

    def watched(self: Stream, job: Job) -> None:
        begun.set()
        try:
            send(self, job)
        finally:
            ended.set()

    def deliver(*_: Any) -> None:
        begun.set()
        over.wait(WAIT_S)

    async def cancel(client: RemoteClient, content: bytearray) -> bool:
        sending = asyncio.create_task(client.send(content))
        await asyncio.to_thread(begun.wait, WAIT_S)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        return ended.is_set()

    monkeypatch.setattr(Stream, "send", watched)
    with Rig() as rig:
        rig.listener._shared.deliver = deliver
        if not reachable:
            rig.port = 1  # nobody listens there
        content = bytearray(pattern(2 * MIB))
        assert rig.run(cancel(rig.client(retries=100, retry_wait_s=60.0), content))
        content += b"a memoryview would forbid this"
        over.set()


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
            rig.run(sender.send(pattern(size), hashed=True))
            assert rig.delivered() == pattern(size)
        with RawPeer(rig.port, None) as plain:
            plain.sock.sendall(encode(Ping(1)))
            assert plain.at_end()
    with Rig(tls=server, client_tls=client) as rig, pytest.raises(ssl.SSLError):
        ssl.create_default_context().wrap_socket(
            socket.create_connection(("127.0.0.1", rig.port)), server_hostname="127.0.0.1"
        )


def test_faults_are_problem_documents() -> None:
    assert HoseFault("x").problem()["type"] == "urn:edgeagent:problem:hose-failed"
    assert ChecksumFailed("x").problem()["status"] == 502


def test_settings_have_no_unknown_names() -> None:
    with pytest.raises(TypeError):
        RemoteSettings(window=1)  # type: ignore[call-arg]
    assert RemoteClient.__doc__
