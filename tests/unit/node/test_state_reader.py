"""Reading from members that lie, are late, or are out of sight; the circle of members and its sky."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from edgeagent.model.errors import BadRequest, PeerFailed, StoreFailed
from edgeagent.node.key_state import KeyState
from edgeagent.state.calls import Done, Group, Op
from edgeagent.state.entry import Durability
from edgeagent.state.errors import Behind
from edgeagent.state.fetching import Chunks, ChunksWanted, Fetch, Fetched, read, write
from edgeagent.state.keys import digest_of
from tests.unit.node.state_rig import Cluster, cluster, put

LARGE = bytes(range(256)) * 2000


async def get(node: KeyState, key: str, **more: Any) -> Done:
    return (await node.group(Group(ops=[Op(op="get", key=key)], **more))).results[0]


def lies(of: Cluster, at: str, about: str) -> None:
    """Chunks come wrong, or too few of them."""

    def spoil(node: str, path: str, reply: bytes) -> bytes:
        if not path.endswith("chunks"):
            return reply
        pieces = read(reply, Chunks).pieces
        if about == "few":
            return write(Chunks(pieces=pieces[1:]))
        if about == "other":
            return write(Chunks(pieces=[b"x" * len(one) for one in pieces]))
        if about == "garbage":
            return b"\xc1"
        raise PeerFailed("cut", peer=node)

    of.wires[at].spoil = spoil


@pytest.mark.parametrize("about", ["few", "other", "garbage", "cut"])
def test_a_value_that_is_not_what_was_said_is_not_shown(tmp_path: Path, about: str) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge", replicas=0) as of:
            await put(of.nodes["n1"], "a/x", LARGE)
            lies(of, "n0", about)
            with pytest.raises(Behind) as caught:
                await get(of.nodes["n0"], "a/x")
            assert caught.value.details["holders"] == ["n1"]
            of.wires["n0"].spoil = lambda node, path, reply: reply
            done = await get(of.nodes["n0"], "a/x")
            assert done.value == LARGE
            assert (of.nodes["n0"].reader.fetched, of.nodes["n0"].service.local_reads) == (1, 0)

    asyncio.run(body())


def test_who_is_out_of_sight_and_holds_it_is_named_with_its_return(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", "satellite", replicas=0) as of:
            wrote = await of.nodes["n1"].group(Group(ops=[Op(op="put", key="a/x", text="v")]))
            of.nodes["n1"].circle.tell()
            of.alone("n1")
            for session in ("", wrote.session):
                with pytest.raises(Behind, match="back in 90 s") as caught:
                    await get(of.nodes["n0"], "a/x", session=session)
                assert caught.value.details["holders"] == ["n1"]
                assert caught.value.retry_after_s == 90.0
            assert not (await get(of.nodes["n0"], "b/x")).found, "nobody says that he holds it"

    asyncio.run(body())


def test_a_session_is_shown_what_it_wrote_wherever_it_reads(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge", "edge", replicas=0) as of:
            token = ""
            for turn in range(9):
                wanted = Group(ops=[Op(op="put", key="a/x", text=str(turn))], session=token)
                token = (await of.nodes[f"n{turn % 3}"].group(wanted)).session
                done = await get(of.nodes[f"n{(turn + 1) % 3}"], "a/x", session=token)
                assert done.value == str(turn).encode()

    asyncio.run(body())


def test_a_deletion_is_listed_nowhere_though_a_copy_has_not_heard_of_it(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge") as of:
            await put(of.nodes["n0"], "a/x", b"v", durability=Durability.PEER)
            await put(of.nodes["n1"], "a/y", b"v")
            of.wires["n0"].spoil = _no_transfers
            await of.nodes["n0"].group(Group(ops=[Op(op="delete", key="a/x")]))
            keys = [one.key for one in await of.nodes["n0"].list("a/", "", 10)]
            assert keys == ["a/y"]
            assert [one.key for one in await of.nodes["n0"].list("a/", "a/x", 1)] == ["a/y"]

    asyncio.run(body())


def _no_transfers(node: str, path: str, reply: bytes) -> bytes:
    if path.endswith("transfer"):
        raise PeerFailed("cut", peer=node)
    return reply


def test_what_others_ask_is_bounded_and_checked(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge") as of:
            views = of.nodes["n0"].views
            for number in range(200):
                await put(of.nodes["n0"], f"a/{number}", b"v" * 60_000)
            answer: Fetched = await views.fetch(Fetch(keys=[f"a/{n}" for n in range(200)]))
            assert answer.more
            assert sum(len(one.entry.inline or b"") for one in answer.held) <= 8 << 20
            with pytest.raises(BadRequest):
                await views.fetch(Fetch(keys=["a"], known=["1", "2"]))
            assert (await views.chunks(ChunksWanted(sha256=[b"x" * 32]))).pieces == [b""]

    asyncio.run(body())


def test_a_copy_that_cannot_be_kept_does_not_fail_the_reader(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge", replicas=0) as of:
            node: Any = of.nodes["n0"]
            key = next(
                key for key in (f"runs/{n}/x" for n in range(99)) if node.circle.homes_of(key)[0] == "n1"
            )
            await put(of.nodes["n1"], key, LARGE)

            async def broken(*_: Any, **__: Any) -> Any:
                raise StoreFailed("broken")

            real, node.store.accept = node.store.accept, broken
            assert (await get(node, key)).value == LARGE
            await asyncio.gather(*node.service._adopting)
            node.store.accept = real
            assert (await get(node, key)).value == LARGE
            await asyncio.gather(*node.service._adopting)
            assert (await node.store.get(key))[1] == LARGE

    asyncio.run(body())


def test_the_circle_knows_homes_holders_and_the_ground(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", "satellite", "satellite") as of:
            circle = of.nodes["n1"].circle
            assert circle.homes_of("a/x") == of.nodes["n0"].circle.homes_of("a/y")
            assert circle.is_ground("n0")
            assert not circle.is_ground("n2")
            assert not circle.is_ground("nobody")
            circle.holds(f"g{n}/x" for n in range(5000))
            circle.tell()
            assert of.skies["n1"].said[0] == digest_of("g4999")
            assert len(of.skies["n1"].said) == 4096
            assert of.nodes["n0"].circle.ranked("g4999/x")[0].count("n1") == 1
            assert circle.returns_in_s(["n0", "n2"]) is None
            of.alone("n1")
            assert of.nodes["n0"].circle.out_of_sight("g4999/x") == ["n1"]
            assert of.nodes["n0"].circle.returns_in_s(["n1"]) == 90.0
            assert circle.reachable() == []

    asyncio.run(body())


def test_the_sky_says_when_contacts_end_and_the_node_sets(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "edge", "satellite") as of:
            sky, circle, now_s = of.nodes["n0"].sky, of.nodes["n0"].circle, time.time()
            assert sky.sets_utc_ms(circle) == 0
            of.skies["n0"].until_s = {"n1": now_s + 10, "n2": now_s + 20}
            sky.marked = {"n2": time.monotonic() + 60, "n1": time.monotonic() - 1}
            sky._looked_s = -1e9
            view = sky.view(circle).peers
            assert {one: peer.until_utc_ms for one, peer in view.items()} == {
                "n1": int((now_s + 10) * 1000),
                "n2": int((now_s + 20) * 1000),
            }
            assert [one for one, peer in view.items() if peer.marked] == ["n2"]
            assert [one for one, peer in view.items() if peer.is_ground] == ["n1"]
            assert sky.sets_utc_ms(circle) == int((now_s + 20) * 1000)
            of.alone("n0")
            assert sky.sets_utc_ms(circle) == 0
            assert sky.patience_s("n1", 1_000_000) == 28.0

    asyncio.run(body())
