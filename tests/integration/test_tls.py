"""HTTP and hoses beyond loopback: TLS on both sides with keys of ``edgeagent keys``, and who may do what there.

127.0.0.1 stands for another host's address: ``http.listen_tls`` always speaks TLS.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeagent.mesh.tls import tls_context
from tests.guests import wasm
from tests.integration.daemon import WASM, Daemon, Reply, cli

Start = Callable[..., Daemon]
A, B = "a" * 32, "b" * 32


def keys(*words: object) -> None:
    done = cli("keys", *map(str, words), "--json")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster's folder with the folders of nodes a and b and of an operator beside it, and a stranger's."""
    base = tmp_path_factory.mktemp("keys")
    keys("init", base / "cluster")
    for name, node in (("a", A), ("b", B)):
        keys("issue", base / "cluster", "--node", node, "--address", "127.0.0.1", "--out", base / name)
    keys("issue", base / "cluster", "--operator", "olga", "--out", base / "olga")
    keys("init", base / "strange")
    keys("issue", base / "strange", "--operator", "olga", "--out", base / "stranger")
    return base


def new_state(folder: Path, node: str) -> None:
    folder.mkdir(mode=0o700)
    (folder / "node-id").write_text(f"{node}\n")


@pytest.fixture(scope="module")
def secure(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One node with a plain door and one with TLS; ``add1`` is deployed."""
    base = tmp_path_factory.mktemp("secure")
    new_state(base / "state", A)
    started = Daemon(base / "state", "http.listen_tls=127.0.0.1:0", f"mesh.keys={folders}/a")
    assert started.deploy("add1").status == 201
    yield started
    assert started.stop() == 0, started.log_text()
    assert "Traceback" not in started.log_text()


def tls_port(node: Daemon) -> int:
    return int(node.ready["tls_url"].rpartition(":")[2])


def over_tls(
    node: Daemon, folder: Path, method: str, path: str, body: bytes | None = None, headers: Any = None
) -> Reply:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", tls_port(node), timeout=30, context=tls_context(folder, server=False)
    )
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
    finally:
        connection.close()


def test_nodes_call_functions(secure: Daemon, folders: Path) -> None:
    for _ in range(3):  # also where the fast lane answers
        reply = over_tls(secure, folders / "b", "POST", "/functions/add1", b"\x01\x02")
        assert (reply.status, reply.body) == (200, b"\x02\x03")
    assert over_tls(secure, folders / "b", "GET", "/v1/node").json()["id"] == A


@pytest.mark.parametrize(
    "path", ["/v1/functions/mine", "https://x/v1/functions/mine", "/v1/functions/min%65"]
)
def test_nodes_do_not_deploy(secure: Daemon, folders: Path, path: str) -> None:
    for method in ("PUT", "DELETE"):
        reply = over_tls(secure, folders / "b", method, path, wasm("add1"), WASM)
        assert (reply.status, reply.slug) == (403, "not-allowed")
        assert "--operator" in reply.json()["hint"]
    assert secure.request("GET", "/v1/functions/mine").status == 404


def test_operators_deploy(secure: Daemon, folders: Path) -> None:
    assert over_tls(secure, folders / "olga", "PUT", "/v1/functions/hers", wasm("add1"), WASM).status == 201
    assert over_tls(secure, folders / "olga", "POST", "/functions/hers", b"\x01").body == b"\x02"
    assert over_tls(secure, folders / "olga", "DELETE", "/v1/functions/hers").status == 204


def test_nobody_speaks_for_another_node(secure: Daemon, folders: Path) -> None:
    ticket = b'{"peer": "%s", "bytes": 1}' % B.encode()
    said = {"Edgeagent-Peer": A, "Content-Type": "application/json"}
    for folder in ("b", "olga"):
        reply = over_tls(secure, folders / folder, "POST", "/v1/hoses/tickets", ticket, said)
        assert (reply.status, reply.slug) == (403, "not-allowed")
    reply = over_tls(secure, folders / "b", "POST", "/functions/add1", b"\x01", {"Edgeagent-Peer": A})
    assert (reply.status, reply.slug) == (403, "not-allowed")
    reply = over_tls(secure, folders / "b", "POST", "/functions/add1", b"\x01", {"Edgeagent-Peer": B})
    assert reply.status == 200


def _asked(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/v1/node")  # with TLS 1.3 the refusal comes with the first answer
    connection.getresponse()


def test_strangers_get_no_answer(secure: Daemon, folders: Path) -> None:
    no_certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    no_certificate.load_verify_locations(folders / "a" / "ca.crt")
    mixed = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    mixed.load_verify_locations(folders / "a" / "ca.crt")
    mixed.load_cert_chain(folders / "stranger" / "node.crt", folders / "stranger" / "node.key")
    old = tls_context(folders / "b", server=False)
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    for context in (no_certificate, mixed, old):
        connection = http.client.HTTPSConnection("127.0.0.1", tls_port(secure), timeout=30, context=context)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _asked(connection)
        connection.close()
    with socket.create_connection(("127.0.0.1", tls_port(secure)), timeout=30) as plain:
        plain.sendall(b"GET /v1/node HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = plain.recv(65536)
        assert b"200" not in answer
    assert over_tls(secure, folders / "b", "GET", "/livez").body == b"ok\n"


def command(node: Daemon, folder: Path | None, *words: str) -> subprocess.CompletedProcess[bytes]:
    extra = () if folder is None else ("--keys", str(folder))
    return cli(*words, *extra, "--node", node.ready["tls_url"])


def test_the_command_line_takes_keys(secure: Daemon, folders: Path, tmp_path: Path) -> None:
    (tmp_path / "two.wasm").write_bytes(wasm("add1"))
    done = command(secure, folders / "olga", "deploy", str(tmp_path / "two.wasm"), "--name", "two")
    assert done.returncode == 0, done.stderr
    done = command(secure, folders / "b", "invoke", "two", "--data", "AB")
    assert (done.returncode, done.stdout) == (0, b"BC"), done.stderr
    for folder, says in (
        (None, "takes keys"),
        (folders / "stranger", "keys issue --address"),
        (folders / "nowhere", "No such file"),
    ):
        done = command(secure, folder, "functions")
        assert done.returncode != 0
        assert says in done.stderr.decode()
        assert "Traceback" not in done.stderr.decode()
    done = command(secure, folders / "b", "undeploy", "two")
    assert done.returncode == 1
    assert "may not deploy" in done.stderr.decode()


def test_a_node_is_called_by_a_name_of_its_certificate(
    start_daemon: Start, folders: Path, tmp_path: Path
) -> None:
    new_state(tmp_path / "state", "e" * 32)
    keys("issue", folders / "cluster", "--node", "e" * 32, "--address", "192.0.2.1", "--out", tmp_path / "k")
    node = start_daemon("http.listen_tls=127.0.0.1:0", f"mesh.keys={tmp_path}/k")
    done = command(node, folders / "b", "functions")
    assert done.returncode == 1
    assert "IP address mismatch" in done.stderr.decode()


def test_one_door_beyond_loopback_is_enough(start_daemon: Start, folders: Path, tmp_path: Path) -> None:
    new_state(tmp_path / "state", A)
    daemon = Daemon(tmp_path / "state", f"mesh.keys={folders}/a", start=False)
    daemon.listen = "0.0.0.0:0"
    daemon.start()
    try:
        assert daemon.ready["url"].startswith("https://0.0.0.0:")
        reply = over_tls(daemon, folders / "b", "GET", "/v1/node")
        assert reply.json()["id"] == A
    finally:
        assert daemon.stop() == 0


def test_chains_and_hoses_go_over_tls(start_daemon: Start, folders: Path, tmp_path: Path) -> None:
    new_state(tmp_path / "b", B)
    b = start_daemon(
        "http.listen_tls=127.0.0.1:0", "hose.listen=0.0.0.0:0", f"mesh.keys={folders}/b", state="b"
    )
    new_state(tmp_path / "a", A)
    a = start_daemon(
        "http.listen_tls=127.0.0.1:0", "hose.listen=0.0.0.0:0", f"mesh.keys={folders}/a",
        f"hose.peers=other={b.ready['tls_url']}", "hose.remote_bytes_min=65536", state="a",
    )  # fmt: skip
    for node in (a, b):
        assert node.deploy("hose_invert").status == 201
        assert node.deploy("echo").status == 201
    body = bytes(range(256)) * 4096
    reply = a.invoke("echo", body, Edgeagent_Then="hose-invert@other,echo")
    assert reply.status == 200, reply.body
    assert reply.body == bytes(255 - one for one in range(256)) * 4096
    assert b.metric("edgeagent_hose_remote_received_total") == 1
    assert a.metric("edgeagent_hose_remote_received_total") == 1


def test_a_peer_without_keys_is_told_so(start_daemon: Start, folders: Path, tmp_path: Path) -> None:
    new_state(tmp_path / "b", B)
    b = start_daemon("http.listen_tls=127.0.0.1:0", f"mesh.keys={folders}/b", state="b")
    a = start_daemon(f"hose.peers=other={b.ready['tls_url']}", state="a")
    for node in (a, b):
        assert node.deploy("add1").status == 201
    reply = a.invoke("add1", b"x", Edgeagent_Then="add1@other")
    assert (reply.status, reply.slug) == (502, "peer-failed")
    assert "certificate" in json.loads(reply.body)["detail"]


def test_keys_of_another_node_do_not_serve(folders: Path, tmp_path: Path) -> None:
    new_state(tmp_path / "state", A)
    done = cli(
        "run", "--json", "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "state"),
        "--set", "http.listen_tls=127.0.0.1:0", "--set", f"mesh.keys={folders}/b",
        "--set", f"node.cache_dir={tmp_path}/cache",
    )  # fmt: skip
    assert done.returncode == 2
    assert "not those of node" in json.loads(done.stdout)["problem"]["detail"]


def test_a_handshake_that_does_not_end_is_cut(start_daemon: Start, folders: Path, tmp_path: Path) -> None:
    new_state(tmp_path / "state", A)
    node = start_daemon("http.listen_tls=127.0.0.1:0", f"mesh.keys={folders}/a", "http.header_timeout_ms=200")
    with socket.create_connection(("127.0.0.1", tls_port(node)), timeout=30) as silent:
        assert silent.recv(1) == b""  # cut by the node, not by our time-out
