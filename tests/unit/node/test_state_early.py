"""Groups that travel while they are written: there with the commit, nothing twice, nothing readable before its time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeagent.model.errors import PeerFailed, StoreFailed
from edgeagent.node import state_early, state_replicas
from edgeagent.node.key_state import KeyState
from edgeagent.node.state_moves import Needed
from edgeagent.state.calls import Group, Op
from edgeagent.state.entry import Durability, Entry, chunks_of, entry_of
from edgeagent.state.fetching import ChunksWanted
from edgeagent.state.hlc import Version
from edgeagent.state.messages import Chunks, Custody, Have, Offer, Part, Refusal
from edgeagent.state.wire import decode, encode
from tests.unit.node.state_rig import Cluster, cluster

BIG = [random.Random(seed).randbytes(700_000) for seed in range(2)]  # three chunks each
PLAIN = "a/k"  # whose writers nobody decides about
KEYS = ["runs/r/a", "runs/r/b", "runs/r/c"]
CHUNKS = [digest for value in BIG for digest in entry_of("k", value).chunks]


async def write(node: KeyState, *, durability: Durability = Durability.LOCAL) -> Any:
    values = dict(zip(KEYS, [*BIG, b"small"], strict=True))
    node.bound_for(["n1"], KEYS)
    ops = [Op(op="put", key=key, value=value) for key, value in values.items()]
    return await node.group(Group(ops=ops, durability=durability, deadline_ms=20_000), run="r", epoch=1)


def when_it_is_there(of: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """This node's disk is slower than the way and the other node."""
    store, there = of.nodes["n0"].store, of.nodes["n1"].store
    really = store._chunks.store

    async def later(*args: Any, **options: Any) -> Any:
        while await there.missing(CHUNKS):  # noqa: ASYNC110 - they come by another task
            await asyncio.sleep(0.01)
        assert not await there.held(KEYS), "nothing can be read before it is written"
        return await really(*args, **options)

    monkeypatch.setattr(store._chunks, "store", later)


def pieces_out(node: KeyState) -> int:
    return int(node.replicas.status().counts.get("pieces_out", 0))


def test_a_group_travels_while_it_is_written_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite", "satellite") as of:
            node, there = of.nodes["n0"], of.nodes["n1"]
            when_it_is_there(of, monkeypatch)
            done = await write(node, durability=Durability.PEER)
            assert done.durability is Durability.PEER
            await asyncio.gather(*node.early._tasks)
            assert node.early.groups == 1
            assert pieces_out(node) == 0
            versions = {entry.key: entry.version.text() for entry in await there.store.held(KEYS)}
            assert versions == {one.key: one.version for one in done.results}
            got = await there.store.get(KEYS[1])
            assert got is not None
            assert got[1] == BIG[1]
            assert there.replicas.status().open_offers == 0

    asyncio.run(body())


