"""The wildfire workflow over emulated orbits, with its state where a policy puts it: times, throughput, and what moved.

Theory of operation, in virtual time and the same for every policy:

1. Four steps in a chain, each pinned to a satellite. Eight clients begin workflows, each the next one when its last has
   ended. The first step has the picture from its own camera.
2. A step computes 100 ms (each client's on a core of its own) and writes what it made: bands, and the first one the
   scene's header; as one group, or key by key. The write is durable when the step ends; then the next step is told, by
   a message.
3. A step that was told waits for what is on its way to it, asks the nearest holder for what else it needs, then begins.
4. The last step's alert goes to the cloud; the workflow ends when it is there.

Ours plans moves with :func:`edgeagent.state.propagation.plan_moves` when a step begins and when it writes. A group
moves while it is written (:mod:`edgeagent.node.state_early`), and counts at another node once it is durable there and
where it was made; a key that is written by itself moves when that is done. The others write to the node that their rule
elects, and wait for it: the cloud, any node, or Databelt's (:mod:`edgeagent.state.databelt`).

A read is *local* where the value is at the step's node when its function begins to ask: ours begins when its inputs
have come, and pays for that in time like the others. What was there when the step was told is ``ahead``.

A step's *limit* is the time of the state on the downlink and two hops there and back, from when the step before it has
computed until it has all that it reads. *Violations* are steps that were later although an election of the static
network (:func:`edgeagent.state.election.elect`) is feasible.

Not modelled: losses and cuts, packets' headers, replicas beyond the moved one, caches, the time to decide.
"""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from itertools import pairwise

import msgspec

from edgeagent.simulator.state_flow_policies import Policy, policy_of
from edgeagent.simulator.state_flow_sky import DOWNLINK_BIT_S, Places, Sky
from edgeagent.simulator.state_flow_world import FlowSettings, Process, Run, Value, World, both, start
from edgeagent.state.election import Demand, elect
from edgeagent.state.units import BitPerS, Bytes, Ms

__all__ = ["Flow", "Played", "play", "two_hops_ms"]

