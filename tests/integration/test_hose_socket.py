"""Other processes feed hoses and are fed, through libedgehose.so: credits, fan-out, and what a death costs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeagent.hose.client import Hose, library_path
from edgeagent.hose.messages import Credit, Publish, Role
from edgeagent.model.errors import BadConfig
from tests.integration.hose_raw_peer import RawPeer, memfd
from tests.integration.hose_server import WAIT_S, HoseServer, SealedPayload, Serve, servers

ROOT = Path(__file__).parents[2]
MIB = 1 << 20

needs_library = pytest.mark.skipif(not library_path().is_file(), reason="libedgehose.so is not built")


class Client:
    """Another process, see hose_client.py."""

    def __init__(self, server: HoseServer, role: str, name: str = "camera") -> None:
        command = [sys.executable, str(Path(__file__).with_name("hose_client.py")), server.path, name, role]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.answer() == "ok"

    def ask(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def do(self, command: str) -> str:
        self.ask(command)
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


Start = Callable[..., Client]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with servers(tmp_path) as start:
        yield start


@pytest.fixture
def client() -> Iterator[Start]:
    started: list[Client] = []

    def start(server: HoseServer, role: str, name: str = "camera") -> Client:
        started.append(Client(server, role, name))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def payload(content: bytes = b"frame") -> SealedPayload:
    return SealedPayload(memfd(content), len(content))


@needs_library
@pytest.mark.parametrize("size", [1, 4096, 4097, 2 * MIB, 5 * MIB + 3])
def test_a_producer_feeds_frames(serve: Serve, client: Start, size: int) -> None:
    server = serve()
    producer = client(server, "producer")
    for seq in (1, 2, 3):
        assert producer.do(f"loan {size}") == f"ok {size}"
        assert producer.do(f"fill {seq}") == f"ok {size}"
        assert producer.do(f"publish {size}") == f"ok {seq}"
        frame = server.frame()
        assert (frame.hose, frame.seq, frame.bytes, frame.uid) == ("camera", seq, size, os.geteuid())
        assert os.pread(frame.fd, size, frame.offset) == bytes([seq]) * size
        server.release(frame)
    assert server.socket.stats.bytes_in == 3 * size


@needs_library
@pytest.mark.parametrize("size", [1, 4097, 5 * MIB + 3])
def test_two_consumers_get_every_frame(serve: Serve, client: Start, size: int) -> None:
    server = serve()
    consumers = [client(server, "consumer") for _ in range(2)]
    for turn in range(3):
        content = bytes([turn]) * size
        shared = payload(content)
        assert server.publish("camera", shared) == 2
        assert server.publish("another", payload()) == 0
        for consumer in consumers:
            assert consumer.do("take") == f"ok {size} {zlib.crc32(content)}"
            assert not shared.released.is_set()
            assert consumer.do("release") == "ok"
        assert shared.released.wait(WAIT_S)
        assert shared.releases == 1


@needs_library
def test_a_producer_waits_for_credits(serve: Serve, client: Start) -> None:
    server = serve(credits_max=2)
    producer = client(server, "producer")
    for _ in range(2):
        producer.do("loan 10")
        assert producer.do("publish 10").startswith("ok")
    producer.do("loan 10")
    assert producer.do("publish 10 0") == "BlockingIOError"
    producer.ask("publish 10")  # waits now
    first = server.frame()
    second = server.frame()
    assert server.frames.empty()
    server.release(second)
    assert producer.answer() == "ok 3"
    third = server.frame()
    assert third.seq == 3
    for frame in (first, third):
        server.release(frame)


@needs_library
def test_a_producer_may_leave_at_once(serve: Serve, client: Start) -> None:
    server = serve()
    producer = client(server, "producer")
    producer.do("loan 10")
    assert producer.do("publish 10") == "ok 1"
    assert producer.do("close") == "ok"
    frame = server.frame()
    assert os.pread(frame.fd, 10, 0) == bytes(10)
    assert server.socket.stats.peers == 1
    server.release(frame)
    server.wait_for_peers(0)


@needs_library
def test_a_killed_producer_costs_its_own_frames_only(serve: Serve, client: Start) -> None:
    server = serve()
    victim, other = client(server, "producer"), client(server, "producer", "other")
    victim.do(f"loan {4 * MIB}")
    victim.do("fill 7")
    assert victim.do(f"publish {4 * MIB}") == "ok 1"
    frame = server.frame()
    victim.do(f"loan {MIB}")  # and never publishes it
    victim.kill()
    assert os.pread(frame.fd, 4 * MIB, 0) == b"\7" * (4 * MIB)
    other.do("loan 5")
    assert other.do("publish 5") == "ok 1"
    server.release(server.frame())
    server.release(frame)
    server.wait_for_peers(1)
    assert server.socket.stats.held_bytes == 0


@needs_library
def test_a_killed_consumer_frees_what_it_held(serve: Serve, client: Start) -> None:
    server = serve(credits_max=2)
    victim = client(server, "consumer")
    sent = [payload() for _ in range(5)]  # one taken, one on its way, three queued
    for each in sent:
        server.publish("camera", each)
    assert victim.do("take").startswith("ok 5")
    assert not any(each.released.is_set() for each in sent)
    victim.kill()
    assert all(each.released.wait(WAIT_S) for each in sent)
    assert [each.releases for each in sent] == [1] * 5


@needs_library
def test_a_killed_node_is_an_error_for_its_peers(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from edgeagent.hose.local_socket import LocalSocket, LocalSocketSettings\n"
        "async def main():\n"
        "    async def keep(name, frame): pass\n"
        "    await LocalSocket(LocalSocketSettings(path=sys.argv[1]), keep).start()\n"
        "    print('ready', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    path = tmp_path / "hose.sock"
    command = [sys.executable, "-c", program, str(path)]
    node = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert node.stdout is not None
    node.stdout.readline()
    with Hose.attach(path, "camera") as producer, Hose.attach(path, "camera", "consumer") as consumer:
        loan = producer.loan(10)
        node.kill()
        node.communicate()
        with pytest.raises(ConnectionResetError):
            consumer.take(WAIT_S)
        with pytest.raises(ConnectionResetError):
            loan.publish(timeout_s=WAIT_S)
    with pytest.raises(ConnectionRefusedError):
        Hose.attach(path, "camera")


def test_a_slow_consumer_loses_its_oldest_frames(serve: Serve) -> None:
    server = serve(credits_max=1, queue_max=2)
    with (
        RawPeer.attached(server.path, Role.CONSUMER) as slow,
        RawPeer.attached(server.path, Role.CONSUMER) as fast,
    ):
        sent = [payload(b"%d" % number) for number in range(6)]
        for number, each in enumerate(sent):
            assert server.publish("camera", each) == 2
            assert next_content(fast) == b"%d" % number
        assert server.socket.stats.dropped == 3
        # One is on its way, the next three were dropped, the last two are queued.
        assert [next_content(slow) for _ in range(3)] == [b"0", b"4", b"5"]
        assert all(each.released.wait(WAIT_S) for each in sent)


def next_content(consumer: RawPeer) -> bytes:
    """Take a frame, read it, return the credit."""
    message, fd = consumer.receive()
    assert isinstance(message, Publish)
    assert fd is not None
    content = os.pread(fd, message.bytes, message.offset)
    os.close(fd)
    consumer.send(Credit(message.seq, message.generation))
    return content


def test_a_peer_that_holds_too_many_bytes_is_not_read_from(serve: Serve) -> None:
    server = serve(peer_bytes_max=10)
    with RawPeer.attached(server.path) as peer:
        for _ in range(3):
            peer.publish(memfd(b"frame"))
        first, second = server.frame(), server.frame()
        assert server.call(server.frames.empty)
        server.release(first)
        third = server.frame()
        assert third.seq == 3
        for frame in (second, third):
            server.release(frame)


def test_a_failing_handler_gives_the_frame_back(serve: Serve) -> None:
    server = serve(credits_max=1)
    with RawPeer.attached(server.path) as peer:
        server.fail = RuntimeError("a bug")
        peer.publish(memfd())
        assert isinstance(peer.receive()[0], Credit)
        server.fail = None
        peer.publish(memfd())
        server.release(server.frame())


def test_frames_nobody_has_handled_are_released_when_the_node_stops(tmp_path: Path) -> None:
    server = HoseServer(tmp_path / "hose.sock")
    with RawPeer.attached(server.path) as peer:
        for _ in range(3):
            peer.publish(memfd())
        server.release(server.frame())
        server.stop()
        assert peer.receive()[0] is not None


def test_a_socket_left_by_a_dead_node_is_replaced_and_a_live_one_is_not(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    with pytest.raises(BadConfig, match="another process listens"):
        HoseServer(Path(server.path))
    stale = tmp_path / "stale.sock"
    with RawPeer.attached(server.path):
        pass
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(stale))
    second = HoseServer(stale)
    with RawPeer.attached(second.path):
        pass
    second.stop()
    assert not stale.exists()


@pytest.mark.parametrize("name", ["x" * 200, "missing/hose.sock", "file"])
def test_a_path_that_cannot_be_used_is_a_config_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("not a socket")
    with pytest.raises(BadConfig):
        HoseServer(tmp_path / name)
    assert (tmp_path / "file").read_text() == "not a socket"


def test_the_socket_is_for_this_user_alone(serve: Serve) -> None:
    assert Path(serve().path).stat().st_mode & 0o777 == 0o600
    assert Path(serve(allowed_uids=(1234,)).path).stat().st_mode & 0o777 == 0o666


def test_descriptors_that_others_close_are_no_leak(tmp_path: Path) -> None:
    """As an engine of an earlier test does with hoses that were idle for long enough."""
    others = memfd()
    with servers(tmp_path) as serve:
        serve()
        os.close(others)


def test_a_descriptor_left_open_is_named_though_another_was_closed(tmp_path: Path) -> None:
    others = memfd()

    def leak() -> None:
        with servers(tmp_path):
            os.close(others)
            assert memfd() == others, "the number is used again"

    with pytest.raises(AssertionError, match="memfd:test"):
        leak()
    os.close(others)
