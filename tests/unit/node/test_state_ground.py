"""Nodes with a ground store that the test starts."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgeagent.model.errors import EdgeError, StorageFull, StoreFailed
from edgeagent.node import state_ground
from edgeagent.node.key_state import KeyState
from edgeagent.node.state_ground import GROUND_STORE, MOVED, StateGround, adopt, bare_entry
from edgeagent.state.calls import Done, Group, Op
from edgeagent.state.entry import Durability, entry_of
from edgeagent.state.errors import Behind, KeyTaken, NotDurable
from edgeagent.state.hlc import Version
from edgeagent.state.keystore_notes import NOTES_MAX
from tests.unit.node.state_rig import cluster, put
from tests.unit.state.test_ground import needs_server, server

pytest.importorskip("redis")
LARGE = random.Random(3).randbytes(400_000)


async def get(node: KeyState, key: str) -> Done:
    return (await node.group(Group(ops=[Op(op="get", key=key)]))).results[0]


async def until(true: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    async with asyncio.timeout(30):
        while not await true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # others bring it about


async def evicted(node: KeyState, *keys: str) -> None:
    assert node.ground is not None
    node.ground.evict(await node.store.held(keys))

    async def gone() -> bool:
        return not await node.store.held(keys)

    await until(gone)


@needs_server
def test_what_outgrows_the_node_is_read_from_the_ground(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with server(tmp_path) as url, cluster(tmp_path, "satellite", ground_url=url) as of:
            node = of.nodes["n0"]
            values = {"a/small": b"v", "a/large": LARGE, "runs/r/x": b"once"}
            for key, value in values.items():
                await put(node, key, value)
            named: list[int] = []
            put_notes = node.store.put_notes

            async def counted(space: str, notes: dict[str, bytes | None]) -> None:
                if space == MOVED:
                    named.append(len(notes))
                await put_notes(space, notes)

            monkeypatch.setattr(node.store, "put_notes", counted)
            await evicted(node, *values)
            assert named == [3], "what goes at once is named at once"
            for key, value in values.items():
                done = await get(node, key)
                assert (done.value, done.found) == (value, True)
            where = await node.views.where("a/large")
            assert [one.node for one in where] == [GROUND_STORE]
            assert node.durability_of("a/large", where) is Durability.GROUND
            with pytest.raises(KeyTaken):
                await put(node, "runs/r/x", b"other")
            version = (await get(node, "a/small")).version
            assert (await put(node, "a/small", b"w", expect=version)).found
            assert node.view()["ground"]["evicted"] == 3

    asyncio.run(body())


@needs_server
def test_a_deletion_goes_to_the_ground_and_nothing_comes_back(tmp_path: Path) -> None:
    async def body() -> None:
        async with server(tmp_path) as url, cluster(tmp_path, "ground", ground_url=url) as of:
            node = of.nodes["n0"]
            await put(node, "a/x", b"v")
            await evicted(node, "a/x")
            done = await node.group(Group(ops=[Op(op="delete", key="a/x")]))
            assert done.results[0].found is True or done.results[0].version
            assert node.ground is not None
            ground = node.ground

            async def deleted() -> bool:
                there = await ground.server.get("a/x")
                return there is not None and there[0].deleted

            await until(deleted)
            entry = await node.store.look("a/x")
            assert entry is not None

            async def unnamed() -> bool:
                return not await node.store.notes(MOVED)

            await until(unnamed)
            await node.store.drop([("a/x", entry.version)])  # as when it is forgotten
            assert not await node.views.listed("a/", "", 10)
            assert not (await get(node, "a/x")).found

    asyncio.run(body())


def test_what_has_expired_on_the_ground_is_not_listed_and_its_name_goes(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", ground_url=f"unix://{tmp_path}/none.sock") as of:
            node = of.nodes["n0"]
            now_ms = int(time.time() * 1000)
            moved: dict[str, bytes | None] = {}
            for number in range(5):
                expires_ms = now_ms + 3_600_000 if number == 4 else now_ms - 1000
                old = entry_of(f"a/{number}", b"v", Version(now_ms - 9000, 0, "n0"), expires_ms=expires_ms)
                moved[old.key] = msgspec.msgpack.encode(bare_entry(old))
            await node.store.put_notes(MOVED, moved)
            await put(node, "a/own", b"v")
            assert [one.key for one in await node.views.listed("a/", "", 2)] == ["a/4", "a/own"]
            assert node.ground is not None
            await node.ground.tidy()
            assert list(await node.store.notes(MOVED)) == ["a/4"]

    asyncio.run(body())


@needs_server
def test_a_writer_who_asks_for_the_ground_hears_it_and_members_read_what_is_there(tmp_path: Path) -> None:
    async def body() -> None:
        async with server(tmp_path) as url, cluster(tmp_path, "satellite", "ground", replicas=0) as of:
            await of.end("n1")
            below = await of.up("n1", ground_url=url)
            assert (
                await put(below, "a/x", LARGE, durability=Durability.GROUND)
            ).durability is Durability.GROUND
            assert (
                await put(below, "a/x", LARGE, durability=Durability.GROUND)
            ).durability is Durability.GROUND
            await evicted(below, "a/x")
            assert (await get(of.nodes["n0"], "a/x")).value == LARGE

    asyncio.run(body())


@needs_server
def test_what_waits_is_noted_and_goes_when_the_server_is_back(tmp_path: Path) -> None:
    async def body() -> None:
        url = f"unix://{tmp_path}/r.sock"
        async with cluster(tmp_path, "ground", ground_url=url, ground_queue_bytes=3000) as of:
            node = of.nodes["n0"]
            with pytest.raises(NotDurable) as caught:
                await put(node, "a/x", b"v" * 2000, durability=Durability.GROUND, deadline_ms=300)
            assert caught.value.details["durability"] == "local"
            with pytest.raises(StorageFull):
                await put(node, "a/y", b"w" * 2000, durability=Durability.GROUND)
            assert not (await get(node, "a/y")).found, "refused, and not written"
            assert node.view()["ground"]["away"]

            async def noted() -> bool:
                return bool(await node.store.notes("ground"))

            await until(noted)
            await of.end("n0")
            async with server(tmp_path):
                again = await of.up("n0", ground_url=url)
                assert again.ground is not None
                ground = again.ground

                async def there() -> bool:
                    return await ground.server.get("a/x") is not None

                await until(there)

                async def forgotten() -> bool:
                    return not await again.store.notes("ground")

                await until(forgotten)
            assert (await get(again, "a/none")).found is False, "who is away is not waited for"

    asyncio.run(body())


@needs_server
def test_a_full_node_moves_what_is_oldest_to_the_ground(tmp_path: Path) -> None:
    async def body() -> None:
        async with (
            server(tmp_path) as url,
            cluster(tmp_path, "ground", ground_url=url, bytes_max=1 << 20, inbound_bytes=0) as of,
        ):
            node = of.nodes["n0"]
            for number in range(19):
                await put(node, f"a/{number}", random.Random(number).randbytes(50_000))
            node.usage = await node.store.usage()
            await node._make_room()

            async def gone() -> bool:
                return (await node.store.usage()).bytes == 0

            await until(gone)
            assert (await get(node, "a/0")).value == random.Random(0).randbytes(50_000)

    asyncio.run(body())


@needs_server
def test_what_was_moved_to_the_ground_is_not_taken_for_nothing_while_that_is_away(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "ground", replicas=0) as of:
            await of.end("n1")
            async with server(tmp_path) as url:
                below = await of.up("n1", ground_url=url, once_prefixes="once/")
                keys = ("a/1", "a/2", "once/x")
                for key in (*keys, "a/gone"):
                    await put(below, key, b"v")
                await evicted(below, *keys, "a/gone")
                await below.group(Group(ops=[Op(op="delete", key="a/gone")]))
                for node in of.nodes.values():
                    assert [one.key for one in await node.views.listed("a/", "", 10)] == ["a/1", "a/2"]
                    assert [one.key for one in await node.views.listed("a/", "a/1", 10)] == ["a/2"]
                assert await below.views.listed("a/", "", 10, here_only=True) == []
                read = await below.group(Group(prefix="a/"))
                assert [one.value for one in read.results] == [b"v", b"v"]
            for again in (below, None):  # over a restart, too
                if again is None:
                    await of.end("n1")
                    below = await of.up("n1", ground_url=url, once_prefixes="once/")
                for node in of.nodes.values():
                    with pytest.raises(Behind):
                        await get(node, "a/1")
                    assert not (await get(node, "a/none")).found
                with pytest.raises(Behind):  # or there would be two values of what is written once
                    await put(below, "once/x", b"other")
                with pytest.raises(Behind):
                    await put(below, "a/1", b"w", expect="")
                assert [one.node for one in await below.views.where("a/1")] == [GROUND_STORE]
                assert (await put(below, "a/2", b"w")).found, "the last write wins whatever there was"
                assert (await get(below, "a/2")).value == b"w"
            async with server(tmp_path):
                await until(lambda: _is(not below.ground or not below.ground.server.is_silent))
                assert (await get(of.nodes["n0"], "a/1")).value == b"v"
                with pytest.raises(KeyTaken):
                    await put(below, "once/x", b"other")
                assert below.ground is not None
                client = below.ground.server._open()
                await client.delete(b"edgeagent:a/1")  # as when it has expired
                await below.store.drop([(one.key, one.version) for one in await below.store.held(["a/1"])])
                assert not (await get(below, "a/1")).found
                await until(lambda: _gone(below, "a/1"))
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(below.store, "put_notes", _broken)
                    await below.ground._forget(["a/1"])  # another time

    asyncio.run(body())


async def _broken(*_: Any) -> None:
    raise StoreFailed("broken")


async def _gone(node: KeyState, key: str) -> bool:
    return not await node.store.notes_named(state_ground.MOVED, [key])


@needs_server
def test_faults_of_the_disk_are_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_ground, "AGAIN_S", 0.01)

    async def body() -> None:
        async with server(tmp_path) as url, cluster(tmp_path, "ground", ground_url=url) as of:
            node = of.nodes["n0"]
            assert node.ground is not None
            left = {"put_notes": 2, "drop": 1, "accept": 1}

            def breaks(name: str) -> None:
                real = getattr(node.store, name)

                async def failing(*args: Any, **more: Any) -> Any:
                    left[name] -= 1
                    if left[name] >= 0:
                        raise StoreFailed("broken")
                    return await real(*args, **more)

                monkeypatch.setattr(node.store, name, failing)

            breaks("put_notes")
            await put(node, "a/x", b"v", durability=Durability.GROUND)
            await until(lambda: _is(left["put_notes"] < 0))
            breaks("drop")
            node.ground.evict(await node.store.held(["a/x"]))
            await until(lambda: _is(left["drop"] == 0))
            assert (await get(node, "a/x")).value == b"v", "it stays"
            await evicted(node, "a/x")
            breaks("accept")
            await node.ground.bring(["a/x"])
            assert await node.store.look("a/x") is None
            await node.ground.bring(["a/x"])
            assert await node.store.look("a/x") is not None

    asyncio.run(body())


async def _is(true: bool) -> bool:
    return true


@needs_server
def test_of_a_once_key_the_ground_holds_the_first_and_who_is_late_hears_it(tmp_path: Path) -> None:
    async def body() -> None:
        async with server(tmp_path) as url, cluster(tmp_path, "ground", "ground", ground_url=url) as of:
            of.alone("n1")
            first = await put(of.nodes["n0"], "runs/r/x", b"1", durability=Durability.GROUND)
            assert first.durability is Durability.GROUND
            with pytest.raises(KeyTaken):
                await put(of.nodes["n1"], "runs/r/x", b"2", durability=Durability.GROUND)

    asyncio.run(body())


@needs_server
def test_one_key_that_the_server_refuses_does_not_hold_the_others(tmp_path: Path) -> None:
    async def body() -> None:
        from redis.asyncio import Redis

        async with server(tmp_path) as url, cluster(tmp_path, "ground", ground_url=url) as of:
            client = Redis.from_url(url, protocol=2)
            await client.set("edgeagent:a/bad", b"no hash")
            node = of.nodes["n0"]
            ops = [Op(op="put", key=f"a/{name}", text="v") for name in ("bad", "x", "y")]
            with pytest.raises(NotDurable):
                await node.group(Group(ops=ops, durability=Durability.GROUND, deadline_ms=100))
            for name in ("x", "y"):
                await until(lambda n=name: _there(client, n))  # type: ignore[misc]
            await client.delete("edgeagent:a/bad")
            await until(lambda: _there(client, "bad"))
            await client.aclose()

    asyncio.run(body())


async def _there(client: Any, name: str) -> bool:
    return bool(await client.hexists(f"edgeagent:a/{name}", "entry"))


@needs_server
def test_what_is_written_again_while_it_is_on_its_way_goes_again(tmp_path: Path) -> None:
    async def body() -> None:
        async with server(tmp_path) as url, cluster(tmp_path, "ground", ground_url=url) as of:
            node = of.nodes["n0"]
            done = await asyncio.gather(
                *(put(node, "a/x", b"%d" % n, durability=Durability.GROUND) for n in range(20))
            )
            assert {one.durability for one in done} == {Durability.GROUND}
            assert node.ground is not None
            there = await node.ground.server.get("a/x")
            assert there is not None
            assert there[1] == (await get(node, "a/x")).value
            assert node.ground.server.waiting_bytes == 0

    asyncio.run(body())


def test_a_value_that_is_not_what_it_says_is_not_adopted(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge") as of:
            entry = entry_of("a", LARGE, Version(1, 0, "n"))
            with pytest.raises(EdgeError):
                await adopt(of.nodes["n0"].store, entry, b"x" * len(LARGE))
            with pytest.raises(EdgeError):
                await adopt(of.nodes["n0"].store, entry, None)
            ground = StateGround(of.nodes["n0"].store, "redis://x", queue_bytes=1, settled=lambda *_: None)
            assert await ground.find([]) == {}
            assert await ground.find(["a"]) == {}, "it is not open"
            await ground.close()
            assert NOTES_MAX > 1_000_000

    asyncio.run(body())
