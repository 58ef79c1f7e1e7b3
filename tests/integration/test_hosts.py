"""Two daemons: chains that go on at a peer, data that travel once, messages between hosts, and what breaks."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeagent.bench.hose_guests import expected_sum, request
from edgeagent.hose.errors import TicketRefused
from edgeagent.hose.remote import RemoteClient, RemoteSettings, Scope, Ticket
from edgeagent.node.items import read_items
from tests.conftest import engine_names
from tests.integration.daemon import ROOT, WASM, Daemon, Reply, cli, patience
from tests.integration.hosts_rig import Pair

MIB = 1 << 20


@pytest.fixture(scope="module", params=["pure", "native"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    if request.param not in engine_names():
        pytest.skip("the extension is not built")
    started = Pair(tmp_path_factory.mktemp("hosts"), f"runtime.engine={request.param}")
    yield started
    started.stop()


def steps(reply: Reply) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(reply.headers["edgeagent-steps"])
    return found


def node_id(node: Daemon) -> str:
    return (
        node.request("GET", "/livez").headers.get("edgeagent-node")
        or node.invoke("echo").headers["edgeagent-node"]
    )


@pytest.mark.parametrize("count", [1, 3, 70_000, 3 * MIB + 5, 64 * MIB])
def test_a_chain_over_two_hosts(pair: Pair, count: int) -> None:
    data = os.urandom(count)
    reply = pair.here.invoke("echo", data, Edgeagent_Then="hose-invert@ground,hose-invert")
    assert reply.status == 200, reply.body
    assert reply.body == data
    there = node_id(pair.there)
    assert [step.get("node", "") for step in steps(reply)] == ["", there, ""]
    assert [step.get("wire_bytes", 0) for step in steps(reply)] == [0, count, 0]
    assert steps(reply)[1]["hose"] == "wire"
    assert [step["bytes_out"] for step in steps(reply)] == [count] * 3
    assert "body" not in reply.headers


def test_what_a_peer_made_comes_back_whole(pair: Pair) -> None:
    count = 5 * MIB
    reply = pair.here.invoke("produce@ground", request(count, lent=True), Edgeagent_Then="consume")
    assert reply.body == expected_sum(count)
    last = pair.here.invoke("produce@ground", request(count, lent=True))
    assert len(last.body) == count
    assert last.headers["edgeagent-hops"] == "1"
    assert last.headers["edgeagent-hose"].startswith("wire;copied=")
    assert _series(pair.here, 'edgeagent_hose_handovers_total{tier="wire"}') > 0


def test_steps_at_one_peer_go_there_together(pair: Pair) -> None:
    count = 4 * MIB
    sent = pair.here.metric("edgeagent_hose_remote_sent_total")
    back = pair.there.metric("edgeagent_hose_remote_sent_total")
    reply = pair.here.invoke(
        "produce", request(count, lent=True), Edgeagent_Then="echo@ground,consume@ground"
    )
    assert reply.body == expected_sum(count)
    assert pair.here.metric("edgeagent_hose_remote_sent_total") == sent + 1
    assert pair.there.metric("edgeagent_hose_remote_sent_total") == back
    assert [step["function"] for step in steps(reply)] == ["produce", "echo", "consume"]


def test_several_functions_of_one_host_cost_one_transfer(pair: Pair) -> None:
    count = 4 * MIB
    received = pair.there.metric("edgeagent_hose_remote_received_total")
    reply = pair.here.invoke(
        "produce",
        request(count, lent=True),
        Edgeagent_Then="consume@ground+consume@ground+consume+consume@ground",
    )
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] == "application/vnd.edgeagent.items"
    assert [bytes(item) for item in read_items(reply.body)] == [expected_sum(count)] * 4
    assert pair.there.metric("edgeagent_hose_remote_received_total") == received + 1
    pair.there.wait_metric("edgeagent_hose_parcels", 0)


def test_several_functions_here_share_one_buffer(pair: Pair) -> None:
    count = 3 * MIB
    reply = pair.here.invoke(
        "produce", request(count, lent=False), Edgeagent_Then="consume+consume+echo,echo"
    )
    first, second, third = read_items(reply.body)
    assert bytes(first) == bytes(second) == expected_sum(count)
    assert len(third) == count
    joined = pair.here.invoke("add1+echo", b"ab").body
    assert joined == struct.pack("<I", 2) + b"bc" + struct.pack("<I", 2) + b"ab"


def test_through_the_command_line(pair: Pair, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(os.urandom(200_000))
    done = cli(
        "invoke", "echo", "--data", f"@{data}", "--then", "echo@ground", "--json", "--node", pair.here.url
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["steps"][1]["node"] == node_id(pair.there)
    assert found["steps"][1]["wire_bytes"] == 200_000
    wrong = cli("invoke", "echo", "--then", "add1@moon", "--node", pair.here.url)
    assert wrong.returncode == 1
    assert b"no peer moon" in wrong.stderr
    assert b"ground" in wrong.stderr
    assert cli("invoke", "a@b@c", "--node", pair.here.url).returncode == 1


@pytest.mark.parametrize(
    ("then", "status", "slug"),
    [
        ("trap@ground", 500, "guest-trap"),
        ("nobody@ground", 404, "not-found"),
        ("echo@moon", 400, "unknown-peer"),
        ("trap@ground+echo", 500, "guest-trap"),
        ("echo+trap", 500, "guest-trap"),
        ("echo@", 400, "bad-request"),
        ("echo++echo", 400, "bad-request"),
        ("+".join(["echo"] * 40), 400, "bad-request"),
    ],
)
def test_what_fails_at_a_peer_fails_here_in_the_same_way(
    pair: Pair, then: str, status: int, slug: str
) -> None:
    reply = pair.here.invoke("echo", b"x", Edgeagent_Then=then)
    assert (reply.status, reply.slug) == (status, slug), reply.body
    if "trap" in then:
        assert reply.json()["function"] == "trap"
        assert reply.json().get("peer", "") == ("ground" if "@" in then else "")
    if "moon" in then:
        assert reply.json()["peers"] == ["ground"]


def test_deadlines_go_along(pair: Pair) -> None:
    for node in (pair.here, pair.there):
        node.deploy("loop")
    reply = pair.here.invoke("loop@ground", b"", Edgeagent_Deadline_Ms="100")
    assert (reply.status, reply.slug) == (504, "deadline-exceeded")
    pair.there.wait_metric("edgeagent_engine_live_instances", 0)


def test_a_circle_ends(pair: Pair) -> None:
    """Hops are counted: at the limit a node does not pass a chain on."""
    reply = pair.here.request("POST", "/functions/echo@ground", b"x", {"Edgeagent-Hops": "8"})
    assert (reply.status, reply.slug) == (400, "bad-request")
    assert "8 hosts" in reply.json()["detail"]


def test_messages_go_to_another_host(pair: Pair) -> None:
    """The example of streams, with its two functions on two hosts: each names the other with its peer."""
    for node, name, peer in ((pair.here, "rows", "ground"), (pair.there, "sum", "sat")):
        other = {"rows": "sum", "sum": "rows"}[name]
        relay = _relay(f"{other}@{peer}")  # guests name a function of their node: what has this name leads on
        assert node.request("PUT", f"/v1/functions/{other}", relay, WASM).status == 201
        own = (ROOT / f"examples/streams/{name}.wasm").read_bytes()
        assert node.request("PUT", f"/v1/functions/{name}", own, WASM).status == 201
    reply = pair.here.invoke("rows", b"1\n20\n300")
    assert reply.body == b"321\n", reply.body
    for node in (pair.here, pair.there):
        node.wait_metric("edgeagent_hose_messages_waiting", 0)


def _relay(to: str, *, goes_on: bool = True) -> bytes:
    """A guest that passes on its input and, where it ``goes_on``, every message until the stream ends."""
    import wasmtime

    return bytes(
        wasmtime.wat2wasm(f"""(module
  (import "edge_hose" "send" (func $send (param i32 i32 i32 i32 i32) (result i32)))
  (import "edge_hose" "recv_info" (func $info (param i32) (result i32)))
  (import "edge_hose" "recv" (func $recv (param i32 i32 i32) (result i32)))
  (import "edge_hose" "release" (func $release (param i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 16) "{to}")
  (func (export "edge_alloc") (param i32) (result i32) (i32.const 65536))
  (func (export "edge_handle") (param $ptr i32) (param $len i32) (result i64)
    (local $got i32)
    (drop (call $send (i32.const 16) (i32.const {len(to)}) (local.get $ptr) (local.get $len) (i32.const 0)))
    (block $end (br_if $end (i32.const {int(not goes_on)})) (loop $next
      (br_if $end (i32.lt_s (call $info (i32.const 1)) (i32.const 0)))
      (local.set $got (call $recv (i32.const 131072) (i32.const 65536) (i32.const 1)))
      (br_if $end (i32.lt_s (local.get $got) (i32.const 0)))
      (drop (call $send (i32.const 16) (i32.const {len(to)}) (i32.const 131072) (local.get $got) (i32.const 0)))
      (drop (call $release (i32.const 131072)))
      (br $next)))
    (i64.const 0)))""")
    )


def test_large_messages_go_by_hose(pair: Pair) -> None:
    sent = pair.here.metric("edgeagent_hose_remote_sent_total")
    ran = 'edgeagent_invocations_total{function="hose-invert",outcome="success"}'
    relay = _relay("hose-invert@ground", goes_on=False)
    assert pair.here.request("PUT", "/v1/functions/far", relay, WASM).status in {200, 201}
    before = _series(pair.there, ran)
    assert pair.here.invoke("far", os.urandom(150_000)).status == 200
    for _ in patience():
        if _series(pair.there, ran) == before + 1:
            break
    else:
        raise AssertionError("the message did not run the function")
    assert pair.here.metric("edgeagent_hose_remote_sent_total") == sent + 1
    pair.there.wait_metric("edgeagent_hose_parcels", 0)


def _series(node: Daemon, name: str) -> float:
    for line in node.request("GET", "/metrics").body.decode().splitlines():
        if line.startswith(name):
            return float(line.rpartition(" ")[2])
    return 0.0


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("POST", "/v1/hoses/tickets", {}, b"", 400),
        ("POST", "/v1/hoses/tickets", {}, b'{"peer": "a b"}', 400),
        ("POST", "/v1/hoses/tickets", {}, b'{"peer": "x", "bytes": -1}', 400),
        ("POST", "/v1/hoses/tickets", {}, b'{"peer": "x", "bytes": 600000000}', 413),
        ("POST", "/v1/hoses/tickets", {}, b'{"peer": "' + b"x" * 5000 + b'"}', 413),
        ("POST", "/functions/echo", {"Edgeagent-Hose-Input": "00" * 16}, b"", 404),
        ("POST", "/functions/echo", {"Edgeagent-Hose-Input": "00" * 16, "Edgeagent-Peer": "x"}, b"", 404),
        ("POST", "/functions/echo", {"Edgeagent-Hose-Input": "00", "Edgeagent-Peer": "x"}, b"both", 400),
        ("POST", "/functions/echo", {"Edgeagent-Hose-Return": "{}"}, b"", 400),
        ("POST", "/functions/echo", {"Edgeagent-Hops": "-1"}, b"", 400),
        ("DELETE", "/v1/hoses/nothing", {}, b"", 204),
        ("POST", "/v1/hoses/streams/echo", {"Edgeagent-Peer": "x"}, b"", 400),
        ("POST", "/v1/hoses/streams/no", {"Edgeagent-Peer": "x", "Edgeagent-Hose-Sender": "1"}, b"", 404),
    ],
)
def test_requests_of_no_honest_node(
    pair: Pair, method: str, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    assert pair.there.request(method, path, body, headers).status == status


def test_a_ticket_to_nowhere_costs_the_reply_nothing(pair: Pair) -> None:
    """The return ticket leads to a closed port: the output comes in the body."""
    back = {
        "ticket": "00" * 16,
        "secret": "00" * 32,
        "port": 1,
        "transfer_bytes_max": 1 << 30,
        "expires_s": 60,
    }
    reply = pair.there.request(
        "POST",
        "/functions/echo",
        os.urandom(100_000),
        {"Edgeagent-Peer": "x", "Edgeagent-Hose-Return": json.dumps(back)},
    )
    assert reply.status == 200
    assert len(reply.body) == 100_000
    assert "edgeagent-hose-output" not in reply.headers


def test_a_peer_that_dies_is_a_502_and_a_new_one_is_found(tmp_path: Path) -> None:
    """Killed while it is sent 40 MiB; started again it listens on another hose port."""
    pair = Pair(tmp_path)
    big = os.urandom(40 * MIB)
    assert pair.here.invoke("echo@ground", big).body == big  # the connection is there
    fds = pair.here.open_fds()
    pair.there.process.send_signal(signal.SIGSTOP)
    replies: list[Reply] = []
    caller = threading.Thread(target=lambda: replies.append(pair.here.invoke("echo@ground", big)))
    caller.start()
    pair.there.process.kill()
    caller.join(60)
    pair.there.kill()
    assert (replies[0].status, replies[0].slug) == (502, "peer-failed")
    assert replies[0].json()["peer"] == "ground"
    down = pair.here.invoke("echo@ground", b"small")
    assert (down.status, down.slug) == (502, "peer-failed")
    pair.there.start()
    assert pair.here.invoke("echo@ground", big).body == big
    pair.here.wait_metric("edgeagent_hose_parcels", 0)
    pair.there.wait_metric("edgeagent_hose_parcels", 0)
    assert pair.here.metric("edgeagent_hose_remote_failed_total") >= 1
    assert pair.here.open_fds() <= fds + 1  # the line back to nobody is one of at most 16
    pair.stop()


def test_what_a_dead_sender_left_is_dropped(tmp_path: Path, start_daemon: Callable[..., Daemon]) -> None:
    """A whole parcel that nobody uses, half a transfer, and a daemon that is killed while it sends."""
    there = start_daemon("hose.keep_ms=500", "http.body_bytes_max=100000000", state="there")
    there.deploy("echo")
    here = Daemon(tmp_path / "here", "http.body_bytes_max=100000000", f"hose.peers=ground={there.url}")
    here.deploy("echo")
    program = [sys.executable, "-m", "tests.integration.hose_orphan_child", there.url]
    child = subprocess.Popen(program, stdout=subprocess.PIPE, cwd=ROOT)
    assert child.stdout is not None
    assert child.stdout.readline() == b"half\n"
    assert there.metric("edgeagent_hose_parcels") == 1
    assert there.metric("edgeagent_hose_remote_connections_total") == 2
    child.kill()
    child.wait(30)
    child.stdout.close()
    there.wait_metric("edgeagent_hose_remote_expired_total", 1)
    there.wait_metric("edgeagent_hose_parcels", 0)
    assert there.metric("edgeagent_hose_parcels_bytes") == 0
    big = os.urandom(40 * MIB)
    gone = threading.Thread(target=lambda: _ignored(here, big))
    gone.start()
    there.wait_metric("edgeagent_hose_remote_connections_total", 3)
    here.kill()
    gone.join(60)
    there.wait_metric("edgeagent_hose_parcels", 0)
    there.wait_metric("edgeagent_engine_live_instances", 0)
    here.start()
    assert here.invoke("echo@ground", big).body == big
    here.stop()


def _ignored(node: Daemon, body: bytes) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):  # it was killed
        node.invoke("echo@ground", body)


@pytest.mark.parametrize("case", ["forged", "used"])
def test_a_ticket_that_is_none_opens_nothing(pair: Pair, case: str) -> None:
    reply = pair.there.request("POST", "/v1/hoses/tickets", b'{"peer": "x", "bytes": 5}')
    assert reply.status == 201
    given = reply.json()
    assert given["host"] == "127.0.0.1"
    assert given["port"] == pair.there.request("GET", "/v1/node").json()["hose_port"]
    secret = "00" * 32 if case == "forged" else given["secret"]
    if case == "used":
        _sent(given, given["secret"])
    refused = pair.there.metric("edgeagent_hose_remote_tickets_refused_total")
    with pytest.raises(TicketRefused):
        _sent(given, secret)
    pair.there.wait_metric("edgeagent_hose_remote_tickets_refused_total", refused + 1)


def test_a_node_that_stops_does_not_wait_for_its_peers(
    tmp_path: Path, start_daemon: Callable[..., Daemon]
) -> None:
    there = start_daemon(state="there")
    there.deploy("loop")
    here = start_daemon(f"hose.peers=ground={there.url}", "drain.timeout_ms=0", state="here")
    replies: list[Reply] = []
    caller = threading.Thread(target=lambda: replies.append(here.invoke("loop@ground")))
    caller.start()
    there.wait_metric("edgeagent_engine_live_instances", 1)
    assert here.stop() == 0
    caller.join(30)
    assert (replies[0].status, replies[0].slug) == (503, "cancelled")
    there.wait_metric("edgeagent_engine_live_instances", 0)  # who asked has left


def _sent(given: dict[str, Any], secret: str) -> None:
    ticket = Ticket(bytes.fromhex(given["ticket"]), bytes.fromhex(secret), 60.0, Scope("x", 1 << 20))

    async def tickets() -> Ticket:
        return ticket

    async def send() -> None:
        client = RemoteClient(
            given["host"], given["port"], tickets, RemoteSettings(retries=0), random_bytes=os.urandom
        )
        try:
            await client.send(b"bytes")
        finally:
            await client.close()

    asyncio.run(send())


def test_a_client_uses_a_parcel_without_being_a_node(pair: Pair) -> None:
    """What tickets and transfers are is open to any client of the node's HTTP."""
    given = pair.there.request("POST", "/v1/hoses/tickets", b'{"peer": "x", "bytes": 5}').json()
    parcels = pair.there.metric("edgeagent_hose_parcels")
    id_ = os.urandom(16)
    ticket = Ticket(bytes.fromhex(given["ticket"]), bytes.fromhex(given["secret"]), 60.0, Scope("x", 1 << 20))

    async def tickets() -> Ticket:
        return ticket

    async def send() -> None:
        client = RemoteClient(
            given["host"], given["port"], tickets, RemoteSettings(), random_bytes=os.urandom
        )
        await client.send(b"bytes", transfer=id_)
        await client.close()

    asyncio.run(send())
    for name in ("echo", "add1", "echo+add1"):
        reply = pair.there.invoke(name, Edgeagent_Hose_Input=id_.hex())
        assert b"bytes" in reply.body or reply.body == b"czuft", reply.body
    assert pair.there.metric("edgeagent_hose_parcels") == parcels + 1
    assert pair.there.request("DELETE", f"/v1/hoses/{id_.hex()}").status == 204
    assert pair.there.metric("edgeagent_hose_parcels") == parcels
    lost = pair.there.invoke("echo", Edgeagent_Hose_Input=id_.hex())
    assert (lost.status, lost.json()["parcel"]) == (404, id_.hex())
