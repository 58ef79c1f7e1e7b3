"""Who of several writers is first."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from edgeagent.model.errors import EdgeError, PeerFailed
from edgeagent.node.key_state import KeyState
from edgeagent.state.calls import Group, Op
from edgeagent.state.entry import Durability, Mode
from edgeagent.state.errors import Fenced, KeyTaken, VersionMismatch
from tests.unit.node.state_rig import Cluster, cluster, put

THREE = ("edge", "edge", "satellite")


async def outcomes(of: Cluster, key: str, **more: object) -> Counter[str]:
    """What nine writers at three nodes hear, each with a value of its own."""

    async def one(number: int) -> str:
        try:
            await put(of.nodes[f"n{number % 3}"], key, b"%d" % number, **more)
        except EdgeError as error:
            return type(error).__name__
        return "wrote"

    return Counter(await asyncio.gather(*map(one, range(9))))


async def value_at(node: KeyState, key: str) -> bytes | None:
    return (await node.group(Group(ops=[Op(op="get", key=key)]))).results[0].value


@pytest.mark.parametrize("key", ["once/x", "runs/r/x"])
def test_of_many_writers_of_a_once_key_one_wins(tmp_path: Path, key: str) -> None:
    async def body() -> None:
        async with cluster(tmp_path, *THREE, once_prefixes="once/") as of:
            assert await outcomes(of, key) == {"wrote": 1, KeyTaken.__name__: 8}
            assert len({await value_at(node, key) for node in of.nodes.values()}) == 1

    asyncio.run(body())


def test_of_many_conditional_writers_one_wins(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, *THREE, owner_prefixes="owned/") as of:
            for key in ("a", "owned/a"):
                assert (await outcomes(of, key, expect=""))["wrote"] == 1
                version = (await of.nodes["n0"].group(Group(ops=[Op(op="get", key=key)]))).results[0].version
                told = await outcomes(of, key, expect=version)
                assert told == {"wrote": 1, VersionMismatch.__name__: 8}

    asyncio.run(body())


def test_the_first_writer_owns_a_key_whoever_decides(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, *THREE, owner_prefixes="owned/") as of:
            for number in range(6):
                key = f"owned/{number}/x"
                assert (await put(of.nodes["n2"], key, b"1")).mode is Mode.OWNER
                await put(of.nodes["n0"], key, b"2")
                entry = await of.nodes["n2"].store.look(key)
                assert entry is not None
                assert (entry.owner, entry.inline) == ("n2", b"2")
            told = Counter({await value_at(node, key) for node in of.nodes.values()})
            assert set(told) == {b"2"}

    asyncio.run(body())


def test_of_two_who_take_over_at_once_one_is_owner(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, *THREE, owner_prefixes="owned/") as of:
            await put(of.nodes["n2"], "owned/x", b"1", durability=Durability.PEER)
            of.alone("n2")
            with pytest.raises(Fenced):
                await put(of.nodes["n0"], "owned/x", b"2")
            await asyncio.gather(
                *(put(of.nodes[one], "owned/x", one.encode(), takeover=True) for one in ("n0", "n1"))
            )
            owners = {
                (entry.owner, entry.epoch)
                for one in ("n0", "n1")
                if (entry := await of.nodes[one].store.look("owned/x")) is not None
            }
            assert len({owner for owner, epoch in owners if epoch == max(e for _, e in owners)}) == 1

    asyncio.run(body())


def test_a_step_writes_keys_of_its_run_without_asking(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge") as of:
            for one in ("n0", "n1"):
                wanted = Group(ops=[Op(op="put", key=f"run/{one}", value=b"v")])
                await of.nodes[one].group(wanted, run="r7")
                assert await of.nodes[one].store.look(f"runs/r7/{one}") is not None
            asked = {path for wire in of.wires.values() for _, path in wire.asked}
            assert "/v1/state:group" not in asked

    asyncio.run(body())


def test_nobody_but_a_node_that_decides_is_told_who_owns(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", owner_prefixes="owned/") as of:
            await put(of.nodes["n0"], "owned/x", b"1", owner="somebody")
            entry = await of.nodes["n0"].store.look("owned/x")
            assert entry is not None
            assert entry.owner == "n0"

    asyncio.run(body())


def test_a_home_that_does_not_answer_fails_the_write(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge") as of:
            key = next(key for key in map(str, range(99)) if of.nodes["n0"].circle.homes_of(key)[0] == "n1")
            await of.nodes["n1"].close()

            def cut(node: str, path: str, reply: bytes) -> bytes:
                raise PeerFailed("cut", peer=node)

            of.wires["n0"].spoil = cut
            with pytest.raises(EdgeError):
                await put(of.nodes["n0"], key, b"1", expect="")
            of.alone("n1")
            assert (await put(of.nodes["n0"], key, b"1", expect="")).found

    asyncio.run(body())


def test_who_saw_the_value_that_lost_is_shown_the_one_that_stayed(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge", once_prefixes="once/") as of:
            of.alone("n1")
            tokens = []
            for one in ("n0", "n1"):
                wanted = Group(ops=[Op(op="put", key="once/x", text=one)])
                tokens.append((await of.nodes[one].group(wanted)).session)
            of.cut.clear()
            seen: set[bytes | None] = set()
            async with asyncio.timeout(30):
                while len(seen) != 1:
                    seen = {await value_at(node, "once/x") for node in of.nodes.values()}
                    await asyncio.sleep(0.05)
            for token in tokens:
                for node in of.nodes.values():
                    wanted = Group(ops=[Op(op="get", key="once/x")], session=token)
                    assert (await node.group(wanted)).results[0].value in seen

    asyncio.run(body())
