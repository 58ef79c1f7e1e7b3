"""What befalls state in the virtual world, by name; one seed of one is played again with

python -m edgeagent.simulator.state_scenarios --scenario NAME --seed N --story
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from edgeagent.simulator.contacts import PeriodicContacts
from edgeagent.simulator.gossip_checks import PropertyBroken, requires
from edgeagent.simulator.one_seed import replay
from edgeagent.simulator.state_forged import hostile
from edgeagent.simulator.state_workload import Workload
from edgeagent.simulator.state_world import StateWorld
from edgeagent.simulator.wire import Faults

__all__ = ["STATE_SCENARIOS", "StateScenario", "main", "replay_line", "run_scenario"]

Say = Callable[[str], None]


class StateScenario(NamedTuple):
    """``play`` raises PropertyBroken; it is given a world of between ``nodes`` nodes."""

    play: Callable[[StateWorld], None]
    nodes: tuple[int, int] = (3, 6)


def loss(world: StateWorld) -> None:
    """Datagrams are lost, doubled, late and overtaken."""
    world.wire.faults = Faults(loss=0.2, duplication=0.2, late=0.2, late_s=1.0)
    Workload(world).run(25.0)
    world.finish()


def partition(world: StateWorld) -> None:
    """The group falls apart, and writes go on everywhere."""
    work = Workload(world)
    work.run(5.0)
    for _ in range(2):
        names = list(world.nodes)
        world.wire.groups = {name: world.chance.randrange(2) for name in names}
        world.say(f"partition {world.wire.groups}")
        work.run(8.0)
        world.wire.groups = {}
        work.run(world.chance.uniform(0.0, 8.0))
    world.finish()


def crash(world: StateWorld) -> None:
    """Nodes crash at any moment, cut off too, and come back with what was flushed."""
    work = Workload(world)
    for _ in range(6):
        name = world.chance.choice(list(world.nodes))
        work.run(world.chance.uniform(0.5, 4.0))
        if world.chance.random() < 0.5:
            # What it still owes when it crashes, it has to remember.
            world.wire.groups = {name: 1}
            work.run(world.chance.uniform(0.2, 3.0))
        world.crash(name)
        world.wire.groups = {}
        work.run(world.chance.uniform(0.1, 3.0))
        world.restart(name)
    world.finish()


def disk_lost(world: StateWorld) -> None:
    """One node comes back with an empty disk; what was acknowledged elsewhere is still there."""
    work = Workload(world)
    work.run(15.0)
    name = world.chance.choice([name for name, node in world.nodes.items() if not node.is_ground])
    world.crash(name, lose_disk=True)
    work.run(5.0)
    world.restart(name)
    work.lost_disk(name)
    work.run(10.0)
    world.finish()


def disks_lost(world: StateWorld) -> None:
    """All satellites lose their disks, one after the other: what is on the ground stays."""
    work = Workload(world)
    for name in [name for name, node in world.nodes.items() if not node.is_ground]:
        work.run(6.0)
        world.crash(name, lose_disk=True)
        work.run(1.0)
        world.restart(name)
        work.lost_disk(name)
    world.finish()


def bit_flips(world: StateWorld) -> None:
    """Bits of one node's disk flip: found by hash, and repaired from others."""
    work = Workload(world)
    name = world.chance.choice([name for name, node in world.nodes.items() if not node.is_ground])
    for _ in range(4):
        work.run(4.0)
        world.flip(name)
    world.run(30.0)
    # What was never anywhere else cannot be repaired; it is written again.
    for node in world.nodes.values():
        for key in [key for key in node.disk.rows if not node.disk.is_good(key)]:
            if not any(other.disk.is_good(key) for other in world.nodes.values()):
                node.disk.drop(key)
    world.finish()


def full(world: StateWorld) -> None:
    """Disks are full, and rooms too small: others take it, or it waits."""
    work = Workload(world)
    for _ in range(4):
        for node in world.nodes.values():
            node.disk.is_full = world.chance.random() < 0.4
            node.free_bytes = world.chance.choice([0, 1000, 200_000, 1 << 30])
        work.run(5.0)
    world.finish()


