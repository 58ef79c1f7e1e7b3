"""What people do by mistake: bad addresses and names, odd headers, open directories, damaged files, full outputs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.guests import wasm
from tests.integration.daemon import WASM, Daemon, cli, environment

NODE = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    "node",
    [
        "http://[::1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:abc",
        "http://a b",
        "ftp://a",
        "http://a/b?c=1",
    ],
)
def test_an_address_that_is_none(node: str) -> None:
    done = cli("functions", "--node", node)
    assert done.returncode == 1
    assert done.stderr.startswith(b"edgeagent: --node")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["é", "a?x=1", "a b", "a%2e", "../x", "A"])
def test_a_name_that_is_none_never_reaches_the_node(name: str, tmp_path: Path) -> None:
    module = tmp_path / "f.wasm"
    module.write_bytes(wasm("add1"))
    for words in (
        ("deploy", str(module), "--name", name),
        ("undeploy", name),
        ("invoke", name),
        ("invoke", "a", "--then", name),
    ):
        done = cli(*words, "--node", NODE)
        assert done.returncode == 1
        assert b"is not allowed" in done.stderr


def test_arguments_that_are_no_text(daemon: Daemon) -> None:
    daemon.deploy("cmd_echo")
    words = ("invoke", "cmd-echo", "--node", daemon.url, "--data")
    command: list[str | bytes] = [sys.executable, "-m", "edgeagent", *words]
    given: tuple[tuple[str | bytes, bytes, bytes], ...] = (
        (b"\xff\xfe", b"", b"\xff\xfe"),
        ("@-", b"piped", b"piped"),
    )
    for data, stdin, said in given:
        done = subprocess.run(
            [*command, data], input=stdin, capture_output=True, env=environment(), check=False
        )
        assert (done.returncode, done.stdout) == (0, said)


def test_standard_input(daemon: Daemon) -> None:
    daemon.deploy("cmd_echo")
    command = f"{sys.executable} -m edgeagent invoke cmd-echo --node {daemon.url}"
    for line, code, out, err in (
        (f"printf abc | {command}", 0, b"abc", b""),
        (f"printf abc | {command} --data ''", 0, b"", b""),
        (f"{command} < {Path(__file__)}", 0, b"", b""),
        (f"{command} <&-", 0, b"", b""),
        (f"{command} --data - <&-", 1, b"", b"edgeagent: standard input is closed\n"),
        (
            f"{command} --data - 0>/dev/null",
            1,
            b"",
            b"edgeagent: cannot read standard input: Bad file descriptor\n",
        ),
    ):
        done = subprocess.run(line, shell=True, capture_output=True, env=environment(), check=False)
        assert (done.returncode, done.stdout, done.stderr) == (code, out, err), line


def test_usage_that_is_wrong_exits_with_2() -> None:
    done = cli("invoke", "a", "--async", "--then", "b", "--node", NODE)
    assert done.returncode == 2
    assert b"do not go together" in done.stderr


@pytest.mark.parametrize("words", [("functions",), ("functions", "--json")])
def test_an_output_that_cannot_be_written(daemon: Daemon, words: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [sys.executable, "-m", "edgeagent", *words, "--node", daemon.url],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b"edgeagent: cannot write the output: No space left on device\n"


@pytest.mark.parametrize(
    ("words", "redirection"),
    [
        ("check-config", ">&-"),
        ("functions --json --node http://127.0.0.1:1", ">/dev/full"),
        ("invoke --json", ">/dev/full"),
        ("check-config", ">/dev/full"),
    ],
)
def test_outputs_that_are_closed_or_full(words: str, redirection: str) -> None:
    line = f"{sys.executable} -m edgeagent {words} {redirection}"
    done = subprocess.run(line, shell=True, capture_output=True, env=environment(), check=False)
    assert done.returncode == 1
    assert done.stderr.decode().startswith("edgeagent: cannot write the output: ")
    assert done.stderr.count(b"\n") == 1


def test_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    command: list[str | bytes] = [sys.executable, "-m", "edgeagent", "check-config"]
    command.append(os.fsencode(tmp_path) + b"/\xff.toml")
    done = subprocess.run(command, capture_output=True, env=environment(), check=False)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_a_deadline_of_many_digits(daemon: Daemon) -> None:
    daemon.deploy("add1")
    for milliseconds in ("1234567.25", "0.001", "86400000"):
        done = cli("invoke", "add1", "--data", "a", "--deadline-ms", milliseconds, "--node", daemon.url)
        assert done.returncode == (1 if milliseconds == "0.001" else 0), done.stderr
        assert b"is not a number" not in done.stderr


@pytest.mark.parametrize("value", ["1e3", "0x10", "-1", "0", "١", "nan", "1_0", ""])
def test_deadlines_that_are_no_numbers(daemon: Daemon, value: str) -> None:
    daemon.deploy("add1")
    raw = (
        f"POST /functions/add1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nEdgeagent-Deadline-Ms: {value}\r\n"
    )
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=20) as link:
        link.sendall(raw.encode() + b"Connection: close\r\n\r\nx")
        assert link.makefile("rb").readline().startswith(b"HTTP/1.1 400")


def talk(daemon: Daemon, *requests: bytes) -> list[bytes]:
    """What comes back on one connection: the next request is sent when the reply to the one before has come."""
    replies = []
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=20) as link:
        stream = link.makefile("rb")
        for request in requests:
            link.sendall(request)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = stream.readline()
                assert line, head
                head += line
            length = re.search(rb"content-length: *([0-9]+)", head, re.IGNORECASE)
            assert length, head
            replies.append(head + stream.read(int(length[1])))
    return replies


def post(headers: bytes = b"", body: bytes = b"abc", end: bytes = b"Content-Length: 3\r\n\r\n") -> bytes:
    return b"POST /functions/add1 HTTP/1.1\r\nHost: a\r\n" + headers + end + body


def test_the_fast_lane_leaves_what_is_not_plain(daemon: Daemon) -> None:
    daemon.deploy("add1")
    *_, chain, coded, plain = talk(
        daemon,
        *[post()] * 3000,  # until its history says that it is short, and the lane takes it
        post(b"Edgeagent-Then: add1\r\n"),
        post(b"Transfer-Encoding: gzip, chunked\r\n", b"3\r\nabc\r\n0\r\n\r\n", b"\r\n"),
        post(),
    )
    assert chain.endswith(b"cde")
    assert coded.split()[1] == b"415"
    assert plain.endswith(b"bcd")


@pytest.mark.parametrize(
    "name", [b"Edgeagent-Deadline-Ms", b"Idempotency-Key", b"Edgeagent-Args", b"Edgeagent-Then"]
)
def test_headers_that_are_there_twice(daemon: Daemon, name: bytes) -> None:
    daemon.deploy("add1")
    (reply,) = talk(daemon, post(name + b": 5000\r\n" + name + b": 1\r\n"))
    assert reply.split()[1] == b"400"
    assert b"more than once" in reply


def test_a_target_with_scheme_and_host(daemon: Daemon) -> None:
    (reply,) = talk(daemon, b"GET http://node/livez HTTP/1.1\r\nHost: a\r\n\r\n")
    assert reply.split()[1] == b"200"


def test_what_comes_behind_an_upgrade(daemon: Daemon) -> None:
    daemon.deploy("add1")
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=20) as link:
        link.sendall(post(b"Connection: Upgrade\r\nUpgrade: h2c\r\n") + post())
        heard = link.makefile("rb").read()  # to its end: nobody waits for a reply that does not come
    assert heard.count(b"200 OK") == 1
    assert b"connection: close" in heard.lower()


def test_malformed_heads_are_not_sent_back(daemon: Daemon) -> None:
    for line in (b"X: " + b"y" * 20_000, b"Content-Length: 99999999999999999999999999", b"Ho st: a"):
        (reply,) = talk(daemon, b"GET /livez HTTP/1.1\r\n" + line + b"\r\n\r\n")
        assert reply.split()[1] == b"400"
        detail = json.loads(reply.partition(b"\r\n\r\n")[2])["detail"]
        assert "yyy" not in detail
        assert not detail.endswith(":")


def test_transfer_codings_other_than_chunked(daemon: Daemon) -> None:
    daemon.deploy("add1")
    raw = b"POST /functions/add1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=20) as link:
        link.sendall(raw + b"1\r\nx\r\n0\r\n\r\n")
        assert link.makefile("rb").readline().split()[1] in (b"400", b"415")


@pytest.mark.parametrize(
    "headers", [b"X: " + b"a" * 100_000, b"\r\n".join(b"X%d: a" % i for i in range(5000))]
)
def test_parts_with_headers_over_the_limits(daemon: Daemon, headers: bytes) -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="wasm"\r\n' + headers + b"\r\n\r\nx\r\n--B--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=B"}
    reply = daemon.request("PUT", "/v1/functions/parts", body, kind)
    assert (reply.status, reply.slug) == (400, "bad-request")
    assert "Traceback" not in daemon.log_text()


def test_a_directory_that_was_open_to_others_is_closed(
    start_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    state.chmod(0o755)
    start_daemon()
    assert state.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_deploying_again_mends_what_was_damaged(start_daemon: Callable[..., Daemon], damage: str) -> None:
    daemon = start_daemon()
    assert daemon.deploy("add1").status == 201
    assert daemon.stop() == 0
    (stored,) = (daemon.state / "artifacts").glob("**/*.wasm")
    if damage == "missing":
        stored.unlink()
    else:
        data = bytearray(stored.read_bytes())
        data[-1] ^= 1
        stored.write_bytes(data)
    shutil.rmtree(daemon.state / "cache")
    daemon.start()
    refused = daemon.invoke("add1", b"a")
    assert refused.status == 503 or refused.slug in {"store-failed", "not-found"}
    assert "deploy" in refused.body.decode()
    assert daemon.request("PUT", "/v1/functions/add1", wasm("add1"), WASM).status == 200
    assert daemon.invoke("add1", b"a").body == b"b"


def test_a_cache_that_is_removed_is_made_again(start_daemon: Callable[..., Daemon]) -> None:
    daemon = start_daemon()
    assert daemon.deploy("add1").status == 201
    shutil.rmtree(daemon.state / "cache")
    assert daemon.deploy("echo").status == 201
    assert daemon.invoke("echo", b"x").body == b"x"


def test_toml_that_is_too_deep(tmp_path: Path) -> None:
    config = tmp_path / "deep.toml"
    config.write_text("x=" + "[" * 5000, encoding="utf-8")
    done = cli("check-config", str(config))
    assert done.returncode == 2
    assert b"not TOML" in done.stderr


def test_a_terminal_that_goes_away(start_daemon: Callable[..., Daemon]) -> None:
    # Under nohup the suite would hand down that hang-ups are ignored, which the daemon respects.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        daemon = start_daemon()
    finally:
        signal.signal(signal.SIGHUP, before)
    os.kill(daemon.process.pid, signal.SIGHUP)
    assert daemon.process.wait(30) == 0


def test_a_daemon_under_nohup_stays(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited, as nohup does it
    try:
        daemon = Daemon(tmp_path / "state")
    finally:
        signal.signal(signal.SIGHUP, before)
    os.kill(daemon.process.pid, signal.SIGHUP)
    assert daemon.request("GET", "/readyz").status == 200
    assert daemon.stop() == 0


def test_an_accepted_repeat_tells_the_state_of_the_first(daemon: Daemon) -> None:
    daemon.deploy("add1")
    assert daemon.invoke("add1", b"a", Idempotency_Key="done").status == 200
    reply = daemon.invoke("add1", b"a", Idempotency_Key="done", Prefer="respond-async")
    assert (reply.status, reply.json()["state"]) == (202, "succeeded")


def test_a_node_whose_log_cannot_be_written_serves(tmp_path: Path) -> None:
    """A log on a full disk must not end a node that nobody can reach."""
    daemon = Daemon(tmp_path / "state", log=Path("/dev/full"))
    assert daemon.deploy("echo").status == 201
    assert daemon.invoke("echo", b"x").body == b"x"
    assert daemon.stop() == 0


def test_a_node_whose_ready_line_cannot_be_written_serves(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgeagent", "run", "--json", "--listen", "127.0.0.1:0"]
    command += ["--state-dir", str(tmp_path / "state"), "--log-format", "json", "--exit-with-parent"]
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen(command, stdout=full, stderr=subprocess.PIPE, env=environment(), text=True)
    assert process.stderr is not None
    with process.stderr as log:
        line = next(line for line in log if "standard output cannot be written" in line)
        process.terminate()
        log.read()
    assert "No space left on device" in line
    assert process.wait(60) == 0
