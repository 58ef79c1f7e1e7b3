"""Reads at a home that missed a write while it was out of contact, and copies that readers bring up to date."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edgeagent.model.errors import PeerFailed
from edgeagent.node import state_circle, state_service
from edgeagent.node.key_state import KeyState
from edgeagent.state.calls import Done, Group, Op
from edgeagent.state.entry import Durability
from edgeagent.state.errors import Behind, VersionMismatch
from tests.unit.node.state_rig import Cluster, Sky, cluster, put

LARGE = bytes(range(256)) * 2000


async def get(node: KeyState, key: str, **more: Any) -> Done:
    return (await node.group(Group(ops=[Op(op="get", key=key)], **more))).results[0]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    while not await holds():  # noqa: ASYNC110 - there is nothing to wait on
        await asyncio.sleep(0.01)


def key_at(of: Cluster, home: str) -> str:
    """A key whose first home is that node."""
    circle = of.nodes[home].circle
    return next(key for key in (f"g{at}/x" for at in range(999)) if circle.homes_of(key)[0] == home)


async def settled(of: Cluster) -> None:
    async def all_have() -> bool:
        return not any(node.replicas.unsettled() for node in of.nodes.values())

    await until(all_have)


async def missed(of: Cluster, value: bytes = b"new") -> str:
    """A key that n1 writes anew, of which its home n0 does not hear though all are in contact."""
    key = key_at(of, "n0")
    await put(of.nodes["n0"], key, b"old")
    await settled(of)

    def cut(node: str, path: str, reply: bytes) -> bytes:
        if path.endswith("transfer"):
            raise PeerFailed("cut", peer=node)
        return reply

    for wire in of.wires.values():
        wire.spoil = cut
    await put(of.nodes["n1"], key, value)
    return key


def test_a_home_that_was_out_of_contact_asks_before_it_answers(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge", "edge", replicas=0) as of:
            home, key = of.nodes["n0"], key_at(of, "n0")
            await put(home, key, b"old")
            await settled(of)
            asked = home.service.local_reads
            assert (await get(home, key)).value == b"old"
            assert home.service.local_reads == asked + 1, "who has settled with all others asks nobody"
            of.alone("n0")
            home.replicas.look_around()
            await put(of.nodes["n1"], key, b"new")
            assert (await get(home, key)).value == b"old", "nobody can be asked"
            of.cut.clear()
            assert (await get(home, key)).value == b"new"

    asyncio.run(body())


def test_a_read_that_asks_for_peers_sees_what_any_of_them_holds(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge", "edge", replicas=0) as of:
            key = await missed(of, LARGE)
            home = of.nodes["n0"]
            assert (await get(home, key)).value == b"old"
            wanted = Group(ops=[Op(op="get", key=key)], durability=Durability.PEER)
            assert (await home.group(wanted)).results[0].value == LARGE
            await asyncio.gather(*home.service._adopting)
            assert (await get(home, key)).value == LARGE, "and has brought its own copy up to date"
            await of.nodes["n1"].group(Group(ops=[Op(op="delete", key=key)]))
            assert (await get(home, key)).found
            assert not (await home.group(wanted)).results[0].found
            await asyncio.gather(*home.service._adopting)
            assert not (await get(home, key)).found

    asyncio.run(body())


def test_a_reader_brings_an_old_home_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_service, "_ON_THE_WAY_MS", -1)

    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge", "edge", replicas=0) as of:
            key = await missed(of)
            of.nodes["n1"].circle.tell()
            of.wires["n2"].spoil = lambda node, path, reply: reply
            assert (await get(of.nodes["n2"], key)).value == b"new"

            async def is_new() -> bool:
                held = await of.nodes["n0"].store.get(key)
                return held is not None and held[1] == b"new"

            await until(is_new)

    asyncio.run(body())


def test_a_node_that_has_just_begun_does_not_decide_as_if_it_were_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows that n0 is there and not yet where: what depends on others waits for that."""
    monkeypatch.setattr(state_circle, "GATHER_S", 60.0)

    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge", replicas=0) as of:
            key = key_at(of, "n0")
            await of.end("n1")
            wrote = await put(of.nodes["n0"], key, b"1")
            of.alone("n1")
            of.unheard = {"n0"}
            begun = await of.up("n1")
            plain = await put(begun, "other/x", b"depends on nobody")
            assert plain.version
            waiting = [
                asyncio.ensure_future(put(begun, key, b"2", expect="")),
                asyncio.ensure_future(get(begun, key, session="")),
            ]
            await asyncio.sleep(0.1)
            assert not any(one.done() for one in waiting)
            of.cut.clear()
            of.unheard.clear()
            with pytest.raises(VersionMismatch):
                await waiting[0]
            assert (await waiting[1]).version == wrote.version

    asyncio.run(body())


