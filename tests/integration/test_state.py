"""State through the doors of real daemons: HTTP and the CLI, one node and several."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.continuum_rig import Continuum
from tests.integration.daemon import Daemon, Reply, cli, patience

INCOMPRESSIBLE = random.Random(6).randbytes(5 << 20)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    made = Daemon(
        tmp_path_factory.mktemp("one") / "node", "state.owner_prefixes=owned/", "state.bytes_max=67108864"
    )
    yield made
    made.stop()
    assert "Traceback" not in made.log_text(), made.log_text()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Continuum]:
    made = Continuum(
        tmp_path_factory.mktemp("three"), ("edge", "satellite", "satellite"), "state.owner_prefixes=owned/"
    )
    yield made
    made.stop()


def put(node: Daemon, key: str, value: bytes, **headers: str) -> Reply:
    return node.request(
        "PUT", f"/v1/state/{quote(key)}", value, {k.replace("_", "-"): v for k, v in headers.items()}
    )


def get(node: Daemon, key: str, **headers: str) -> Reply:
    return node.request(
        "GET", f"/v1/state/{quote(key)}", b"", {k.replace("_", "-"): v for k, v in headers.items()}
    )


def group(node: Daemon, *ops: dict[str, Any], **more: Any) -> Reply:
    body = json.dumps({"ops": list(ops), **more}).encode()
    return node.request("POST", "/v1/state:group", body, {"Content-Type": "application/json"})


# -- one node --------------------------------------------------------------------------------------------------------


def test_a_value_comes_back_with_version_and_durability(node: Daemon) -> None:
    wrote = put(node, "a/b c/ü", b"hello")
    assert wrote.status == 200, wrote.body
    told = wrote.json()
    assert told["durability"] == wrote.headers["edgeagent-durability"] == "local"
    read = get(node, "a/b c/ü")
    assert (read.status, read.body) == (200, b"hello")
    assert read.headers["edgeagent-version"] == told["version"]
    again = get(node, "a/b c/ü", If_None_Match=read.headers["etag"])
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 262_144, 5 << 20])
def test_values_of_every_size_come_back_whole(node: Daemon, size: int) -> None:
    value = INCOMPRESSIBLE[:size]
    assert put(node, f"sizes/{size}", value).status == 200
    assert get(node, f"sizes/{size}").body == value


def test_a_version_is_a_condition(node: Daemon) -> None:
    first = put(node, "cas/x", b"1").headers["edgeagent-version"]
    second = put(node, "cas/x", b"2", Edgeagent_Version=first)
    assert second.status == 200
    late = put(node, "cas/x", b"3", Edgeagent_Version=first)
    assert (late.status, late.slug) == (412, "version-mismatch")
    assert late.json()["version"] == second.headers["edgeagent-version"]
    assert put(node, "cas/x", b"4", If_None_Match="*").status == 412
    assert put(node, "cas/new", b"4", If_None_Match="*").status == 200
    assert get(node, "cas/x").body == b"2"
    assert node.request("DELETE", "/v1/state/cas/x", b"", {"Edgeagent-Version": first}).status == 412


def test_once_stays_and_says_so(node: Daemon) -> None:
    assert put(node, "runs/r1/out", b"one").status == 200
    assert put(node, "runs/r1/out", b"one").status == 200
    other = put(node, "runs/r1/out", b"two")
    assert (other.status, other.slug) == (409, "state-key-taken")
    assert get(node, "runs/r1/out").body == b"one"
    assert get(node, "runs/r1/out").headers["edgeagent-mode"] == "once"


def test_what_is_deleted_is_gone_and_what_never_was_is_not_found(node: Daemon) -> None:
    put(node, "del/x", b"1")
    gone = node.request("DELETE", "/v1/state/del/x")
    assert (gone.status, gone.body) == (204, b"")
    assert get(node, "del/x").status == 404
    assert get(node, "del/never").slug == "not-found"
    assert put(node, "del/x", b"2").status == 200
    assert get(node, "del/x").body == b"2"


def test_a_group_happens_whole_or_not_at_all(node: Daemon) -> None:
    done = group(
        node,
        {"op": "put", "key": "g/a", "text": "1"},
        {"op": "put", "key": "g/b", "value": base64.b64encode(b"\x00\x01").decode()},
        {"op": "get", "key": "g/none"},
    )
    assert done.status == 200, done.body
    assert [one["found"] for one in done.json()["results"]] == [True, True, False]
    broken = group(
        node, {"op": "put", "key": "g/a", "text": "9"}, {"op": "put", "key": "g/b", "text": "9", "expect": ""}
    )
    assert broken.status == 412
    read = group(node, prefix="g/").json()["results"]
    assert {one["key"]: base64.b64decode(one["value"]) for one in read} == {"g/a": b"1", "g/b": b"\x00\x01"}
    known = read[0]["version"]
    same = group(node, {"op": "get", "key": "g/a", "known": known}).json()["results"][0]
    assert same["unchanged"]
    assert same["value"] is None


@pytest.mark.parametrize(
    ("key", "slug"),
    [
        ("", "not-found"),
        ("a//b", "bad-state-key"),
        ("a/../b", "bad-state-key"),
        ("%ff", "bad-state-key"),
        ("x" * 513, "bad-state-key"),
        ("a%00b", "bad-state-key"),
        ("a/", "bad-state-key"),
    ],
)
def test_what_is_no_key_is_refused(node: Daemon, key: str, slug: str) -> None:
    reply = node.request("PUT", f"/v1/state/{key}", b"v")
    assert reply.slug == slug, reply.body
    assert reply.status in {400, 404}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"ops": 3}',
        b'{"ops": [{"op": "eat", "key": "a"}]}',
        b'{"ops": [{"op": "put", "key": "a"}]}',
        b'{"ops": [{"op": "get", "key": "a", "text": "v"}]}',
        b'{"ops": [], "more": 1}',
        b'{"ops": [{"op": "put", "key": "a", "text": "1"}, {"op": "delete", "key": "a"}]}',
        json.dumps({"ops": [{"op": "get", "key": f"k{n}"} for n in range(1025)]}).encode(),
        b"\xff",
        b'{"ops": [{}]}',
    ],
)
def test_what_is_no_group_is_refused(node: Daemon, body: bytes) -> None:
    reply = node.request("POST", "/v1/state:group", body, {"Content-Type": "application/json"})
    assert reply.status == 400, reply.body


@pytest.mark.parametrize(
    "headers",
    [
        {"Edgeagent-Durability": "galactic"},
        {"Edgeagent-Mode": "twice"},
        {"Edgeagent-Ttl-Ms": "-1"},
        {"Edgeagent-Version": "zzz"},
        {"Edgeagent-Session": "%%%"},
        {"Edgeagent-Deadline-Ms": "soon"},
    ],
)
def test_what_is_no_header_is_refused(node: Daemon, headers: dict[str, str]) -> None:
    assert node.request("PUT", "/v1/state/h/x", b"v", headers).status == 400


@pytest.mark.parametrize(("first", "later"), [("lww", "once"), ("lww", "owner"), ("once", "lww")])
def test_a_writer_that_names_another_mode_than_the_keys_is_refused(
    node: Daemon, first: str, later: str
) -> None:
    key = f"modes/{first}-{later}"
    assert put(node, key, b"1", Edgeagent_Mode=first).status == 200
    refused = put(node, key, b"1", Edgeagent_Mode=later)
    assert (refused.status, refused.slug) == (409, "state-mode-conflict")
    assert refused.json()["mode"] == first
    assert get(node, key).body == b"1"
    assert put(node, key, b"1").status == put(node, key, b"1", Edgeagent_Mode=first).status == 200


@pytest.mark.parametrize(
    "path", ["?prefix=%ff", "?prefix=a&after=%c3", ":where?key=a%ff", ":aside?key=%ed%a0%80"]
)
def test_a_query_that_is_not_utf8_is_refused(node: Daemon, path: str) -> None:
    assert node.request("GET", f"/v1/state{path}").slug == "bad-state-key"


def test_only_nodes_let_another_one_decide_and_only_for_themselves(node: Daemon) -> None:
    op = {"op": "put", "key": "decided/x", "text": "1", "mode": "owner", "owner": "n1"}
    body = json.dumps({"ops": [op], "decide": True}).encode()
    kind = {"Content-Type": "application/json"}
    for headers in ({}, {"Edgeagent-Peer": "n2"}):
        assert node.request("POST", "/v1/state:group", body, kind | headers).status == 400
    assert get(node, "decided/x").status == 404
    assert node.request("POST", "/v1/state:group", body, kind | {"Edgeagent-Peer": "n1"}).status == 200
    assert put(node, "decided/x", b"2").slug == "state-key-fenced"


def test_more_than_fits_is_refused_and_the_rest_stays(node: Daemon) -> None:
    put(node, "full/small", b"stays")
    statuses = {put(node, f"full/{n}", INCOMPRESSIBLE[n:]).status for n in range(20)}
    assert statuses == {200, 507}
    assert get(node, "full/small").body == b"stays"
    for n in range(20):
        node.request("DELETE", f"/v1/state/full/{n}")


def test_peer_durability_without_a_peer_is_said_and_the_value_stays(node: Daemon) -> None:
    reply = put(node, "alone/x", b"v", Edgeagent_Durability="peer", Edgeagent_Deadline_Ms="200")
    assert (reply.status, reply.slug) == (504, "state-not-durable")
    assert reply.json()["durability"] == "local"
    assert get(node, "alone/x").body == b"v"


def test_everything_is_there_after_a_kill(tmp_path: Path) -> None:
    one = Daemon(tmp_path / "n")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda n: put(one, f"k/{n}", b"%d" % n * 100).status, range(64))) == {200}
    put(one, "large", INCOMPRESSIBLE)
    version = get(one, "large").headers["edgeagent-version"]
    one.kill()
    one.start()
    assert get(one, "k/63").body == b"63" * 100
    assert get(one, "large").body == INCOMPRESSIBLE
    assert put(one, "large", b"later").headers["edgeagent-version"] > version
    assert len(one.request("GET", "/v1/state?prefix=k/&limit=100").json()["keys"]) == 64
    one.stop()


def test_the_cli_does_it_all(node: Daemon, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(INCOMPRESSIBLE[:100_000])

    def ok(*words: str) -> Any:
        done = cli("state", *words, "--node", node.url, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    version = ok("put", "cli/x", f"@{tmp_path / 'f'}")["version"]
    assert ok("get", "cli/x", "--out", str(tmp_path / "g"))["version"] == version
    assert (tmp_path / "g").read_bytes() == INCOMPRESSIBLE[:100_000]
    assert ok("put", "cli/t", "text", "--expect", "")["durability"] == "local"
    assert ok("get", "cli/t")["text"] == "text"
    assert [one["key"] for one in ok("list", "cli/")["keys"]] == ["cli/t", "cli/x"]
    where = ok("where", "cli/x")
    assert [one["node"] for one in where["holders"]] == [node.ready["node"]]
    assert ok("delete", "cli/x")["version"] > version
    refused = cli("state", "get", "cli/x", "--node", node.url, "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["problem"]["status"] == 404
    for words in (("put", "cli/x", f"@{tmp_path / 'none'}"), ("get", "cli/t", "--out", str(tmp_path))):
        refused = cli("state", *words, "--node", node.url, "--json")
        assert (refused.returncode, json.loads(refused.stdout)["ok"]) == (1, False), refused


# -- several nodes ---------------------------------------------------------------------------------------------------


def test_what_is_written_here_is_read_there(three: Continuum) -> None:
    assert put(three.nodes[0], "far/x", INCOMPRESSIBLE, Edgeagent_Durability="peer").status == 200
    for one in three.nodes:
        assert get(one, "far/x").body == INCOMPRESSIBLE
    holders = three.origin.request("GET", "/v1/state:where?key=far/x").json()
    assert holders["durability"] in {"peer", "ground"}
    assert len(holders["holders"]) >= 2


def test_a_session_reads_its_writes_and_never_goes_back(three: Continuum) -> None:
    token = ""
    for turn in range(12):
        headers = {"Edgeagent_Session": token} if token else {}
        wrote = put(three.nodes[turn % 3], "session/x", b"%d" % turn, **headers)
        assert wrote.status == 200, wrote.body
        token = wrote.headers["edgeagent-session"]
        read = get(three.nodes[(turn + 1) % 3], "session/x", Edgeagent_Session=token)
        assert read.body == b"%d" % turn
        token = read.headers["edgeagent-session"]


def test_a_once_key_that_is_known_elsewhere_is_taken(three: Continuum) -> None:
    assert put(three.nodes[1], "runs/r9/x", b"first", Edgeagent_Durability="peer").status == 200
    for one in three.nodes:
        assert put(one, "runs/r9/x", b"second").slug == "state-key-taken"
        assert put(one, "runs/r9/x", b"first").status == 200


def test_an_owned_key_is_written_at_its_owner_from_everywhere(three: Continuum) -> None:
    first = put(three.nodes[2], "owned/x", b"0", Edgeagent_Durability="peer")
    assert first.status == 200, first.body
    for turn, one in enumerate(three.nodes):
        wrote = put(one, "owned/x", b"%d" % turn)
        assert wrote.status == 200, wrote.body
    assert get(three.nodes[0], "owned/x").body == b"2"
    group_reply = group(three.nodes[0], {"op": "get", "key": "owned/x"}).json()["results"][0]
    assert group_reply["mode"] == "owner"


def test_a_lost_disk_loses_nothing_that_was_peer_durable(tmp_path: Path) -> None:
    pair = Continuum(tmp_path, ("edge", "edge", "edge"))
    values = {f"lost/{n}": INCOMPRESSIBLE[n * 1000 : n * 1000 + 300_000] for n in range(4)}
    for key, value in values.items():
        assert put(pair.nodes[2], key, value, Edgeagent_Durability="peer").status == 200
    pair.nodes[2].kill()
    for key, value in values.items():
        for _ in patience():
            if get(pair.nodes[0], key).status == 200:
                break
        assert get(pair.nodes[0], key).body == value
    for node in pair.nodes[:2]:
        node.stop()


def test_what_was_written_alone_is_copied_once_there_is_a_mesh(tmp_path: Path) -> None:
    lone = Daemon(tmp_path / "lone")
    assert put(lone, "alone/early", b"v").status == 200
    lone.stop()
    mesh = ("mesh.listen=127.0.0.1:0", "mesh.preset=local")
    other = Daemon(tmp_path / "other", *mesh)
    seeds = f"mesh.seeds={other.request('GET', '/v1/peers').json()['address']}"
    lone = Daemon(tmp_path / "lone", *mesh, seeds)
    for _ in patience():
        if other.request("GET", "/v1/state?prefix=alone/&here=1").json()["keys"]:
            break
    assert [one["key"] for one in other.request("GET", "/v1/state?prefix=alone/&here=1").json()["keys"]] == [
        "alone/early"
    ]
    for one in (lone, other):
        one.stop()
