"""Everything that a bad module, a bad caller or a bad moment can do, through HTTP: a clear error, and nothing leaks."""

from __future__ import annotations

import concurrent.futures
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.guests import wasm
from tests.integration.daemon import WASM, Daemon, patience

Start = Callable[..., Daemon]


@pytest.fixture(autouse=True)
def _nothing_leaks(daemon: Daemon) -> Iterator[None]:
    """Instances are back at their baseline after every test."""
    yield
    daemon.wait_metric("edgeagent_engine_live_instances", 0)
    daemon.wait_metric("edgeagent_active_calls", 0)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "not WebAssembly"),
        (b"MZ\x90\0 this is another kind of file", "not WebAssembly"),
        (b"\0asm", "truncated"),
        (b"\0asm\x0d\0\x01\0", "component"),
        (b"\0asm\x02\0\0\0", "version"),
        (wasm("add1")[:60], "truncated"),
        (wasm("add1")[:-3], "truncated"),
        (b"\0asm\x01\0\0\0\x01\x03\x01\x60\xff", "wasmtime refuses"),
    ],
)
def test_not_a_module(daemon: Daemon, body: bytes, text: str) -> None:
    reply = daemon.request("PUT", "/v1/functions/bad", body, WASM)
    assert reply.slug == "wasm-refused"
    assert reply.status == 422
    assert text in reply.json()["detail"]
    assert daemon.request("GET", "/v1/functions/bad").status == 404


def test_64_mib_of_zeros(daemon: Daemon) -> None:
    reply = daemon.request("PUT", "/v1/functions/zeros", bytes(64 << 20), WASM)
    assert reply.status in (413, 422)
    assert reply.slug in ("too-large", "wasm-refused")


def test_neither_abi(daemon: Daemon) -> None:
    reply = daemon.deploy("no_abi")
    assert reply.slug == "wasm-refused"
    assert "edge_handle" in reply.json()["detail"]
    wrong = daemon.deploy("add1", "wrong", 'abi = "command"\n')
    assert wrong.status == 422


def test_unknown_imports_are_listed(daemon: Daemon) -> None:
    reply = daemon.deploy("unknown_imports")
    assert reply.slug == "unknown-imports"
    assert reply.json()["unknown_imports"] == [
        {"module": "env", "name": "launch"},
        {"module": "wasi_snapshot_preview1", "name": "fd_teleport"},
    ]


@pytest.mark.parametrize(
    ("guest", "limits", "status", "slug"),
    [
        ("loop", "wall_ms = 50", 504, "deadline-exceeded"),
        ("cmd_sleep", "wall_ms = 50", 504, "deadline-exceeded"),
        ("recurse", "", 500, "guest-stack-overflow"),
        ("trap", "", 500, "guest-trap"),
        ("big_output", "output_bytes = 1000", 500, "guest-output-too-large"),
        ("cmd_flood", "output_bytes = 100000", 500, "guest-output-too-large"),
        ("nonsense_alloc", "", 500, "guest-bad-output"),
        ("nonsense_handle", "", 500, "guest-bad-output"),
        ("loop", "fuel = 100000", 500, "guest-out-of-fuel"),
    ],
)
def test_bad_guests(daemon: Daemon, guest: str, limits: str, status: int, slug: str) -> None:
    name = f"g-{slug}"
    assert daemon.deploy(guest, name, f"[limits]\n{limits}\n").status in (200, 201)
    reply = daemon.invoke(name, b"\xff" * 8)
    assert (reply.status, reply.slug) == (status, slug)
    assert reply.json()["detail"]


def test_a_memory_bomb_gets_its_limit_and_no_more(daemon: Daemon) -> None:
    daemon.deploy("memory_bomb", "bomb", "[limits]\nmemory_bytes = 8388608\n")
    pages = int.from_bytes(daemon.invoke("bomb").body, "little")
    assert pages * 65536 <= 8 << 20


def test_exit_codes_and_stderr(daemon: Daemon) -> None:
    daemon.deploy("cmd_exit", "leaver")
    reply = daemon.invoke("leaver", (200).to_bytes(4, "little"))
    assert reply.slug == "guest-exit"
    assert reply.json()["exit_code"] == 200
    assert reply.json()["stderr"] == "bye\ufffd[31m", "no control characters"
    assert "\x1b" not in daemon.log_text()