_STARTS_S = 1.0  # clients begin at random within it


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy came to. ``storage_ms`` is a workflow's time in reads and writes, means over the measured ones.

    ``keys`` were read, of them ``local`` and ``ahead``; ``edges`` are steps with inputs, ``late`` and ``violations`` of
    them. ``books`` has the bytes that arrived, by what for, and ``read`` and ``here``: what steps read, and what of it
    was at their node.
    """

    time_ms: float
    workflows_per_s: float
    storage_ms: float
    times_ms: tuple[float, ...]
    keys: int
    local: int
    ahead: int
    edges: int
    late: int
    violations: int
    books: dict[str, int]
    moved_bytes: int

    @property
    def local_share(self) -> float:
        return self.local / self.keys if self.keys else 0.0

    @property
    def ahead_share(self) -> float:
        return self.ahead / self.keys if self.keys else 0.0


class Flow:
    """Clients that run workflows at ``places``."""

    def __init__(self, world: World, places: Places, policy: Policy, limit_ms: float) -> None:
        self._world = world
        self._places = places
        self._policy = policy
        self._limit_ms = limit_ms
        self.counts: Counter[str] = Counter()
        self.ended: list[
            tuple[float, float, float]
        ] = []  # when, how long it took, how much of it storage took

    @property
    def _wanted(self) -> int:
        return self._world.settings.clients + self._world.settings.workflows

    def client(self, begin_s: float) -> Process:
        """One after the other, until enough have ended."""
        clock = self._world.clock
        yield self._world.pause(begin_s)
        while len(self.ended) < self._wanted:
            began_s = clock.now_s
            storage_s = [0.0]
            yield from self._workflow(storage_s)
            self.ended.append((clock.now_s, clock.now_s - began_s, storage_s[0]))

    def _workflow(self, storage_s: list[float]) -> Process:
        world = self._world
        run = Run(self._places.nodes, world.settings)
        clock, nodes = world.clock, run.nodes
        made_s = clock.now_s
        for step, node in enumerate(nodes):
            if step:
                yield world.told(nodes[step - 1], node)
                told_s = clock.now_s
                yield from self._read(run, step)
                storage_s[0] += clock.now_s - told_s
                self._judge(run, step, clock.now_s - made_s)
            self._policy.begins(run, step)
            yield world.pause(world.settings.compute_s)
            made_s = clock.now_s
            yield from self._write(run, step)
            storage_s[0] += clock.now_s - made_s
            self._policy.ended(run, step)
        yield from world.put(nodes[-1], world.sky.cloud, world.settings.alert_bytes, kind="alerts")

    def _write(self, run: Run, step: int) -> Process:
        for group in self._grouped(run.made_by(step)):
            size = sum(value.size_bytes for value in group)
            node = self._policy.store(run, step, size)
            if self._world.settings.fused:
                self._policy.writes(run, step, group)
            yield from self._world.put(run.nodes[step], node, size)
            for value in group:
                run.held.setdefault(value.name, {})[node] = self._world.utc_s
                for resume in run.writing.pop(value.name, ()):
                    resume()
            if not self._world.settings.fused:
                self._policy.wrote(run, step)

    def _grouped(self, values: list[Value]) -> list[list[Value]]:
        """What is written at once."""
        if self._world.settings.fused:
            return [values] if values else []
        return [[value] for value in values]

    def _read(self, run: Run, step: int) -> Process:
        node, needed, counts = run.nodes[step], run.needed_by(step), self.counts
        counts["ahead"] += sum(value.keys for value in needed if node in run.held[value.name])
        for value in needed:
            waiting = run.on_the_way.get((value.name, node))
            if waiting is not None:
                yield waiting.append
        asked: list[tuple[str, int]] = []
        for value in needed:
            counts["keys"] += value.keys
            counts["read"] += value.size_bytes
            holders = run.held[value.name]
            if node in holders:
                counts["local"] += value.keys
                counts["here"] += value.size_bytes
            else:
                nearest = min(holders, key=lambda one: (self._world.latency_s(one, node), one))
                asked.append((nearest, value.size_bytes))
        yield from self._fetch(node, asked)

    def _fetch(self, node: str, asked: list[tuple[str, int]]) -> Process:
        """One request to each holder, all at once; or one for each value, each after the last."""
        if not self._world.settings.fused:
            for holder, size in asked:
                yield from self._world.get(node, holder, size)
            return
        sizes: Counter[str] = Counter()
        for holder, size in asked:
            sizes[holder] += size
        if sizes:
            yield both([self._world.apart(self._world.get(node, *one)) for one in sizes.items()])

    def _judge(self, run: Run, step: int, took_s: float) -> None:
        self.counts["edges"] += 1
        if took_s * 1000.0 <= self._limit_ms:
            return
        self.counts["late"] += 1
        world = self._world
        origin, node = run.nodes[step - 1], run.nodes[step]
        rate = world.sky.way(origin, node, world.utc_s).rate_bit_s
        size = Bytes(sum(value.size_bytes for value in run.needed_by(step)))
        demand = Demand(size_bytes=size, slo_ms=Ms(self._limit_ms), rate=BitPerS(rate))
        self.counts["violations"] += elect(world.sky.ways(world.utc_s), origin, node, demand).feasible


def two_hops_ms(sky: Sky, places: Places) -> float:
    """There and back between two steps, of those that are furthest apart."""
    return 2000.0 * max(sky.way(a, b, places.utc_s).latency_s for a, b in pairwise(places.nodes))


def play(sky: Sky, places: Places, policy: str, settings: FlowSettings, seed: int) -> Played:
    """One policy at one time and place; the same arguments give the same figures."""
    chance = random.Random(f"{seed}/{places.utc_s}")
    world = World(sky, places.utc_s, settings)
    hops_ms = two_hops_ms(sky, places)
    limit_ms = settings.size_bytes * 8000.0 / DOWNLINK_BIT_S + hops_ms
    begins = [chance.uniform(0.0, _STARTS_S) for _ in range(settings.clients)]
    flow = Flow(world, places, policy_of(policy, world, limit_ms, hops_ms, chance), limit_ms)
    for begin_s in begins:
        start(flow.client(begin_s))
    world.clock.run_until(math.inf)
    first = settings.clients - 1  # as many as there are clients end before what is measured
    measured = flow.ended[first + 1 : first + 1 + settings.workflows]
    counts = flow.counts
    return Played(
        time_ms=1000.0 * statistics.fmean(took_s for _, took_s, _ in measured),
        workflows_per_s=len(measured) / (measured[-1][0] - flow.ended[first][0]),
        storage_ms=1000.0 * statistics.fmean(storage_s for _, _, storage_s in measured),
        times_ms=tuple(1000.0 * took_s for _, took_s, _ in measured),
        keys=counts["keys"],
        local=counts["local"],
        ahead=counts["ahead"],
        edges=counts["edges"],
        late=counts["late"],
        violations=counts["violations"],
        books={**world.books, "read": counts["read"], "here": counts["here"]},
        moved_bytes=world.network.moved_bytes,
    )
