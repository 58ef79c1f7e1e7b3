"""Simulated groups for the benchmark ``gossip``, and what is measured in them. Everything is drawn from the seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator

from edgeagent.bench.harness import Sample
from edgeagent.gossip.commands import Publish, SetNeighbours
from edgeagent.gossip.effects import Notice, RecordChanged
from edgeagent.gossip.knobs import Knobs
from edgeagent.gossip.records import Digests, Load, Section, write_payload
from edgeagent.simulator.gossip_node import SimNode
from edgeagent.simulator.gossip_warm import WARM_MIN, WarmWorld
from edgeagent.simulator.gossip_world import GossipWorld
from edgeagent.simulator.wire import Faults

__all__ = [
    "LAN",
    "ORBIT",
    "WorldFailed",
    "converge",
    "detect",
    "load_delays",
    "publish_loads",
    "publish_loads_to",
    "settled",
    "traffic",
]

LAN = Faults(latency_s=(0.0005, 0.002))
ORBIT = Faults(latency_s=(0.005, 0.08))

_SETTLE_ROUNDS = 30  # gossip intervals in which all that was said at the start has been said
_STEP_S = 0.25
_LOAD_PERIOD_S = 1.0


class WorldFailed(Exception):
    """A world did what no figure should be made of."""


def settled(seed: str, nodes: int, knobs: Knobs, faults: Faults) -> GossipWorld:
    """A group in which everybody knows everybody and nobody has news."""
    names = [f"n{place:04}" for place in range(nodes)]
    if nodes < WARM_MIN:
        world = GossipWorld(seed, names, knobs=knobs)
        world.wire.faults = faults
        world.start_all()
        world.run(2.0)
        if not world.run_until(lambda: not world.unconverged(), 120.0):
            raise WorldFailed(f"{nodes} nodes do not find each other: {world.unconverged()}")
    else:
        world = warm = WarmWorld(seed, names, knobs=knobs)
        world.wire.faults = faults
        warm.start_warm()
    world.run(_SETTLE_ROUNDS * knobs.gossip_interval_s)
    return world


def detect(world: GossipWorld, within_s: float = 600.0) -> Sample:
    """One crashes: seconds until half of the others hold it dead; until the first and the last one do."""
    victim = world.chance.choice(list(world.nodes))
    world.run(world.knobs.probe_interval_s * world.chance.random())
    world.nodes[victim].crash()
    crashed_s = world.now_s
    others = len(world.running)
    seen = world.deaths_seen.setdefault(victim, {})
    if not world.run_until(lambda: len(seen) == others, within_s, _STEP_S):
        raise WorldFailed(f"{len(seen)} of {others} know after {within_s:.0f} s that {victim} crashed")
    if world.false_deaths:
        raise WorldFailed(f"the living were buried: {world.false_deaths[0]}")
    times = sorted(at_s - crashed_s for at_s in seen.values())
    return statistics.median(times), {"first_s": times[0], "everybody_s": times[-1]}


def converge(world: GossipWorld, within_s: float = 600.0) -> Sample:
    """One changes a record: seconds until everybody has it; until half have, and what each one sent meanwhile."""
    author = world.chance.choice(list(world.nodes))
    payload = write_payload(Digests((world.chance.randbytes(16),)))
    times: list[float] = []

    def hear(_node: SimNode, notice: Notice) -> None:
        if isinstance(notice, RecordChanged) and notice.record.payload == payload:
            times.append(world.now_s)

    world.listen(hear)
    before, began_s = sum(world.wire.sent_bytes.values()), world.now_s
    world.nodes[author].command(Publish(Section.FUNCTIONS, payload))
    others = len(world.running) - 1
    if not world.run_until(lambda: len(times) == others, within_s, _STEP_S):
        raise WorldFailed(f"{len(times)} of {others} have a record after {within_s:.0f} s")
    world.run(3.0 - (world.now_s - began_s) % 3.0)  # so that its last repetitions are counted
    sent = sum(world.wire.sent_bytes.values()) - before
    return times[-1] - began_s, {
        "half_s": statistics.median(times) - began_s,
        "bytes_per_node": sent / (others + 1),
    }


def _grid(names: list[str], neighbours: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Everybody's neighbours: 4 on a torus, as satellites have, else the next ones in order."""
    size = len(names)
    width = next(width for width in range(round(size**0.5), 0, -1) if size % width == 0)
    steps = (1, -1, width, -width) if neighbours == 4 else range(1, neighbours + 1)
    for place, name in enumerate(names):
        yield name, tuple(names[(place + step) % size] for step in steps)