def test_body_over_the_limit(daemon: Daemon) -> None:
    daemon.deploy("echo")
    assert len(daemon.invoke("echo", bytes(1_000_000)).body) == 1_000_000
    reply = daemon.invoke("echo", bytes(1_000_001))
    assert reply.slug == "too-large"
    chunks = b"".join(b"%x\r\n%b\r\n" % (100_000, bytes(100_000)) for _ in range(11)) + b"0\r\n\r\n"
    head = b"POST /functions/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b" 413 " in _raw(daemon, head + chunks).splitlines()[0]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/functions/../../etc/passwd",
        "/v1/functions/%2e%2e%2f%2e%2e%2fetc",
        "/v1/functions/..",
        "/functions/..%2fx",
        "/v1/functions/a%00b",
        "/v1/functions/" + "a" * 64,
    ],
)
def test_names_that_are_paths(daemon: Daemon, path: str) -> None:
    method = "PUT" if path.startswith("/v1") else "POST"
    reply = daemon.request(method, path, wasm("add1"), WASM)
    assert reply.status in (400, 404, 422)
    assert reply.headers["content-type"] == "application/problem+json"
    assert not (daemon.state.parent / "etc").exists()


def _raw(daemon: Daemon, data: bytes) -> bytes:
    """What the node says to these bytes until it closes the connection or has answered once."""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=30) as connection:
        connection.sendall(data)
        return connection.recv(65536)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /functions/echo HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /functions/echo HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /functions/echo HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"b" * 70_000 + b"\r\n\r\n",
    ],
)
def test_malformed_http(daemon: Daemon, request_bytes: bytes) -> None:
    answer = _raw(daemon, request_bytes)
    assert re.match(rb"HTTP/1\.[01] 4", answer), answer[:100]
    assert b"application/problem+json" in answer
    assert b"Traceback" not in answer


def test_pipelined_requests_are_answered_in_order(daemon: Daemon) -> None:
    daemon.deploy("echo")
    one = b"POST /functions/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=30) as connection:
        connection.sendall(
            one + b"1" + one + b"2" + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + b"3"
        )
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    bodies = [part.partition(b"\r\n\r\n")[2][:1] for part in answer.split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [b"1", b"2", b"3"]


def test_a_body_is_asked_for_only_when_it_is_welcome(daemon: Daemon) -> None:
    daemon.deploy("echo")
    head = b"POST /functions/%b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=30) as connection:
        connection.sendall(head % (b"echo", 5))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hello")
        assert connection.recv(65536).endswith(b"hello")
    assert b" 413 " in _raw(daemon, head % (b"echo", 2_000_000)).splitlines()[0]
    assert b" 404 " in _raw(daemon, head % (b"nobody", 5)).splitlines()[0]


def test_slow_loris(start_daemon: Start) -> None:
    daemon = start_daemon("http.header_timeout_ms=200")
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=30) as connection:
        connection.sendall(b"POST /functions/x HTTP/1.1\r\nHo")
        assert connection.recv(1) == b"", "closed, and nobody else has noticed"
    assert daemon.request("GET", "/livez").status == 200


