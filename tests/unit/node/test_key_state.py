"""The state of a node put together: damage is mended, what sets is handed over, what is full makes room."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeagent.model.errors import EdgeError, StoreFailed
from edgeagent.node import key_state
from edgeagent.node.key_state import KeyState
from edgeagent.node.state_moves import Needed
from edgeagent.state.calls import Done, Group, Op
from edgeagent.state.entry import Durability
from edgeagent.state.errors import DamagedValue
from tests.unit.node.state_rig import Cluster, cluster, put

LARGE = random.Random(5).randbytes(600_000)


async def get(node: KeyState, key: str) -> Done:
    return (await node.group(Group(ops=[Op(op="get", key=key)]))).results[0]


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not await true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # others bring it about


def spoil_segments(of: Cluster, name: str) -> None:
    """What lies in the middle of each segment's records is not what it was."""
    for path in (of.directory(name) / "segments").glob("*.seg"):
        raw = bytearray(path.read_bytes())
        at = raw.find(LARGE[1000:1064])
        raw[at] ^= 0xFF
        path.write_bytes(raw)


def spoil_row(of: Cluster, name: str, key: str, column: str) -> None:
    with sqlite3.connect(of.directory(name) / "state.db") as connection:
        connection.execute(f"UPDATE entries SET {column} = x'00' WHERE key = ?", (key,))
    connection.close()