def _load(world: GossipWorld) -> bytes:
    chance = world.chance
    return write_payload(
        Load(
            cpu=chance.random(),
            queue=int(chance.random() * 100),
            memory_free_bytes=int(chance.random() * 2**34),
            gpu=chance.random(),
            temperature_c=60 * chance.random(),
            battery=chance.random(),
            sunlit=chance.random() < 0.6,
        )
    )


def publish_loads(world: GossipWorld, neighbours: int) -> None:
    """From now on everybody's load changes every second, each at its own moment."""
    for name, near in _grid(list(world.nodes), neighbours):
        world.nodes[name].command(SetNeighbours(near))
        world.clock.after(_LOAD_PERIOD_S * world.chance.random(), _publish_load, world, name)


def publish_loads_to(world: GossipWorld, links: Iterable[tuple[str, str]], for_s: float = math.inf) -> None:
    """The same, to those at the other ends of these links, for so long."""
    near: dict[str, list[str]] = {name: [] for name in world.nodes}
    for a, b in links:
        near[a].append(b)
        near[b].append(a)
    end_s = world.now_s + for_s
    for name, others in near.items():
        world.nodes[name].command(SetNeighbours(tuple(others)))
        world.clock.after(_LOAD_PERIOD_S * world.chance.random(), _publish_load, world, name, end_s)


def _publish_load(world: GossipWorld, name: str, end_s: float = math.inf) -> None:
    if world.now_s >= end_s:
        return
    world.nodes[name].command(Publish(Section.LOAD, _load(world)))
    world.clock.after(_LOAD_PERIOD_S, _publish_load, world, name, end_s)


def traffic(world: GossipWorld, for_s: float) -> float:
    """Bytes a second that a node sends, in the mean over all; headers and encryption counted."""
    before = sum(world.wire.sent_bytes.values())
    world.run(for_s)
    return (sum(world.wire.sent_bytes.values()) - before) / len(world.nodes) / for_s


def load_delays(world: GossipWorld, changes: int) -> Sample:
    """Loads change at random moments, besides every second: the seconds until the last neighbour knows, the longest of
    so many changes, and the median.
    """
    near = dict(_grid(list(world.nodes), 4))
    delays = []
    for _ in range(changes):
        name = world.chance.choice(list(world.nodes))
        world.run(world.chance.random())
        delays.append(_load_delay(world, name, set(near[name])))
    return max(delays), {"median_s": statistics.median(delays)}


def _load_delay(world: GossipWorld, name: str, near: set[str]) -> float:
    began_s = world.now_s
    mesh = world.nodes[name].mesh
    assert mesh is not None
    before = mesh.member(name)
    version = 1 + max(0 if one is None else one.version for one in (before.records if before else ()))
    known: dict[str, float] = {}

    def hear(node: SimNode, notice: Notice) -> None:
        # A load that comes still later is newer: whoever has that knows no less.
        if isinstance(notice, RecordChanged):
            record = notice.record
            if record.name == name and record.section == Section.LOAD and record.version >= version:
                known.setdefault(node.name, world.now_s)

    world.listen(hear)
    world.nodes[name].command(Publish(Section.LOAD, _load(world)))
    if not world.run_until(lambda: near <= known.keys(), 30.0, _STEP_S):
        raise WorldFailed(f"the neighbours of {name} have not heard of its load")
    return max(known[one] for one in near) - began_s
