"""Scenarios of failing nodes: crashes, restarts with and without the state directory, pauses, starvation, farewells."""

from __future__ import annotations

import math

from edgeagent.gossip.commands import Leave
from edgeagent.gossip.records import Section
from edgeagent.gossip.states import State
from edgeagent.simulator.gossip_checks import converges, finds_the_dead, nobody_alive_is_dead, requires
from edgeagent.simulator.gossip_faulty import publish_something, settle
from edgeagent.simulator.gossip_world import GossipWorld
from edgeagent.simulator.wire import Faults

__all__ = [
    "chaos",
    "crash",
    "leave",
    "pause",
    "restart_with_state",
    "restart_without_state",
    "starve",
    "starved",
]


def _some(world: GossipWorld, share: float) -> list[str]:
    return world.chance.sample(list(world.nodes), max(1, int(len(world.nodes) * share)))


def crash(world: GossipWorld) -> None:
    """Some crash, under loss: everybody else finds out, and nobody else is buried."""
    settle(world)
    world.wire.faults = Faults(loss=world.chance.uniform(0.0, 0.05))
    gone = _some(world, 0.3)
    for name in gone:
        world.run(world.chance.uniform(0.0, 5.0))
        world.say(f"crash {name}")
        world.nodes[name].crash()
    finds_the_dead(world, gone)
    nobody_alive_is_dead(world)
    world.calm()
    converges(world, 60.0)


def _restart(world: GossipWorld, *, lose_disk: bool) -> None:
    settle(world)
    for _ in range(3):
        publish_something(world)
    chosen = _some(world, 0.4)
    for name in chosen:
        world.say(f"crash {name}, {'lose' if lose_disk else 'keep'} its disk")
        world.nodes[name].crash(lose_disk=lose_disk)
        world.run(world.chance.uniform(0.0, 4.0))
    # Some come back before they are missed, some after they are buried, some with a clock that fell back.
    world.run(world.chance.choice((0.5, 5.0, 40.0)))
    for name in chosen:
        node = world.nodes[name]
        node.utc_skew_s = world.chance.choice((0.0, 3600.0, -86400.0, -1e9))
        world.start(name, address=world.chance.choice(("", f"{name}-moved-{node.lives}")))
        world.run(world.chance.uniform(0.0, 2.0))
    world.run(30.0)
    world.calm()
    converges(world, 120.0)
    requires(world.names_taken == 0, "a restart was taken for a second process of one name")


def restart_with_state(world: GossipWorld) -> None:
    """The incarnation comes back from the disk, wherever the clock stands."""
    _restart(world, lose_disk=False)


def restart_without_state(world: GossipWorld) -> None:
    """Nothing is left: the node meets its own old records and goes on above them."""
    _restart(world, lose_disk=True)


def pause(world: GossipWorld) -> None:
    """Processes stand still for up to half a minute. Those may be buried; nobody else; and they rise again."""
    settle(world)
    for _ in range(4):
        chosen = _some(world, 0.25)
        world.excused.update(chosen)
        for name in chosen:
            world.say(f"pause {name}")
            world.nodes[name].pause()
        world.run(world.chance.uniform(0.5, 30.0))
        for name in chosen:
            world.say(f"resume {name}")
            world.nodes[name].resume()
        world.run(world.chance.uniform(0.0, 5.0))
    nobody_alive_is_dead(world)
    world.calm()
    converges(world, 120.0)


def starve(world: GossipWorld, name: str, *, blocked_s: tuple[float, float], events: tuple[int, int]) -> None:
    """From now on, and while it is among the excused, a node gets little CPU: it stands still, handles a few of the
    datagrams that wait and the timers that are due, and stands still again. Both bounds are drawn between, each order
    of magnitude alike, as in the intermittent anomalies of the Lifeguard paper (section 5).
    """
    node = world.nodes[name]

    def burst() -> None:
        if name not in world.excused:
            node.resume()
            return
        if node.is_running:
            node.run_slice(max(1, round(_log_uniform(world, events))))
            node.pause()
        world.clock.after(_log_uniform(world, blocked_s), burst)

    if node.is_running:
        node.pause()
    world.clock.after(_log_uniform(world, blocked_s), burst)


def _log_uniform(world: GossipWorld, bounds: tuple[float, float]) -> float:
    low, high = bounds
    return low * math.exp(world.chance.random() * math.log(high / low))


def starved(world: GossipWorld) -> None:
    """Some are starved of CPU for a minute or two: they must not bury the healthy, and are alive again afterwards."""
    settle(world)
    chosen = _some(world, 0.3)
    world.excused.update(chosen)
    for name in chosen:
        world.say(f"starve {name}")
        starve(world, name, blocked_s=(0.2, 16.0), events=(1, 64))
    world.run(world.chance.uniform(60.0, 120.0))
    nobody_alive_is_dead(world)
    world.excused.clear()
    world.run(10.0)
    world.calm()
    converges(world, 120.0)


def leave(world: GossipWorld) -> None:
    """A farewell is heard, is no death, and ends with a new life."""
    settle(world)
    world.wire.faults = Faults(loss=world.chance.uniform(0.0, 0.1))
    gone = _some(world, 0.3)
    for name in gone:
        world.say(f"leave {name}")
        world.nodes[name].command(Leave())
        world.run(2.0)
        world.nodes[name].crash()
    world.calm()
    converges(world, 60.0)
    for node in world.running:
        assert node.mesh is not None
        for name in gone:
            held = node.mesh.member(name)
            requires(
                held is None or held.state is State.LEFT, f"{node.name} holds {name} {held and held.state}"
            )
    requires(not world.deaths_seen, f"farewells were taken for deaths: {world.deaths_seen}")
    for name in gone:
        world.start(name)
    converges(world, 60.0)


def chaos(world: GossipWorld) -> None:
    """Everything at once, then calm."""
    settle(world)
    chance = world.chance
    for _ in range(14):
        node = chance.choice(list(world.nodes.values()))
        match int(chance.random() * 8):
            case 0 if node.is_running and len(world.running) > 3:
                world.say(f"crash {node.name}")
                node.crash(lose_disk=chance.random() < 0.3)
            case 1 if not node.is_running:
                world.start(node.name)
            case 2:
                world.wire.faults = Faults(
                    loss=chance.random() / 2, duplication=chance.random() / 2, late=0.2, late_s=2.0
                )
            case 3 if node.is_running:
                world.say(f"pause {node.name}")
                node.pause()
            case 4:
                world.wire.groups = {name: int(chance.random() * 2) for name in world.nodes}
                world.say(f"partition {world.wire.groups}")
            case 5:
                world.calm()
            case 6 if node.is_running:
                node.set_clock(chance.uniform(-1e5, 1e5))
            case _:
                publish_something(world)
        world.run(chance.uniform(0.5, 15.0))
    for name, node in world.nodes.items():
        if not node.is_running:
            world.start(name)
    world.calm()
    converges(world, 180.0)
    for node in world.running:
        assert node.mesh is not None
        requires(len(node.mesh.states()) == len(world.nodes) - 1, "members were made up")
        requires(node.mesh.member(node.name).version_of(Section.IDENTITY) > 0, "no identity")  # type: ignore[union-attr]
