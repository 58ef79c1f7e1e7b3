"""Where state goes ahead of a step, by the contacts of the node."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from edgeagent.node.state_moves import AHEAD_BYTES_MAX, Needed
from edgeagent.state.entry import Entry, entry_of
from edgeagent.state.hlc import Version
from edgeagent.state.packing import level_for
from tests.unit.node.state_rig import Cluster, cluster

AT = Version(1, 0, "n0")


def entry(key: str, size: int) -> Entry:
    return Entry(key=key, version=AT, size_bytes=size)


def look_again(of: Cluster) -> None:
    of.nodes["n0"].sky._looked_s = -1e9


def test_the_elected_node_is_one_where_the_value_is_in_time(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite", "satellite") as of:
            node = of.nodes["n0"]
            node.sky.took("n1", 10_000_000, 80.0)  # 1 Mbit/s
            node.sky.took("n2", 10_000_000, 0.08)  # 1 Gbit/s
            both = Needed(step="s", nodes=("n1", "n2"), start_in_ms=1000, slo_ms=500)
            (going,) = node.moves.plan("r", both, [entry("a", 10_000_000)])
            assert (going.node, [one.key for one in going.entries]) == ("n2", ["a"])
            assert abs(going.by_utc_ms - (time.time() + 1.5) * 1000) < 5000
            slow = Needed(step="t", nodes=("n1",), start_in_ms=10, slo_ms=10)
            late, early = entry("late", 10_000_000), entry("early", 10)
            (going,) = node.moves.plan("r", slow, [late, early])
            assert [one.key for one in going.entries] == ["early", "late"], (
                "what is late goes all the same, last"
            )

    asyncio.run(body())


def test_a_contact_that_ends_too_soon_carries_nothing_and_the_plan_changes(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite", "satellite") as of:
            node, value = of.nodes["n0"], [entry("a", 50_000_000)]
            for one in ("n1", "n2"):
                node.sky.took(one, 1_000_000, 0.1)  # 80 Mbit/s: 5 s
            needed = Needed(step="s", nodes=("n1", "n2"), start_in_ms=60_000, slo_ms=1000)
            assert [one.node for one in node.moves.plan("r", needed, value)] == ["n1"]
            assert [one.node for one in node.moves.plan("r", needed, value)] == ["n1"], "it stays as it is"
            of.skies["n0"].until_s = {"n1": time.time() + 3}
            look_again(of)
            assert [one.node for one in node.moves.plan("r", needed, value)] == ["n2"]
            of.alone("n0")
            assert node.moves.plan("r", needed, value) == []

    asyncio.run(body())


def test_plans_and_what_goes_ahead_are_bounded(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite") as of:
            moves = of.nodes["n0"].moves
            needed = Needed(step="s", nodes=("n1",))
            large = [entry(f"k{n}", AHEAD_BYTES_MAX // 3) for n in range(9)]
            (going,) = moves.plan("r", needed, large)
            assert len(going.entries) == 3
            for run in range(300):
                moves.plan(f"r{run}", needed, large[:1])
            assert len(moves._plans) == 256
            here = Needed(step="s", nodes=("n0",))
            assert moves.plan("r", here, large) == [], "it is there already"

    asyncio.run(body())


def test_the_same_is_not_sent_twice_at_once_and_to_strangers_not_for_ever(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite", replicas=0) as of:
            node = of.nodes["n0"]
            some = [entry_of("a", b"v", AT)]
            of.alone("n1")
            node.replicas._tick()
            for _ in range(5):
                node.replicas.push(some, "n1")
            assert node.replicas.status().errands == 1
            now_s, now_ms = time.monotonic(), int(time.time() * 1000)
            for later_s in (3500.0, 3700.0, 3800.0):
                node.replicas._do(node.replicas._core.tick(now_s + later_s, now_ms, free_bytes=1))
            assert node.replicas.status().errands == 0

    asyncio.run(body())


def test_links_are_known_by_what_they_carried(tmp_path: Path) -> None:
    async def body() -> None:
        async with cluster(tmp_path, "satellite", "satellite") as of:
            sky, circle = of.nodes["n0"].sky, of.nodes["n0"].circle
            for _ in range(30):
                sky.took("n1", 100, 0.1)
                sky.took("n1", 1_000_000, 0.9)
            look_again(of)
            peer = sky.view(circle).peers["n1"]
            assert 9e6 < peer.rate_bit_s < 11e6
            assert 0.09 < peer.rtt_s < 0.11
            assert level_for(peer.rate_bit_s) == 3
            sky.took("gone", 1_000_000, 0.0)
            look_again(of)
            assert "gone" not in sky.view(circle).peers
            assert "gone" not in sky._rates_bit_s

    asyncio.run(body())
