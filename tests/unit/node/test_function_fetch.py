"""Functions from peers: who may bring what, from whom, and once however many ask."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeagent.model.errors import (
    Conflict,
    EdgeError,
    ManifestRefused,
    NotFound,
    PeerFailed,
    Refused,
    Unavailable,
    WasmRefused,
)
from edgeagent.model.function import Deployed
from edgeagent.model.signature import canonical_manifest, sign_function
from edgeagent.node.function_fetch import FunctionFetch, trusted_keys
from edgeagent.node.peer_http import PeerReply
from tests.unit.node.doubles import Rig, config, manifest, rig, turns

OLGA, OTTO = (Ed25519PrivateKey.from_private_bytes(one * 32) for one in (b"1", b"2"))
OLGAS = OLGA.public_key().public_bytes_raw()
A, B = "http://10.0.0.1:1", "http://10.0.0.2:1"
WASM, OTHER = b"bytes one", b"bytes two"


def sha(wasm: bytes) -> str:
    return hashlib.sha256(wasm).hexdigest()


class FakeHttp:
    """What each URL answers; ``hold`` keeps answers back."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes | EdgeError] = {}
        self.asked: list[str] = []
        self.node = "n1"
        self.hold: asyncio.Event | None = None

    async def request_url(
        self, url: str, method: str, path: str, *, timeout_s: float = 0.0, bytes_max: int = 0
    ) -> PeerReply:
        assert (method, path[:14]) == ("GET", "/v1/artifacts/")
        assert bytes_max > 0
        assert timeout_s > 0
        self.asked.append(url)
        if self.hold is not None:
            await self.hold.wait()
        answer = self.answers[url]
        if isinstance(answer, EdgeError):
            raise answer
        return PeerReply({"edgeagent-node": self.node}, answer)


class Parts:
    def __init__(self, parts: Rig, trusted: frozenset[bytes]) -> None:
        self.functions = parts.functions
        self.http = FakeHttp()
        self.fetch = FunctionFetch(self.functions, self.http, trusted, wasm_bytes_max=1000)

    async def ensure(
        self, name: str = "f", wasm: bytes = WASM, sources: Sequence[str] = (A,), **other: Any
    ) -> Deployed:
        signature = sign_function(sha(wasm), manifest(name), OLGA)
        given: dict[str, Any] = {
            "signature": signature,
            "unsigned_ok": False,
            "json": canonical_manifest(manifest(name)),
        }
        given |= other
        return await self.fetch.ensure(
            name, sha(wasm), given["json"], given["signature"], sources, unsigned_ok=given["unsigned_ok"]
        )


def play(
    path: Path, scenario: Callable[[Parts], Awaitable[None]], trusted: frozenset[bytes] = frozenset((OLGAS,))
) -> None:
    async def main() -> None:
        async with rig(path) as made:
            parts = Parts(made, trusted)
            try:
                await scenario(parts)
            finally:
                await parts.fetch.close()

    asyncio.run(main())


def test_a_signed_function_is_fetched_once_and_kept(tmp_path: Path) -> None:
    async def scenario(parts: Parts) -> None:
        parts.http.answers[A] = WASM
        deployed = await parts.ensure()
        assert (deployed.name, deployed.sha256, deployed.origin) == ("f", sha(WASM), "n1")
        assert deployed.signature == sign_function(sha(WASM), manifest("f"), OLGA)
        assert await parts.ensure(sources=()) is deployed
        assert (await parts.ensure("g", sources=())).origin == "n1", "its bytes are here already"
        assert parts.http.asked == [A]

    play(tmp_path, scenario)


def test_sources_are_asked_in_turn_and_only_the_digest_counts(tmp_path: Path) -> None:
    async def scenario(parts: Parts) -> None:
        parts.http.answers = {A: NotFound("not here"), B: OTHER}
        with pytest.raises(PeerFailed, match=r"not here; .* sent other bytes: .*; 'no URL' is not http"):
            await parts.ensure(sources=(A, B, "no URL"))
        assert parts.functions.list() == []
        with pytest.raises(PeerFailed, match="none is known"):
            await parts.ensure(sources=())
        parts.http.answers[B] = WASM
        parts.http.node = "no id\n"
        assert (await parts.ensure(sources=(A, B))).origin == B
        assert parts.http.asked == [A, B, A, B]

    play(tmp_path, scenario)


def test_what_a_user_deployed_stays_and_what_a_peer_brought_is_replaced(tmp_path: Path) -> None:
    async def scenario(parts: Parts) -> None:
        parts.http.answers[A] = WASM
        await parts.functions.deploy("f", OTHER, manifest("f"))
        with pytest.raises(Conflict) as caught:
            await parts.ensure()
        assert sha(OTHER) in caught.value.message
        assert sha(WASM) in caught.value.message
        assert caught.value.details == {"here": sha(OTHER), "wanted": sha(WASM)}
        await parts.functions.undeploy("f")
        await parts.ensure()
        parts.http.answers[A] = OTHER
        assert (await parts.ensure(wasm=OTHER)).sha256 == sha(OTHER)
        # The user says that it is his: from then on it stays.
        own, is_new = await parts.functions.deploy("f", OTHER, manifest("f"))
        assert (own.origin, is_new) == ("", False)
        with pytest.raises(Conflict):
            await parts.ensure()

    play(tmp_path, scenario)


