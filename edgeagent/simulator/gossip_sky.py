"""Scenarios with a contact plan: occlusions, crashes behind the horizon, clocks that are set, and load nearby."""

from __future__ import annotations

from edgeagent.gossip.commands import Publish, SetNeighbours
from edgeagent.gossip.presets import preset
from edgeagent.gossip.records import Load, Section, write_payload
from edgeagent.gossip.states import State
from edgeagent.simulator.contacts import PeriodicContacts
from edgeagent.simulator.gossip_checks import nobody_alive_is_dead, requires
from edgeagent.simulator.gossip_world import GossipWorld
from edgeagent.simulator.wire import Faults

__all__ = ["clock_jump", "load_nearby", "occlusion", "occlusion_crash", "sky"]


def sky(seed: int | str, nodes: int, *, period_s: float = 600.0, share: float = 0.4) -> GossipWorld:
    """A group in the ``orbit`` preset whose pairs meet for ``share`` of each period; the plan is 3 s off at the edges.
    The first three are in contact always, as satellites of one plane are, so that there is somebody to ask.
    """
    names = [f"sat-{place}" for place in range(nodes)]
    world = GossipWorld(f"sky/{seed}", names, knobs=preset("orbit"))
    always = frozenset({(names[0], names[1]), (names[1], names[2]), (names[0], names[2])})
    contacts = PeriodicContacts(
        names, world.chance, period_s=period_s, share=share, always=always, error_s=3.0
    )
    world.set_contacts(contacts)
    world.wire.visible = lambda a, b: contacts.truly_visible(a, b, world.utc_s)
    world.wire.faults = Faults(latency_s=(0.005, 0.08))
    return world


def _in_orbit(world: GossipWorld) -> None:
    world.start_all(within_s=30.0)
    world.run(world.contacts_period_s + 60.0)  # everybody has met everybody


def occlusion(world: GossipWorld) -> None:
    """P7: an hour of contacts that come and go, with loss, and nobody is ever declared dead."""
    _in_orbit(world)
    world.wire.faults = Faults(latency_s=(0.005, 0.08), loss=world.chance.uniform(0.0, 0.05))
    world.run(3600.0)
    nobody_alive_is_dead(world)
    occlusions = sum(node.mesh.counters.occlusions for node in world.running if node.mesh is not None)
    requires(
        occlusions > len(world.nodes), f"only {occlusions} occlusions were seen: the scenario tests nothing"
    )


def occlusion_crash(world: GossipWorld) -> None:
    """One crashes while it is out of contact with some: they wait for its return, and then find out."""
    _in_orbit(world)
    name = world.chance.choice(list(world.nodes))
    world.say(f"crash {name}")
    world.nodes[name].crash()
    bound_s = world.contacts_period_s + 600.0

    def found() -> bool:
        held = (node.mesh.member(name) for node in world.running if node.mesh is not None)
        return all(one is None or one.state is State.DEAD for one in held)

    requires(world.run_until(found, bound_s, 5.0), f"P1 {name} is not dead everywhere after {bound_s:.0f} s")
    nobody_alive_is_dead(world)


def clock_jump(world: GossipWorld) -> None:
    """Clocks jump, so plans are read at the wrong time: views may err meanwhile, and are right afterwards."""
    _in_orbit(world)
    chosen = world.chance.sample(list(world.nodes), max(1, len(world.nodes) // 4))
    for name in chosen:
        skew_s = world.chance.choice((-1.0, 1.0)) * world.chance.uniform(30.0, 5000.0)
        world.say(f"clock of {name} {skew_s:+.0f} s")
        world.nodes[name].set_clock(skew_s)
    world.run(world.chance.uniform(60.0, 900.0))
    faults = world.wire.faults
    world.calm()
    world.wire.faults = faults
    good = world.run_until(lambda: not world.unconverged(), 2 * world.contacts_period_s + 600.0, 10.0)
    requires(good, f"P5 after the clocks were set right: {world.unconverged()}")
    for observer in world.running:
        assert observer.mesh is not None
        buried = [name for name, state in observer.mesh.states().items() if state is State.DEAD]
        requires(not buried, f"{observer.name} has buried {buried}")


def load_nearby(world: GossipWorld) -> None:
    """A change of load is at the neighbours within a second, and nowhere beyond the hops."""
    names = list(world.nodes)
    world.start_all(within_s=2.0)
    world.run(60.0)
    size = len(names)
    for place, name in enumerate(names):  # a ring
        world.nodes[name].command(SetNeighbours((names[place - 1], names[(place + 1) % size])))
    for turn in range(10):
        place = world.chance.randrange(size)
        payload = write_payload(Load(cpu=turn / 10, queue=turn))
        world.nodes[names[place]].command(Publish(Section.LOAD, payload))
        world.run(1.0)
        for near in (names[place - 1], names[(place + 1) % size]):
            requires(
                _load(world, near, names[place]) == payload, f"{near} has not heard of {names[place]} in 1 s"
            )
        world.run(world.chance.uniform(0.0, 12.0))
        hops = world.knobs.load_hops
        far = names[(place + hops + 1) % size]
        requires(_load(world, far, names[place]) is None, f"{far} is {hops + 1} hops away and has heard")


def _load(world: GossipWorld, observer: str, name: str) -> bytes | None:
    mesh = world.nodes[observer].mesh
    assert mesh is not None
    held = mesh.member(name)
    record = held.records[Section.LOAD] if held is not None else None
    return record.payload if record is not None else None