def test_what_is_still_on_its_way_is_not_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite") as of:
            node, there = of.nodes["n0"], of.nodes["n1"]
            written = asyncio.Event()
            really = there.store.put_chunks

            async def slowly(pieces: Any) -> None:
                await written.wait()
                await really(pieces)

            monkeypatch.setattr(there.store, "put_chunks", slowly)
            await write(node)
            while not any(one.is_held for one in there.replicas._core._receiving._open.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # the ordinary transfer has been offered
            written.set()
            async with asyncio.timeout(20):
                while len(await there.store.held(KEYS)) < len(KEYS):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await asyncio.gather(*node.early._tasks)
            assert node.early.groups == 1
            assert pieces_out(node) == 0

    asyncio.run(body())


def test_what_a_run_writes_travels_to_where_its_next_step_is_planned(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite", "satellite") as of:
            node = of.nodes["n0"]
            node.ahead((), "r", Needed(step="s", nodes=("n2", "n1"), is_next=True))
            node.ahead((), "r", Needed(step="t", nodes=("n1",)))  # after that one
            ops = [Op(op="put", key=key, value=BIG[0]) for key in ("runs/r/a", "sensors/x")]
            await node.group(Group(ops=ops), run="r", epoch=1)
            await asyncio.gather(*node.early._tasks)
            assert node.early.groups == 1
            assert len(await of.nodes["n2"].store.held(["runs/r/a", "sensors/x"])) == 2
            await node.group(Group(ops=[Op(op="put", key="runs/r/b", value=BIG[1])]), run="r", epoch=1)
            assert not node.early._tasks, "where the step after it goes is not known yet"

    asyncio.run(body())


def refused(node: str, path: str, reply: bytes) -> bytes:
    message = decode(reply)
    return encode(Have(message.ask, 1, refused=Refusal.BUSY)) if isinstance(message, Have) else reply


def lost(node: str, path: str, reply: bytes) -> bytes:
    raise PeerFailed("cut", peer=node)


def mistaken(node: str, path: str, reply: bytes) -> bytes:
    message = decode(reply)
    return encode(Custody(message.ask, 1)) if isinstance(message, Have) else reply


@pytest.mark.parametrize("spoil", [refused, lost, mistaken])
def test_what_does_not_travel_early_goes_the_ordinary_way(
    tmp_path: Path, spoil: Callable[[str, str, bytes], bytes]
) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite") as of:
            node, wire = of.nodes["n0"], of.wires["n0"]

            def first(peer: str, path: str, reply: bytes) -> bytes:
                if not path.endswith("transfer"):
                    return reply
                wire.spoil = lambda _peer, _path, sound: sound
                return spoil(peer, path, reply)

            wire.spoil = first
            done = await write(node, durability=Durability.PEER)
            assert done.durability is Durability.PEER
            assert node.early.groups == 0
            assert not node.early._tasks
            assert node.early._flying_bytes == 0
            assert not any(node.early._flying.values())

    asyncio.run(body())


def test_a_group_that_is_not_written_here_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite") as of:
            node, there = of.nodes["n0"], of.nodes["n1"]
            when_it_is_there(of, monkeypatch)

            def refuse(*_: object) -> None:
                raise StoreFailed("the disk is gone")

            with monkeypatch.context() as patched:
                patched.setattr(node.store._batches, "write", refuse)
                with pytest.raises(StoreFailed):
                    await write(node)
            await asyncio.gather(*node.early._tasks, return_exceptions=True)
            assert node.early.groups == 0
            assert not await there.store.held(KEYS)

    asyncio.run(body())


def test_only_groups_for_one_node_and_within_bounds_travel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite") as of:
            node = of.nodes["n0"]
            monkeypatch.setattr(state_early, "FLYING_BYTES_MAX", 1_000_000)
            await write(node)
            assert not node.early._tasks, "too many bytes"
            monkeypatch.setattr(state_early, "FLYING_BYTES_MAX", 64 << 20)
            monkeypatch.setattr(state_early, "GROUPS_PER_NODE_MAX", 0)
            await write(node)
            assert not node.early._tasks, "too many groups"
            monkeypatch.setattr(state_early, "GROUPS_PER_NODE_MAX", 4)
            await node.group(Group(ops=[Op(op="put", key="x", value=BIG[0])]))
            assert not node.early._tasks, "nobody reads it next"
            node.bound_for(["n0", "n1"], ["y"])
            assert not node.early._bound, "it is read here"
            monkeypatch.setattr(state_early, "_RUNS_MAX", 2)
            for run in "123":
                node.early.run_goes_to("n1", run)
            assert list(node.early._runs) == ["runs/2", "runs/3"]
            monkeypatch.setattr(state_early, "_KEYS_MAX", 2)
            node.bound_for(["n1"], ["1", "2", "3"])
            assert list(node.early._bound) == ["2", "3"]

    asyncio.run(body())


async def read(node: KeyState) -> bytes | None:
    value: bytes | None = (await node.group(Group(ops=[Op(op="get", key=PLAIN)]))).results[0].value
    return value


def chunks_asked(of: Cluster) -> int:
    return sum(path == "/v1/state:chunks" for _, path in of.wires["n1"].asked)


def test_a_reader_asks_for_the_chunks_that_are_not_here_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite") as of:
            node, there = of.nodes["n0"], of.nodes["n1"]
            node.replicas.is_alone = True  # what it writes does not go by itself
            pieces = list(zip(CHUNKS, chunks_of(BIG[0]), strict=False))
            await there.store.put_chunks([(digest, bytes(piece)) for digest, piece in pieces[:2]])
            await node.group(Group(ops=[Op(op="put", key=PLAIN, value=BIG[0])]))
            asked: list[int] = []
            chunks = node.views.chunks

            async def counted(wanted: ChunksWanted) -> Any:
                asked.append(len(wanted.sha256))
                return await chunks(wanted)

            monkeypatch.setattr(node.views, "chunks", counted)
            assert await read(there) == BIG[0]
            assert asked == [1]

    asyncio.run(body())


async def begun(there: KeyState) -> Entry:
    """Another node brings the plain key there, and has not sent a chunk yet."""
    entry = msgspec.structs.replace(entry_of(PLAIN, BIG[0]), version=Version(1, 0, "n0"))
    assert decode(await there.transfer("n0", encode(Offer(1, 1, (entry,))))) == Have(1, 1, b"\x07")
    return entry


def test_a_reader_waits_for_what_is_on_its_way(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite") as of:
            node, there = of.nodes["n0"], of.nodes["n1"]
            node.replicas.is_alone = True  # what it writes does not go by itself
            await node.group(Group(ops=[Op(op="put", key=PLAIN, value=BIG[0])]))
            await begun(there)
            reading = asyncio.ensure_future(read(there))
            for place, piece in enumerate(chunks_of(BIG[0])):
                assert not reading.done()
                part = Part(place, bytes(piece))
                await there.transfer("n0", encode(Chunks(10 + place, 1, (part,))))
            assert await reading == BIG[0]
            assert chunks_asked(of) == 0

    asyncio.run(body())


def test_a_reader_does_not_wait_beyond_its_deadline_nor_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite") as of:
            there = of.nodes["n1"]
            entry = await begun(there)
            assert there.replicas._core.brings(entry.chunks)
            now_s = asyncio.get_running_loop().time()
            assert await there._chunks_here(entry.chunks, now_s + 0.02) == {}
            monkeypatch.setattr(state_replicas, "ARRIVED_S", 0.02)
            assert await there._chunks_here(entry.chunks, now_s + 30.0) == {}
            assert there.replicas._core.brings(entry.chunks)

    asyncio.run(body())
