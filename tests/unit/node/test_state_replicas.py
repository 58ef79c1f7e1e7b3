"""The shell around the replicator: waiting, notes, requests that fail."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from edgeagent.model.errors import PeerFailed, StorageFull, StoreFailed, Unavailable
from edgeagent.node import state_replicas
from edgeagent.state.calls import Group, Op
from edgeagent.state.entry import Durability, entry_of
from edgeagent.state.errors import BadTransfer, NotDurable
from edgeagent.state.hlc import Version
from edgeagent.state.messages import Ack, CommitRequest, Custody
from edgeagent.state.wire import decode, encode
from tests.unit.node.state_rig import cluster, put


def test_who_waits_in_vain_leaves_nothing_behind(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite") as of:
            node = of.nodes["n0"]
            of.alone("n1")
            for number in range(3):
                with pytest.raises(NotDurable) as caught:
                    await put(node, "a", b"%d" % number, durability=Durability.PEER, deadline_ms=30)
                assert caught.value.details["durability"] == "local"
            assert not node.replicas._waiting
            patient = asyncio.ensure_future(put(node, "a", b"9", durability=Durability.PEER))
            with pytest.raises(NotDurable):
                await put(node, "a", b"8", durability=Durability.PEER, deadline_ms=30)
            of.cut.clear()
            assert (await patient).durability is Durability.PEER, "who waits on is not forgotten"
            assert not node.replicas._waiting

    asyncio.run(body())


def test_a_repeated_once_write_is_as_durable_as_it_is_wanted_also_after_a_start(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite") as of:
            await put(of.nodes["n0"], "runs/r/x", b"v", durability=Durability.PEER)
            await of.end("n0")
            node = await of.up("n0")
            done = await put(node, "runs/r/x", b"v", durability=Durability.PEER, deadline_ms=5000)
            assert done.durability is Durability.PEER
            wanted = Group(ops=[Op(op="delete", key="never")], durability=Durability.PEER, deadline_ms=5000)
            assert not (await node.group(wanted)).results[0].found

    asyncio.run(body())


def test_what_is_owed_waits_for_its_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_replicas, "AGAIN_S", 0.01)

    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite") as of:
            node, left = of.nodes["n0"], [3]
            of.alone("n1")
            await put(node, "a", b"v")
            real = node.store.put_notes

            async def failing(*args: Any) -> None:
                left[0] -= 1
                if left[0] >= 0:
                    raise StorageFull("full")
                await real(*args)

            monkeypatch.setattr(node.store, "put_notes", failing)
            async with asyncio.timeout(20):
                while not await node.store.notes("obligations"):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)  # a tick notes it
            assert left[0] < 0

    asyncio.run(body())


def test_requests_that_fail_are_made_again(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite") as of:
            left = [2]

            def spoil(node: str, path: str, reply: bytes) -> bytes:
                if path.endswith("transfer") and left[0]:
                    left[0] -= 1
                    if left[0]:
                        raise PeerFailed("cut", peer=node)
                    return b"\x01garbage"
                return reply

            of.wires["n0"].spoil = spoil
            assert (
                await put(of.nodes["n0"], "a", b"v", durability=Durability.PEER)
            ).durability is Durability.PEER
            assert left == [0]

    asyncio.run(body())


def commit(ask: int, key: str = "a", size: int = 1) -> bytes:
    entry = entry_of(key, b"v" * size, Version(1_700_000_000_000, 0, "n9"))
    return encode(CommitRequest(ask, ask, (entry,), True))


def test_requests_of_others_are_answered_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge") as of:
            node = of.nodes["n0"]
            both = await asyncio.gather(
                node.transfer("n9", commit(1)), node.transfer("n9", commit(1)), return_exceptions=True
            )
            assert [isinstance(one, Unavailable) for one in both].count(True) == 1
            with pytest.raises(BadTransfer, match="nobody asked"):
                await node.transfer("n9", encode(Ack(1, 1, ())))
            reply = decode(await node.transfer("n9", commit(2, "b", 60_000)))
            assert isinstance(reply, Custody)
            monkeypatch.setattr(state_replicas, "ANSWER_S", 0.01)

            async def never(*args: Any, **more: Any) -> Any:
                await asyncio.Event().wait()

            monkeypatch.setattr(node.store, "accept", never)
            with pytest.raises(Unavailable, match="in time"):
                await node.transfer("n9", commit(3, "c"))
            await of.end("n0")
            with pytest.raises(Unavailable):
                await node.transfer("n9", commit(4))

    asyncio.run(body())


def test_a_hand_over_that_breaks_is_logged_and_not_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge") as of:
            replicas = of.nodes["n0"].replicas

            async def broken() -> None:
                raise ValueError("nobody thought of it")

            replicas._spawn(broken())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not replicas._work

    asyncio.run(body())
    assert "a hand-over broke" in capsys.readouterr().out


def test_what_was_owed_is_owed_after_a_start(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite") as of:
            of.alone("n1")
            for number in range(5):
                await put(of.nodes["n0"], f"a/{number}", b"v" * 70_000)
            await of.end("n0")
            node = await of.up("n0")
            assert node.replicas.status().keys_owed == 5
            of.cut.clear()
            async with asyncio.timeout(20):
                while node.replicas.status().keys_owed:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)  # they are sent
            assert len(await of.nodes["n1"].store.held([f"a/{n}" for n in range(5)])) == 5

    asyncio.run(body())


def test_a_node_that_is_full_takes_no_more_than_it_has_room_for(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite") as of:
            await of.end("n1")
            there = await of.up("n1", bytes_max=1 << 20, inbound_bytes=0)
            for number in range(4):
                await put(there, f"b/{number}", bytes([number]) * 200_000)
            there.usage = await there.store.usage()
            there.replicas.used(there.usage.bytes)
            with pytest.raises(NotDurable):
                await put(of.nodes["n0"], "a", b"v" * 900_000, durability=Durability.PEER, deadline_ms=1000)
            there.replicas._tick()
            assert there.replicas.status().counts["refused_quota"] > 0

    asyncio.run(body())


def test_a_store_that_fails_is_said_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge") as of:

            async def broken(*_: Any) -> Any:
                raise StoreFailed("broken")

            monkeypatch.setattr(of.nodes["n0"].store, "notes", broken)
            with pytest.raises(StoreFailed):
                await of.nodes["n0"].replicas.open()

    asyncio.run(body())


def test_what_was_written_by_a_clock_that_was_ahead_goes_once_it_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite") as of:
            node = of.nodes["n0"]

            async def failing() -> Any:
                raise StoreFailed("broken")

            with monkeypatch.context() as patch:
                patch.setattr(node.store, "restamp", failing)
                await node.replicas._restamp()
            with monkeypatch.context() as patch:
                patch.setattr(node.store, "_utc_ms", lambda: int((time.time() + 3e9) * 1000))
                await put(node, "a/then", b"v")
            async with asyncio.timeout(60):
                while await of.nodes["n1"].store.look("a/then") is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)  # it is refused, and stamped
            held = await node.store.look("a/then")
            assert held is not None
            assert held.version.wall_ms < (time.time() + 60) * 1000

    asyncio.run(body())