def test_a_user_who_deploys_during_the_fetch_wins(tmp_path: Path) -> None:
    async def scenario(parts: Parts) -> None:
        parts.http.answers[A] = WASM
        parts.http.hold = asyncio.Event()
        asking = asyncio.ensure_future(parts.ensure())
        await turns()
        await parts.functions.deploy("f", OTHER, manifest("f"))
        parts.http.hold.set()
        with pytest.raises(Conflict):
            await asking

    play(tmp_path, scenario)


def test_signatures_decide(tmp_path: Path) -> None:
    ottos = sign_function(sha(WASM), manifest("f"), OTTO)

    async def scenario(parts: Parts) -> None:
        for signature, unsigned_ok, said in (
            (b"", False, "not signed"),
            (ottos, False, "does not trust"),
            (ottos, True, "does not trust"),
            (b"{}", True, "cannot be read"),
            (sign_function(sha(OTHER), manifest("f"), OLGA), True, "is not of this f"),
            (sign_function(sha(WASM), manifest("f", wall_ms=9), OLGA), True, "is of the manifest"),
        ):
            with pytest.raises(Refused, match=said):
                await parts.ensure(signature=signature, unsigned_ok=unsigned_ok)
        assert parts.http.asked == []
        parts.http.answers[A] = WASM
        assert (await parts.ensure(signature=b"", unsigned_ok=True)).signature == b""

    async def no_keys(parts: Parts) -> None:
        parts.http.answers[A] = WASM
        with pytest.raises(Refused, match="does not trust"):
            await parts.ensure("g", signature=sign_function(sha(WASM), manifest("g"), OTTO))
        assert (await parts.ensure(signature=ottos, unsigned_ok=True)).signature == ottos

    play(tmp_path, scenario)
    (tmp_path / "other").mkdir()
    play(tmp_path / "other", no_keys, frozenset())


def test_what_peers_say_is_checked(tmp_path: Path) -> None:
    async def scenario(parts: Parts) -> None:
        for data in (b"\xff", b'{"function": {"name": "f", "x": 1}}', b"[" * 2000, b" " * 300_000):
            with pytest.raises(ManifestRefused):
                await parts.ensure(json=data)
        for data in (b'{"function":{"name":"f"},"limits":{"wall_ms":0}}', b'{"function":{"name":"F"}}'):
            with pytest.raises(ManifestRefused):
                await parts.ensure(json=data)
        with pytest.raises(Refused, match="comes as"):
            await parts.ensure(json=canonical_manifest(manifest("g")))
        with pytest.raises(ManifestRefused, match="is not allowed"):
            await parts.ensure("F")
        with pytest.raises(Refused, match="no SHA-256"):
            await parts.fetch.ensure("f", "../x", b"", b"", (A,), unsigned_ok=True)
        parts.http.answers[A] = b"no abi"
        with pytest.raises(WasmRefused):
            await parts.ensure(wasm=b"no abi")
        assert parts.functions.list() == []

    play(tmp_path, scenario)


def test_many_ask_and_one_fetches(tmp_path: Path) -> None:
    async def scenario(parts: Parts) -> None:
        parts.http.answers = {A: PeerFailed("silent"), B: WASM}
        parts.http.hold = asyncio.Event()
        leaves, first = (asyncio.ensure_future(parts.ensure()) for _ in range(2))
        await turns()
        # A third knows of another source: when the fetch that it joined fails, it asks there.
        third = asyncio.ensure_future(parts.ensure(sources=(A, B)))
        await turns()
        leaves.cancel()
        await turns()
        parts.http.hold.set()
        assert (await third).sha256 == sha(WASM)
        with pytest.raises(PeerFailed, match="silent"):
            await first
        assert leaves.cancelled()
        assert parts.http.asked == [A, A, B]

    play(tmp_path, scenario)


def test_many_ask_and_one_deploys(tmp_path: Path) -> None:
    async def scenario(parts: Parts) -> None:
        parts.http.answers[A] = WASM
        got = await asyncio.gather(*(parts.ensure() for _ in range(5)))
        assert len({id(one) for one in got}) == 1
        parts.http.answers[A] = b"no abi"
        failed = await asyncio.gather(
            *(parts.ensure("g", b"no abi") for _ in range(3)), return_exceptions=True
        )
        assert [type(one) for one in failed] == [WasmRefused] * 3
        assert parts.http.asked == [A, A]

    play(tmp_path, scenario)


def test_who_waits_for_a_node_that_stops_is_told(tmp_path: Path) -> None:
    async def scenario(parts: Parts) -> None:
        parts.http.hold = asyncio.Event()
        asking = asyncio.ensure_future(parts.ensure())
        await turns()
        await parts.fetch.close()
        with pytest.raises(Unavailable, match="stops"):
            await asking
        with pytest.raises(Unavailable, match="stops"):
            await parts.ensure()

    play(tmp_path, scenario)


def test_trusted_are_signers_and_operators() -> None:
    other = "ab" * 32
    both = config(placement__signers=OLGAS.hex(), mesh__operators=other)
    assert trusted_keys(both) == {OLGAS, bytes.fromhex(other)}
    assert trusted_keys(config()) == frozenset()
