"""Scenarios of a faulty wire: loss, duplication, reordering, asymmetry, partitions, swizzle-clogging."""

from __future__ import annotations

from edgeagent.gossip.commands import Publish
from edgeagent.gossip.records import Digests, Section, write_payload
from edgeagent.simulator.gossip_checks import converges, nobody_alive_is_dead
from edgeagent.simulator.gossip_world import GossipWorld
from edgeagent.simulator.wire import Faults

__all__ = [
    "asymmetry",
    "duplication",
    "loss",
    "partition",
    "publish_something",
    "reordering",
    "settle",
    "swizzle",
]


def settle(world: GossipWorld) -> None:
    """Everybody starts and finds everybody."""
    world.start_all()
    world.run(1.5)  # all have started by then
    converges(world, 60.0)


def publish_something(world: GossipWorld) -> None:
    """One running node changes what it holds."""
    node = world.chance.choice(world.running)
    digest = world.chance.randbytes(8)
    world.say(f"{node.name} publishes")
    node.command(Publish(Section.FUNCTIONS, write_payload(Digests((digest,)))))


def _disturbed(world: GossipWorld, for_s: float) -> None:
    """Time passes, and some nodes publish meanwhile."""
    for _ in range(4):
        publish_something(world)
        world.run(for_s / 4)


def _faults(world: GossipWorld, faults: Faults) -> None:
    world.say(f"faults {faults}")
    world.wire.faults = faults


def loss(world: GossipWorld) -> None:
    """One datagram in seven is lost at worst: nobody dies of it, and news arrives."""
    settle(world)
    _faults(world, Faults(loss=world.chance.uniform(0.03, 0.15)))
    _disturbed(world, 60.0)
    nobody_alive_is_dead(world)
    world.calm()
    converges(world, 60.0)


def duplication(world: GossipWorld) -> None:
    """Doubled datagrams change nothing."""
    settle(world)
    _faults(world, Faults(duplication=world.chance.uniform(0.2, 0.9), late=0.2, late_s=0.3))
    _disturbed(world, 60.0)
    nobody_alive_is_dead(world)
    world.calm()
    converges(world, 60.0)


def reordering(world: GossipWorld) -> None:
    """Datagrams overtake each other by up to 3 s; the later half of them looks like loss to a probe."""
    settle(world)
    _faults(world, Faults(late=world.chance.uniform(0.1, 0.3), late_s=world.chance.uniform(0.2, 3.0)))
    _disturbed(world, 60.0)
    nobody_alive_is_dead(world)
    world.calm()
    converges(world, 60.0)


def asymmetry(world: GossipWorld) -> None:
    """Some links carry one way only; helpers reach around them."""
    settle(world)
    names = list(world.nodes)
    for _ in range(len(names) * 2 // 3):
        a, b = world.chance.sample(names, 2)
        world.wire.cut.add((a, b))
        world.say(f"cut {a} -> {b}")
    _disturbed(world, 60.0)
    nobody_alive_is_dead(world)
    world.calm()
    converges(world, 60.0)


def partition(world: GossipWorld) -> None:
    """Two or three parts for long enough that each buries the others; then they are one again."""
    settle(world)
    parts = world.chance.choice((2, 2, 3))
    for name in world.nodes:
        world.wire.groups[name] = int(world.chance.random() * parts)
    world.say(f"partition {world.wire.groups}")
    _disturbed(world, world.chance.uniform(10.0, 90.0))
    world.calm()
    converges(world, 120.0)


def swizzle(world: GossipWorld) -> None:
    """FoundationDB's swizzle-clogging: clog a random part one by one, release it in another order."""
    settle(world)
    for _ in range(2):
        chosen = world.chance.sample(list(world.nodes), max(2, len(world.nodes) // 2))
        for name in chosen:
            world.say(f"clog {name}")
            world.wire.clogged.add(name)
            world.run(world.chance.uniform(0.1, 12.0))
        world.chance.shuffle(chosen)
        for name in chosen:
            world.say(f"unclog {name}")
            world.wire.clogged.discard(name)
            world.run(world.chance.uniform(0.1, 8.0))
        publish_something(world)
    world.calm()
    converges(world, 120.0)