def test_a_node_waits_for_its_seeds_no_longer_than_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_circle, "GATHER_S", 60.0)  # its clock decides, not how fast this machine is
    monkeypatch.setattr(Sky, "expects_others", True)

    async def body() -> None:
        async with cluster(tmp_path, "edge") as of:
            node = of.nodes["n0"]
            waiting = asyncio.ensure_future(put(node, "a/x", b"1", expect=""))
            assert (await put(node, "b/x", b"depends on nobody")).version
            assert node.circle.is_gathering()
            assert not waiting.done()
            node.circle._clock = lambda: time.monotonic() + state_circle.GATHER_S
            assert (await waiting).version
            assert not node.circle.is_gathering()

    asyncio.run(body())


def test_what_is_written_after_a_newer_value_was_shown_stands_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at a node whose clock is behind, and for a client without a session; a clock that is wrong drags nobody."""

    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge", replicas=0) as of:
            behind, ahead = of.nodes["n1"], of.nodes["n0"]
            key, real = key_at(of, "n0"), ahead.store._utc_ms
            monkeypatch.setattr(ahead.store, "_utc_ms", lambda: real() + 30_000)
            await put(ahead, key, b"by a clock that is ahead")
            assert (await get(behind, key)).value == b"by a clock that is ahead"
            await put(behind, key, b"after it")
            assert (await get(behind, key)).value == b"after it"
            # Without replicas nobody tells the home: it has to ask, whether or not it has compared before the write.
            assert (await get(ahead, key, durability=Durability.PEER)).value == b"after it"
            monkeypatch.setattr(ahead.store, "_utc_ms", lambda: real() + 3_600_000)
            await put(ahead, "other/x", b"an hour ahead")
            other = key_at(of, "n0")
            await put(ahead, other, b"an hour ahead")
            assert (await get(behind, other)).value == b"an hour ahead"
            assert (await put(behind, "mine/x", b"1")).version < f"{real() + 60_000:x}"

    asyncio.run(body())


def test_that_there_is_none_is_not_said_where_who_should_have_it_does_not_answer(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge", replicas=0) as of:
            key, reader = key_at(of, "n0"), of.nodes["n1"]
            await put(of.nodes["n0"], key, b"v")

            def cut(node: str, path: str, reply: bytes) -> bytes:
                raise PeerFailed("it has another address now", peer=node)

            of.wires["n1"].spoil = cut
            with pytest.raises(Behind) as caught:
                await get(reader, key)
            assert caught.value.details["holders"] == ["n0"]
            await put(reader, "here/x", b"v")
            assert (await get(reader, "here/x")).value == b"v"

    asyncio.run(body())


def test_nor_while_a_member_is_there_that_cannot_be_asked_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_circle, "GATHER_S", 0.1)

    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge", replicas=0) as of:
            reader = of.nodes["n1"]
            assert not (await get(reader, "none/x")).found
            of.alone("n1")
            of.unheard = {"n0"}
            with pytest.raises(Behind) as caught:
                await get(reader, "none/x")
            assert caught.value.details["holders"] == ["n0"]
            monkeypatch.setattr(state_circle, "UNHEARD_S", 0.0)
            assert not (await get(reader, "none/x")).found, "it has no address"

    asyncio.run(body())
