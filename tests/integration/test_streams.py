"""Functions that send messages to each other while they run, through a daemon's doors, on both engines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgeagent.hose.client import Hose, library_path
from tests.conftest import engine_names
from tests.contract.hose_calls import HoseProgram, Ref, hose_guest
from tests.integration.daemon import ROOT, WASM, Daemon, cli, patience

BAD, END, AGAIN = -1, -7, -8
MIB = 1 << 20
WAIT_S = 60.0


@pytest.fixture(params=["pure", "native"], scope="module")
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    if request.param not in engine_names():
        pytest.skip("the extension is not built")
    directory = tmp_path_factory.mktemp("node")
    started = Daemon(
        directory / "state",
        f"runtime.engine={request.param}",
        "hose.messages_max=4",
        f"hose.socket=/tmp/edge-streams-{os.getpid()}-{request.param}.sock",
    )
    for name in ("one", "two"):
        deploy(started, name)
    for name in ("rows", "sum"):
        started.request(
            "PUT", f"/v1/functions/{name}", (ROOT / f"examples/streams/{name}.wasm").read_bytes(), WASM
        )
    yield started
    assert started.stop() == 0, started.log_text()


def deploy(node: Daemon, name: str, hose: str = "") -> None:
    boundary = "edge"
    manifest = f'[function]\nname = "{name}"\n[limits]\nwall_ms = 20000\n[hose]\n{hose}\n'
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{part}"\r\n\r\n'.encode() + data + b"\r\n"
        for part, data in (("wasm", hose_guest()), ("manifest", manifest.encode()))
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    reply = node.request("PUT", f"/v1/functions/{name}", body + f"--{boundary}--\r\n".encode(), headers)
    assert reply.status in {200, 201}, reply.body


class Talk(HoseProgram):
    """A program with texts behind it: ``text`` gives where one lies and its length."""

    def __init__(self, calls: int, *texts: bytes) -> None:
        super().__init__()
        self._tail = b"".join(texts)
        self._at = self.call("input")
        offset = 4 + 28 * (calls + 1)
        self.texts = []
        for text in texts:
            self.texts.append((Ref(self._at.call, offset), len(text)))
            offset += len(text)
        self._calls = calls + 1

    def encoded(self) -> bytes:
        raw = super().encoded()
        assert len(raw) == 4 + 28 * self._calls
        return raw + self._tail


def ints(body: bytes) -> list[int]:
    return [int.from_bytes(body[i : i + 4], "little", signed=True) for i in range(0, len(body), 4)]


def test_the_example(node: Daemon, tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.txt"
    numbers.write_text("\n".join(str(i) for i in range(1, 301)), encoding="utf-8")
    for _ in range(3):
        done = cli("invoke", "rows", "--data", f"@{numbers}", "--node", node.url)
        assert (done.returncode, done.stdout) == (0, b"45150\n"), done.stderr
    assert node.invoke("rows").body == b"0\n"
    assert node.metric("edgeagent_hose_messages_total") >= 903
    node.wait_metric("edgeagent_hose_messages_waiting", 0)


def test_who_sends_too_much_is_told_or_waits(node: Daemon) -> None:
    blocked = HoseProgram()
    blocked.call("recv_info", 2)  # nobody sends to its `[hose] input`
    deploy(node, "taker", 'input = "never"')
    p = Talk(7, b"taker", blocked.encoded())
    name, message = p.texts
    p.call("to", *name)
    sends = [p.call("send", *message, 256) for _ in range(6)]
    found = ints(node.invoke("one", p.encoded()).body)
    assert [found[send.call] for send in sends] == [0, 0, 0, 0, 0, AGAIN]
    assert node.metric("edgeagent_hose_messages_waiting") == 4
    p = Talk(2, b"taker", b"x")
    p.call("to", *p.texts[0])
    p.call("send", *p.texts[1], 0)
    late = node.invoke("one", p.encoded(), Edgeagent_Deadline_Ms="50")
    assert late.status == 504
    node.wait_metric("edgeagent_hose_messages_waiting", 4)
    assert node.request("DELETE", "/v1/functions/taker").status == 204
    assert node.metric("edgeagent_hose_messages_waiting") == 0


def test_large_messages_there_and_back(node: Daemon) -> None:
    """`one` sends `two` a program, whose run sends 8 MiB back to `one`."""
    count = 8 * MIB
    back = Talk(4, b"one")
    at = back.call("loan", count)
    back.call("fill", at, 0x33, count)
    back.call("to", *back.texts[0])
    back.call("send", at, count, 0)
    p = Talk(7, b"one", b"two", back.encoded())
    p.call("accept", *p.texts[0])
    p.call("to", *p.texts[1])
    p.call("send", *p.texts[2], 0)
    p.call("close", *p.texts[1])
    to = p.call("take", count, 65536)
    p.call("recv", to, count, 1)
    p.call("reply", to, count)
    reply = node.invoke("one", p.encoded())
    assert reply.status == 200, reply.body
    assert reply.body == b"\x33" * count


def test_what_a_receiver_was_given_is_told_and_counted(node: Daemon) -> None:
    """Of a run that was invoked over HTTP: its messages came by a hose, whatever its body did."""
    taker = Talk(4, b"two")
    taker.call("accept", *taker.texts[0])
    at = taker.call("take", 2 * MIB, 65536)
    got = taker.call("recv", at, 2 * MIB, 1)
    taker.call("recv_info", 1)
    sender = Talk(4, b"two")
    lent = sender.call("loan", 2 * MIB)
    sender.call("fill", lent, 7, 2 * MIB)
    sender.call("to", *sender.texts[0])
    sender.call("send", lent, 2 * MIB, 0)
    before = node.metric("edgeagent_hose_mapped_bytes_total")
    with ThreadPoolExecutor() as pool:
        taken = pool.submit(node.invoke, "two", taker.encoded())
        node.wait_metric("edgeagent_engine_live_instances", 1)
        assert node.invoke("one", sender.encoded()).status == 200
        reply = taken.result(WAIT_S)
    assert ints(reply.body)[got.call :] == [2 * MIB, END]
    mapped = node.metric("edgeagent_hose_mapped_bytes_total") - before
    tier = reply.headers["edgeagent-hose"]
    if node.settings[0] == "runtime.engine=native":
        assert (mapped, tier) == (2 * MIB, f"share;copied={len(taker.encoded())};mapped={2 * MIB}")
    else:
        assert (mapped, tier) == (0, "copy")


def test_a_message_to_a_hose_reaches_every_function_that_takes_it(node: Daemon) -> None:
    echo = HoseProgram()
    echo.call("recv_info", 0)
    for name in ("left", "right"):
        deploy(node, name, 'input = "both"')
    p = Talk(2, b"both", echo.encoded())
    p.call("to", *p.texts[0])
    p.call("send", *p.texts[1], 0)
    assert ints(node.invoke("one", p.encoded()).body)[-1] == 0
    text = 'edgeagent_invocations_total{{function="{}",outcome="success"}} 1.0'
    for name in ("left", "right"):
        wanted = text.format(name).encode()
        for _ in patience():
            if wanted in node.request("GET", "/metrics").body:
                break
        else:
            raise AssertionError(f"{name} did not run")


def test_functions_that_start_each_other_for_ever_come_to_an_end(node: Daemon) -> None:
    """`echoing` sends its input, a program that does just this, to itself."""
    deploy(node, "echoing")
    p = Talk(3, b"echoing")
    size = p.call("recv_info", 0)
    p.call("to", *p.texts[0])
    p.call("send", Ref(0), Ref(size.call), 0)
    reply = node.invoke("echoing", p.encoded())
    assert ints(reply.body)[-1] == 0
    done = b'edgeagent_invocations_total{function="echoing",outcome="success"} 33.0'
    for _ in patience():
        if done in node.request("GET", "/metrics").body:
            break
    else:
        raise AssertionError("it did not end after 32 messages")
    node.wait_metric("edgeagent_hose_messages_waiting", 0)


def test_names_that_nobody_has(node: Daemon) -> None:
    for name in (b"nobody", b"A b", b"one@nowhere", b""):
        p = Talk(4, name, b"m")
        p.call("open", *p.texts[0])
        p.call("accept", *p.texts[0])
        p.call("to", *p.texts[0])
        p.call("send", *p.texts[1], 0)
        assert ints(node.invoke("one", p.encoded()).body)[1:] == [BAD, BAD, 0, BAD], name


def test_a_stream_ends_when_its_sender_fails(node: Daemon) -> None:
    """`two` opens a stream to `one` and traps: `one`, which waits, is told the end."""
    dies = Talk(2, b"one")
    dies.call("open", *dies.texts[0])
    dies.call("load", 0x7FFFFFF0)
    p = Talk(5, b"one", b"two", dies.encoded())
    p.call("accept", *p.texts[0])
    p.call("to", *p.texts[1])
    p.call("send", *p.texts[2], 0)
    p.call("close", *p.texts[1])
    p.call("recv_info", 1)
    assert ints(node.invoke("one", p.encoded()).body)[-1] == END


@pytest.mark.skipif(not library_path().is_file(), reason="libedgehose.so is not built")
def test_frames_of_a_process_are_messages_too(node: Daemon) -> None:
    """The first frame starts the function, which receives the rest until the producer detaches, and tells processes."""
    path = str(node.request("GET", "/v1/node").json()["hose_socket"])
    deploy(node, "films", 'input = "frames"\noutput = "films-seen"')
    p = Talk(5, b"frames", b"films-seen")
    p.call("accept", *p.texts[0])
    at = p.call("take", 65536, 65536)
    got = p.call("recv", at, 65536, 2)
    p.call("release", at)
    p.call("again", got.call, 100)
    with Hose.attach(path, "films-seen", role="consumer") as seen:
        with Hose.attach(path, "frames") as frames:
            for data in (p.encoded(), b"frame", b"another frame"):
                loan = frames.loan(len(data))
                loan.data[:] = data
                loan.publish(len(data))
        with seen.take(timeout_s=WAIT_S) as taken:
            found = ints(bytes(taken.data))
    assert found[1] == 2
    assert found[3] == END
    assert found[5] == 3  # two frames, and the end
    node.wait_metric("edgeagent_hose_messages_waiting", 0)


@pytest.mark.skipif(not library_path().is_file(), reason="libedgehose.so is not built")
def test_a_guest_sends_to_processes(node: Daemon) -> None:
    path = str(node.request("GET", "/v1/node").json()["hose_socket"])
    deploy(node, "reporter", 'output = "reports"')
    with Hose.attach(path, "reports", role="consumer") as reports:
        p = Talk(2, b"reports", b"all is well")
        p.call("to", *p.texts[0])
        p.call("send", *p.texts[1], 0)
        assert ints(node.invoke("one", p.encoded()).body)[-1] == 0
        with reports.take(timeout_s=WAIT_S) as taken:
            assert bytes(taken.data) == b"all is well"


def test_a_node_stops_while_guests_wait(start_daemon: Callable[..., Daemon]) -> None:
    node = start_daemon("drain.timeout_ms=100")
    deploy(node, "one")
    starter, waits = HoseProgram(), HoseProgram()
    waits.call("recv_info", 1)
    del starter
    deploy(node, "two")
    p = Talk(3, b"two", waits.encoded())
    p.call("open", *p.texts[0])
    p.call("to", *p.texts[0])
    p.call("send", *p.texts[1], 0)
    assert ints(node.invoke("one", p.encoded()).body)[-1] == 0
    assert node.stop() == 0, node.log_text()
    assert "Traceback" not in node.log_text()
