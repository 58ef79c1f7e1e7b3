"""Signed functions through the doors of real daemons: signed and verified by the CLI, deployed, fetched by digest."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeagent.model.errors import Conflict, PeerFailed, Refused
from edgeagent.model.signature import canonical_manifest
from edgeagent.node.node import Node
from edgeagent.node.peer_http import PeerHttp
from edgeagent.runtime.manifest import default_manifest
from tests.guests import wasm
from tests.integration.daemon import WASM, Daemon, cli
from tests.integration.test_node_engine import configured
from tests.integration.test_tls import A, B, new_state, over_tls

Start = Callable[..., Daemon]
SHA = hashlib.sha256(wasm("add1")).hexdigest()
MANIFEST = canonical_manifest(default_manifest("add1"))


def told(code: int, *words: object, node: str = "") -> Any:
    done = cli(*map(str, words), "--json", node=node)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


class Signed:
    """A cluster with two operators; ``add1.wasm`` is signed by olga."""

    def __init__(self, base: Path) -> None:
        self.base = base
        told(0, "keys", "init", base / "cluster")
        self.keys = {
            name: told(0, "keys", "issue", base / "cluster", "--operator", name, "--out", base / name)[
                "public_key"
            ]
            for name in ("olga", "otto")
        }
        for name, node in (("a", A), ("b", B)):
            words = ("--node", node, "--address", "127.0.0.1", "--out", base / name)
            told(0, "keys", "issue", base / "cluster", *words)
        self.file = base / "add1.wasm"
        self.file.write_bytes(wasm("add1"))
        self.made = told(0, "sign", self.file, "--keys", base / "olga")
        self.signature = base / "add1.sig"


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    return Signed(tmp_path_factory.mktemp("signed"))


@pytest.fixture(scope="module")
def there(signed: Signed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A node that trusts olga and has her add1; it also speaks TLS."""
    base = tmp_path_factory.mktemp("there")
    new_state(base / "state", A)
    settings = ("http.listen_tls=127.0.0.1:0", f"mesh.keys={signed.base}/a")
    started = Daemon(base / "state", *settings, f"placement.signers={signed.keys['olga']}")
    reply = told(0, "deploy", signed.file, "--signature", signed.signature, node=started.url)
    assert "note" not in reply["function"]
    yield started
    assert started.stop() == 0, started.log_text()
    assert "Traceback" not in started.log_text()


def test_sign_and_verify(signed: Signed, tmp_path: Path) -> None:
    file, key = signed.file, signed.keys["olga"]
    assert signed.made["sha256"] == SHA
    assert signed.made["key"] == key
    assert signed.made["file"] == str(signed.signature)
    check = ("verify", file, "--signature", signed.signature)
    for whose in ((), ("--key", key), ("--keys", signed.base / "olga")):
        assert told(0, *check, *whose) == {"ok": True, "function": "add1", "key": key, "differs": []}
    assert "is signed by" in told(1, *check, "--keys", signed.base / "otto")["differs"][0]
    assert "of the manifest" in told(1, *check, "--name", "other")["differs"][0]
    (tmp_path / "add1.wasm").write_bytes(wasm("echo"))
    assert "of the module" in told(1, "verify", tmp_path / "add1.wasm", *check[2:])["differs"][0]
    plain = cli("verify", str(file), "--signature", str(signed.signature))
    assert b"signed by" in plain.stdout
    assert b"not asked" in plain.stdout
    plain = cli(*map(str, check), "--name", "other")
    assert plain.returncode == 1
    assert b"is not a signature of other" in plain.stdout