def test_a_body_that_never_comes(start_daemon: Start) -> None:
    daemon = start_daemon("http.body_timeout_ms=200")
    daemon.deploy("echo")
    answer = _raw(daemon, b"POST /functions/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    assert b" 408 " in answer.splitlines()[0]
    daemon.wait_metric("edgeagent_engine_live_instances", 0)


def test_a_client_that_hangs_up_stops_its_guest(daemon: Daemon) -> None:
    daemon.deploy("loop", "endless", "[limits]\nwall_ms = 300000\n")
    connection = socket.create_connection(("127.0.0.1", daemon.port))
    connection.sendall(b"POST /functions/endless HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    daemon.wait_metric("edgeagent_engine_live_instances", 1)
    connection.close()
    daemon.wait_metric("edgeagent_engine_live_instances", 0)


def test_too_many_connections(start_daemon: Start) -> None:
    daemon = start_daemon("http.connections_max=8")
    held = [socket.create_connection(("127.0.0.1", daemon.port)) for _ in range(8)]
    answer = b""
    for _ in range(200):  # the accepts of the held ones may still be under way
        answer = _raw(daemon, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        if b" 503 " in answer:
            break
    assert b" 503 " in answer
    assert b"Retry-After" in answer
    for connection in held:
        connection.close()


def test_full_queues_refuse_with_retry_after(start_daemon: Start) -> None:
    daemon = start_daemon("queue.depth_max=2", "runtime.workers=1")
    daemon.deploy("loop", "busy", "[limits]\nwall_ms = 1000\nconcurrency = 1\n")
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda _: daemon.invoke("busy"), range(12)))
    statuses = sorted(reply.status for reply in replies)
    assert 429 in statuses
    assert set(statuses) <= {429, 504}
    refused = next(reply for reply in replies if reply.status == 429)
    assert refused.slug == "queue-full"
    assert int(refused.headers["retry-after"]) >= 1


def test_many_concurrent_calls(start_daemon: Start) -> None:
    """A thousand at once here; benchmarks and EDGEAGENT_TEST_CALLS go higher."""
    count = int(os.environ.get("EDGEAGENT_TEST_CALLS", "1000"))
    daemon = start_daemon("queue.depth_max=100000", "queue.node_depth_max=100000")
    daemon.deploy("echo")
    fds = daemon.open_fds()
    body = b"POST /functions/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
    connections = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", daemon.port), timeout=60)
        connection.sendall(body)
        connections.append(connection)
    answers = []
    for connection in connections:
        with connection:
            answers.append(connection.recv(4096))
    good = sum(answer.endswith(b"hello") for answer in answers)
    refused = sum(b" 503 " in answer[:20] or b" 429 " in answer[:20] for answer in answers)
    assert good + refused == count
    assert good > 0
    daemon.wait_metric("edgeagent_engine_live_instances", 0)
    for _ in patience():
        if daemon.open_fds() <= fds + 2:
            break
        daemon.request("GET", "/livez")
    assert daemon.open_fds() <= fds + 2


def test_disk_full_while_deploying(start_daemon: Start) -> None:
    daemon = start_daemon("runtime.artifact_bytes_max=1048576")
    assert daemon.deploy("add1").status == 201
    from tests.guests import wasm as guest

    padded = guest("echo") + b"\0\xfb\xff\x3f\x01x" + bytes(1_048_569)  # a custom section of a mebibyte
    reply = daemon.request("PUT", "/v1/functions/large", padded, WASM)
    assert (reply.status, reply.slug) == (507, "storage-full")
    assert daemon.invoke("add1", b"a").body == b"b", "what was there still runs"
    assert daemon.request("GET", "/v1/functions/large").status == 404


def test_two_deploys_of_one_name(daemon: Daemon) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        guests = ["echo", "add1", "trap", "start"] * 2
        replies = list(pool.map(lambda guest: daemon.deploy(guest, "race"), guests))
    statuses = {reply.status for reply in replies}
    assert statuses <= {200, 201, 409}
    assert statuses & {200, 201}
    winner = daemon.request("GET", "/v1/functions/race").json()
    assert winner["sha256"] in {reply.json()["sha256"] for reply in replies if reply.status != 409}


def test_sigkill_during_deploys(start_daemon: Start) -> None:
    daemon = start_daemon()
    assert daemon.deploy("add1", "steady").status == 201
    for round_ in range(3):
        guest = ["echo", "start", "residue"][round_]
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            begun = pool.submit(daemon.deploy, guest, "moving")
            daemon.process.send_signal(signal.SIGKILL) if round_ else None
            begun.exception()
        daemon.kill()
        daemon.start()
        names = {f["name"] for f in daemon.request("GET", "/v1/functions").json()["functions"]}
        assert "steady" in names
        assert daemon.invoke("steady", b"a").body == b"b"
        if "moving" in names:
            assert daemon.invoke("moving", b"a").status == 200


def test_accepted_invocations_survive_sigkill(start_daemon: Start) -> None:
    daemon = start_daemon("runtime.workers=1")
    daemon.deploy("loop", "block", "[limits]\nwall_ms = 2000\n")
    daemon.deploy("add1")
    daemon.invoke("block", Prefer="respond-async")
    locations = [
        daemon.invoke("add1", bytes([i]), Prefer="respond-async", Idempotency_Key=f"k{i}").headers["location"]
        for i in range(5)
    ]
    daemon.kill()
    daemon.start()
    for i, location in enumerate(locations):
        for _ in patience():
            view = daemon.request("GET", location).json()
            if view["state"] == "succeeded":
                break
        assert view["state"] == "succeeded"
        assert daemon.request("GET", view["result"]).body == bytes([i + 1])
        again = daemon.invoke("add1", bytes([i]), Prefer="respond-async", Idempotency_Key=f"k{i}")
        assert again.headers["location"] == location


def test_a_second_daemon_on_the_same_state_is_refused(daemon: Daemon) -> None:
    from tests.integration.daemon import cli

    done = cli("run", "--json", "--listen", "127.0.0.1:0", "--state-dir", str(daemon.state))
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain(start_daemon: Start, number: int) -> None:
    daemon = start_daemon()
    daemon.deploy("loop", "slow", "[limits]\nwall_ms = 700\n")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(daemon.invoke, "slow")
        daemon.wait_metric("edgeagent_engine_live_instances", 1)
        daemon.process.send_signal(number)
        seen = {""}
        while "draining" not in seen and not running.done():
            try:
                ready = daemon.request("GET", "/readyz")
            except OSError:
                break
            seen = set(ready.json()["reasons"]) or seen
        assert running.result().status == 504, "what ran was let run to its own end"
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log_text()


def test_loopback_only(tmp_path: Path) -> None:
    from tests.integration.daemon import cli

    done: subprocess.CompletedProcess[bytes] = cli(
        "run", "--json", "--listen", "0.0.0.0:0", "--state-dir", str(tmp_path)
    )
    assert done.returncode == 2
    assert b"loopback" in done.stdout