def occlusion(world: StateWorld) -> None:
    """Contacts come and go by plan; a transfer goes on at the next one. Nodes hand over before they set."""
    names = list(world.nodes)
    contacts = PeriodicContacts(names, world.chance, period_s=30.0, share=0.4)

    def left_s(a: str, b: str) -> float:
        a, b = min(a, b), max(a, b)
        now_s = world.clock.now_s
        if not contacts.reachable(a, b, now_s):
            return 0.0
        steps = (at for at in range(1, 31) if not contacts.reachable(a, b, now_s + at))
        return float(next(steps, 30))

    world.contact_s = left_s
    work = Workload(world)
    for _ in range(6):
        work.run(8.0)
        work.hand_off()
    world.finish()


def eviction(world: StateWorld) -> None:
    """Nodes forget what is safe elsewhere, all at once too, over a bad wire."""
    world.wire.faults = Faults(loss=0.1, duplication=0.1, late=0.1, late_s=2.0)
    work = Workload(world)
    for _ in range(6):
        work.run(4.0)
        for name in list(world.nodes):
            if world.chance.random() < 0.7:
                work.evict(name)
    world.finish()


def chaos(world: StateWorld) -> None:
    """All of it."""
    work = Workload(world)
    lost = ""
    for _ in range(10):
        world.wire.faults = Faults(
            loss=world.chance.choice([0.0, 0.1, 0.4]), duplication=0.1, late=0.1, late_s=3.0
        )
        work.run(world.chance.uniform(1.0, 5.0))
        name = world.chance.choice(list(world.nodes))
        match world.chance.randrange(5):
            case 0:
                world.wire.groups = {one: world.chance.randrange(2) for one in world.nodes}
            case 1:
                lose = not lost and not world.nodes[name].is_ground and world.chance.random() < 0.5
                world.crash(name, lose_disk=lose)
                lost = name if lose else lost
                work.run(2.0)
                world.restart(name)
                if lose:
                    work.lost_disk(name)
            case 2:
                work.evict(name)
            case 3:
                world.nodes[name].disk.is_full = not world.nodes[name].disk.is_full
            case _:
                world.wire.groups = {}
    world.finish()


STATE_SCENARIOS: dict[str, StateScenario] = {
    "state-loss": StateScenario(loss),
    "state-partition": StateScenario(partition),
    "state-crash": StateScenario(crash),
    "state-disk-lost": StateScenario(disk_lost),
    "state-disks-lost": StateScenario(disks_lost),
    "state-bit-flips": StateScenario(bit_flips),
    "state-full": StateScenario(full),
    "state-occlusion": StateScenario(occlusion),
    "state-eviction": StateScenario(eviction, (4, 7)),
    "state-chaos": StateScenario(chaos, (4, 7)),
    "state-hostile": StateScenario(hostile),
}


def replay_line(name: str, seed: int) -> str:
    """The command that plays one scenario of one seed again."""
    return f"python -m edgeagent.simulator.state_scenarios --scenario {name} --seed {seed} --story"


def run_scenario(name: str, seed: int, say: Say | None = None) -> str:
    """Play one; returns the digest of all that happened. Raises PropertyBroken with the line that replays it."""
    scenario = STATE_SCENARIOS[name]
    low, high = scenario.nodes
    world = StateWorld(f"{name}/{seed}", low + seed % (high - low + 1))
    world.tell_story(say)
    try:
        scenario.play(world)
        requires(world.acked > 0, "S0 nothing was acknowledged")
    except PropertyBroken as broken:
        raise PropertyBroken(f"{name}, seed {seed}: {broken}\nreplay: {replay_line(name, seed)}") from None
    return world.digest


def main(argv: Sequence[str] | None = None) -> int:
    """Play one from the command line."""
    return replay("edgeagent.simulator.state_scenarios", STATE_SCENARIOS, run_scenario, argv)


if __name__ == "__main__":
    sys.exit(main())