def test_sign_with_a_manifest(signed: Signed, tmp_path: Path) -> None:
    toml = tmp_path / "m.toml"
    toml.write_text('[function]\nname = "mine"\n[limits]\nwall_ms = 50\n')
    words = (signed.file, "--manifest", toml)
    out = tmp_path / "m.sig"
    made = cli("sign", *map(str, words), "--keys", str(signed.base / "olga"), "--out", str(out))
    assert b"mine" in made.stdout
    assert told(0, "verify", *words, "--signature", out)["function"] == "mine"
    toml.write_text('[limits]\nwall_ms = 51\n[function]\nname = "mine"\n')
    assert not told(1, "verify", *words, "--signature", out)["ok"]
    toml.write_text("[function]\nname = 'mine'\n")
    assert (
        "one name"
        in told(1, "sign", *words, "--name", "other", "--keys", signed.base / "olga")["problem"]["hint"]
    )


def test_signing_refusals(signed: Signed, tmp_path: Path) -> None:
    assert "operator's keys" in told(1, "sign", signed.file)["problem"]["detail"]
    keys = ("--keys", signed.base / "olga")
    assert (
        "cannot write"
        in told(1, "sign", signed.file, *keys, "--out", tmp_path / "no" / "x")["problem"]["detail"]
    )
    missing = told(1, "verify", signed.file, "--signature", tmp_path / "none.sig")
    assert "cannot read" in missing["problem"]["detail"]
    told(2, "verify", signed.file, "--signature", signed.signature, "--key", "ab")


def test_deploy_checks_the_signature(signed: Signed, there: Daemon, tmp_path: Path) -> None:
    shown = there.request("GET", "/v1/functions/add1").json()
    assert shown["origin"] == ""
    assert shown["signature"]
    ottos = tmp_path / "otto.sig"
    told(0, "sign", signed.file, "--name", "x", "--keys", signed.base / "otto", "--out", ottos)
    words = ("deploy", signed.file, "--name", "x", "--signature")
    for file, said in ((ottos, "does not trust"), (signed.signature, "is not of this x")):
        problem = told(1, *words, file, node=there.url)["problem"]
        assert problem["status"] == 422
        assert said in problem["detail"]
    assert there.request("GET", "/v1/functions/x").status == 404


def test_without_trusted_keys_a_signature_is_kept_and_said_to_be_unknown(
    signed: Signed, start_daemon: Start
) -> None:
    node = start_daemon()
    deployed = told(0, "deploy", signed.file, "--signature", signed.signature, node=node.url)["function"]
    assert signed.keys["olga"] in deployed["note"]
    assert (
        b"does not know"
        in cli("deploy", str(signed.file), "--signature", str(signed.signature), node=node.url).stdout
    )
    # Rows of a version that knew no signatures are taken up.
    node.stop()
    with sqlite3.connect(node.state / "node.db") as database:
        row = json.loads(database.execute("SELECT record FROM functions").fetchone()[0])
        del row["signature"], row["origin"]
        database.execute("UPDATE functions SET record = ?", (json.dumps(row).encode(),))
    database.close()
    node.start()
    assert node.request("GET", "/v1/functions/add1").json()["signature"] == ""
    # The same module with its signature again: nothing is new but that.
    told(0, "deploy", signed.file, "--signature", signed.signature, node=node.url)
    assert node.request("GET", "/v1/functions/add1").json()["signature"]
    assert node.invoke("add1", b"\x01").body == b"\x02"


def test_artifacts_by_digest(signed: Signed, there: Daemon) -> None:
    reply = there.request("GET", f"/v1/artifacts/{SHA}")
    assert (reply.status, reply.body) == (200, wasm("add1"))
    assert reply.headers["content-type"] == "application/wasm"
    tag = reply.headers["etag"]
    assert there.request("GET", f"/v1/artifacts/{SHA}", headers={"If-None-Match": tag}).status == 304
    for unknown in ("ab" * 32, "..%2f..%2fnode.db", "x"):
        assert there.request("GET", f"/v1/artifacts/{unknown}").slug == "not-found"
    as_node = over_tls(there, signed.base / "b", "GET", f"/v1/artifacts/{SHA}")
    assert (as_node.status, as_node.body) == (200, wasm("add1"))
    refused = over_tls(there, signed.base / "b", "PUT", "/v1/functions/y", wasm("add1"), WASM)
    assert (refused.status, refused.slug) == (403, "not-allowed")
    beyond = over_tls(there, signed.base / "olga", "PUT", "/v1/functions/y", wasm("add1"), WASM)
    assert beyond.status == 201