def test_a_reader_of_a_damaged_value_gets_the_sound_one_and_it_is_mended(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge") as of:
            node = of.nodes["n0"]
            await put(node, "a/large", LARGE, durability=Durability.PEER)
            await put(node, "a/small", b"small", durability=Durability.PEER)
            await put(node, "a/row", b"row", durability=Durability.PEER)
            await of.end("n0")
            spoil_segments(of, "n0")
            spoil_row(of, "n0", "a/small", "value")
            spoil_row(of, "n0", "a/row", "record")
            node = await of.up("n0")
            wanted = Group(ops=[Op(op="get", key=key) for key in ("a/large", "a/small", "a/row")])
            assert [one.value for one in (await node.group(wanted)).results] == [LARGE, b"small", b"row"]

            async def mended() -> bool:
                try:
                    found = [await node.store.get(key) for key in ("a/large", "a/small", "a/row")]
                except EdgeError:
                    return False
                return [one and one[1] for one in found] == [LARGE, b"small", b"row"]

            await until(mended)

    asyncio.run(body())


def test_the_scrubber_mends_what_nobody_reads(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge") as of:
            await put(of.nodes["n0"], "a/large", LARGE, durability=Durability.PEER)
            await put(of.nodes["n0"], "a/row", b"row", durability=Durability.PEER)
            await of.end("n0")
            spoil_segments(of, "n0")
            spoil_row(of, "n0", "a/row", "record")
            node = await of.up("n0")
            report = await node.store.scrub(1 << 30)
            assert {key for key, _ in report.damaged} == {"a/large", "a/row"}
            await node._mend(report)

            async def sound() -> bool:
                return not (await node.store.scrub(1 << 30)).damaged

            await until(sound)
            assert not await node.mend("a/none", b"")
            assert not await node.mend("", b"x" * 32)

    asyncio.run(body())


def test_damage_that_nobody_can_mend_is_said(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", replicas=0) as of:
            await put(of.nodes["n0"], "a/large", LARGE)
            await of.end("n0")
            spoil_segments(of, "n0")
            node = await of.up("n0")
            with pytest.raises(DamagedValue):  # there is one: it is not "not found"
                await get(node, "a/large")
            with pytest.raises(EdgeError):
                await node.store.get("a/large")
            assert not await node.mend("a/large", b"")

    asyncio.run(body())


def test_before_a_node_sets_what_only_it_holds_goes_to_one_that_stays(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite", "edge", replicas=0) as of:
            node = of.nodes["n0"]
            await put(node, "a/only", b"here")
            await put(node, "a/large", LARGE)
            await node.leaving.look()
            assert await of.nodes["n2"].store.look("a/only") is None, "no end of its contacts is predicted"
            of.skies["n0"].until_s = {"n1": time.time() + 0.5, "n2": time.time() + 3.0}
            node.sky._looked_s = -1e9
            node.sky.view(node.circle)
            await node.leaving.look()

            wanted = ["a/only", "a/large"]

            async def there() -> bool:
                stores = [of.nodes[one].store for one in ("n1", "n2")]
                held = [await one.held(wanted) for one in stores]
                return len({entry.key for some in held for entry in some}) == len(wanted)

            await until(there)
            wanted.append("a/later")
            await put(node, "a/later", b"before it sets")
            await node.leaving.look()
            await until(there)
            await node.leaving.look()
            assert node.replicas.status().errands == 0
            of.alone("n0")
            assert (await get(of.nodes["n2"], "a/large")).value == LARGE

    asyncio.run(body())


def test_a_full_node_forgets_what_enough_others_hold(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge", "edge", bytes_max=1 << 20, inbound_bytes=0) as of:
            node = of.nodes["n0"]
            for number in range(20):
                value = random.Random(number).randbytes(50_000)
                await put(node, f"a/{number}", value, durability=Durability.PEER)
            before = (await node.store.usage()).bytes
            node.usage = await node.store.usage()
            await node._make_room()

            async def freed() -> bool:
                return (await node.store.usage()).bytes < before // 2

            await until(freed)
            for number in range(20):
                assert (await get(node, f"a/{number}")).value == random.Random(number).randbytes(50_000)

    asyncio.run(body())


def test_upkeep_goes_on_where_the_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_state, "SWEEP_S", 0.01)
    monkeypatch.setattr(key_state, "TELL_S", 0.01)

    async def body() -> None:
        async with cluster(tmp_path, "edge", scrub_bytes_per_s=1 << 20) as of:
            node = of.nodes["n0"]
            turns = 0

            async def failing() -> Any:
                nonlocal turns
                turns += 1
                raise StoreFailed("broken")

            monkeypatch.setattr(node.store, "sweep", failing)
            monkeypatch.setattr(node.store, "usage", failing)
            await until(lambda: _is(turns > 4))
            assert not any(task.done() for task in node._tasks)
            monkeypatch.undo()

    asyncio.run(body())


async def _is(true: bool) -> bool:
    return true


def test_what_goes_ahead_is_there_when_the_step_begins(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge", replicas=0) as of:
            node = of.nodes["n0"]
            await node.group(Group(ops=[Op(op="put", key="run/x", value=LARGE)]), run="r1")
            await put(node, "tasks/y", b"v")
            node.ahead(["tasks/"], "r1", Needed(step="next", nodes=("n1",)))

            async def there() -> bool:
                return all([await of.nodes["n1"].store.look(key) for key in ("runs/r1/x", "tasks/y")])

            await until(there)

            async def failing(*_: Any) -> Any:
                raise StoreFailed("broken")

            monkey: Any = node.store
            monkey.list = failing
            node.ahead(["tasks/"], "r1", Needed(step="next", nodes=("n1",)))
            await asyncio.gather(*node._work)

    asyncio.run(body())


def test_metrics_say_what_is_owed(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "edge", "edge") as of:
            of.alone("n1")
            await put(of.nodes["n0"], "a", b"v")
            gauges = {name: read() for name, _, read in of.meters["n0"].gauges}
            assert gauges["state_keys_owed"] == 1
            assert of.nodes["n0"].view()["keys_owed"] == 1
            of.cut.clear()

            async def taken() -> bool:
                counters = {name: read() for name, _, read in of.meters["n1"].counter_gauges}
                return counters["state_custody_taken"] == 1

            await until(taken)
            assert await of.nodes["n1"].store.look("a") is not None

    asyncio.run(body())