def test_a_node_fetches_what_it_lacks(
    signed: Signed, there: Daemon, start_daemon: Start, tmp_path: Path
) -> None:
    signature = signed.signature.read_bytes().strip()
    corrupt = start_daemon(state="corrupt")
    assert corrupt.deploy("add1").status == 201
    stored = corrupt.state / "artifacts" / "sha256" / SHA[:2] / f"{SHA}.wasm"
    stored.write_bytes(wasm("echo"))

    async def main() -> None:
        config = configured(tmp_path / "here", placement__signers=signed.keys["olga"])
        node = Node(config)
        await node.start()
        try:
            for sources, said in (((corrupt.url,), "damaged"), (("http://127.0.0.1:9",), "did not answer")):
                with pytest.raises(PeerFailed, match=said):
                    await node.fetch.ensure("add1", SHA, MANIFEST, signature, sources, unsigned_ok=False)
            with pytest.raises(Refused, match="not signed"):
                await node.fetch.ensure("add1", SHA, MANIFEST, b"", (there.url,), unsigned_ok=False)
            with pytest.raises(PeerFailed, match="no function here"):
                await node.fetch.ensure("add1", "ab" * 32, MANIFEST, b"", (there.url,), unsigned_ok=True)
            got = await asyncio.gather(
                *(
                    node.fetch.ensure(
                        "add1", SHA, MANIFEST, signature, (corrupt.url, there.url), unsigned_ok=False
                    )
                    for _ in range(4)
                ),
                return_exceptions=True,
            )
            assert [getattr(one, "origin", one) for one in got] == [A] * 4
            assert bytes((await node.invoker.invoke("add1", b"\x01")).output) == b"\x02"
            await node.functions.undeploy("add1")
            await node.functions.deploy("add1", wasm("echo"), default_manifest("add1"))
            with pytest.raises(Conflict, match=SHA):
                await node.fetch.ensure("add1", SHA, MANIFEST, signature, (there.url,), unsigned_ok=False)
        finally:
            await node.close()

    asyncio.run(main())


def test_a_node_fetches_over_tls(signed: Signed, there: Daemon, tmp_path: Path) -> None:
    signature = signed.signature.read_bytes().strip()
    (tmp_path / "here").mkdir()
    new_state(tmp_path / "here" / "state", B)

    async def main() -> None:
        keys = {"mesh__keys": str(signed.base / "b"), "mesh__operators": signed.keys["olga"]}
        node = Node(configured(tmp_path / "here", **keys))
        await node.start()
        try:
            got = await node.fetch.ensure(
                "add1", SHA, MANIFEST, signature, (there.ready["tls_url"],), unsigned_ok=False
            )
            assert got.origin == A
        finally:
            await node.close()

    asyncio.run(main())


def test_any_base_url_is_asked_within_bounds(there: Daemon) -> None:
    path = f"/v1/artifacts/{SHA}"

    async def main() -> None:
        peers = PeerHttp({}, "me", reply_bytes_max=10)
        crossed: list[str] = []

        async def cross(to: str) -> None:
            crossed.append(to)

        peers.crossing = cross
        try:
            reply = await peers.request_url(there.url, "GET", path, bytes_max=1 << 20)
            assert (reply.body, reply.headers["edgeagent-node"]) == (wasm("add1"), A)
            assert crossed == [there.url] * 2
            with pytest.raises(PeerFailed, match="more than 10 bytes"):
                await peers.request_url(there.url, "GET", path)
            with pytest.raises(PeerFailed, match="did not answer"):
                await peers.request_url("http://", "GET", path)
        finally:
            await peers.close()

    asyncio.run(main())
