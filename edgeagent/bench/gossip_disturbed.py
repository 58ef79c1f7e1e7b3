"""Worlds that are hard on a failure detector: members starved of CPU, and satellites behind the horizon."""

from __future__ import annotations

import random

from edgeagent.bench.gossip_worlds import LAN, settled
from edgeagent.bench.harness import Sample
from edgeagent.gossip.effects import MemberChanged, Notice
from edgeagent.gossip.knobs import Knobs
from edgeagent.gossip.presets import preset
from edgeagent.gossip.states import State
from edgeagent.simulator.bent_pipe import BentPipe, bent_pipe
from edgeagent.simulator.gossip_failing import starve
from edgeagent.simulator.gossip_node import SimNode
from edgeagent.simulator.gossip_warm import WarmWorld
from edgeagent.simulator.gossip_world import UTC_AT_ZERO_S
from edgeagent.simulator.wire import Faults

__all__ = ["BLOCKED_S", "EVENTS", "occluded", "starved"]

BLOCKED_S = (0.2, 16.0)
EVENTS = (1, 64)

_WEATHER = Faults(latency_s=(0.01, 0.06), loss=0.01)
_THE_GROUND = "ground-0"  # any station: they are one network
_BEYOND_S = 6 * 3600.0  # the plan reaches so far beyond the end


def starved(seed: str, nodes: int, hungry: int, for_s: float, knobs: Knobs) -> Sample:
    """Some are starved of CPU: how many of the others, which are well, somebody declares dead. Each life that ends so
    counts once, however many hear of it; those who refute and are buried again count again. ``verdicts`` counts
    everybody who believed it.
    """
    world = settled(seed, nodes, knobs, LAN)
    chosen = world.chance.sample(list(world.nodes), hungry)
    world.excused.update(chosen)
    for name in chosen:
        starve(world, name, blocked_s=BLOCKED_S, events=EVENTS)
    world.run(for_s)
    return float(len(world.false_lives)), {"verdicts": float(len(world.false_deaths))}


def occluded(seed: str, satellites: int, hours: float, *, planned: bool) -> Sample:
    """Satellites without links of their own come and go; one crashes. How often somebody declares one dead that is not,
    how many occlusions there were, and when the ground knew of the crash: seconds after it would have been back.
    ``planned`` false: nobody has the plan.
    """
    chance = random.Random(f"sky/{seed}")
    names, contacts = bent_pipe(satellites, UTC_AT_ZERO_S, hours * 3600.0 + _BEYOND_S, chance)
    world = WarmWorld(seed, names, knobs=preset("orbit"))
    if planned:
        world.set_contacts(contacts)
    world.wire.visible = lambda a, b: contacts.truly_visible(a, b, world.utc_s)
    world.wire.faults = _WEATHER
    ground = [name for name in names if name.startswith("ground")]
    returned = [0]

    def hear(_node: SimNode, notice: Notice) -> None:
        if isinstance(notice, MemberChanged) and notice.before is State.OCCLUDED:
            returned[0] += notice.after is State.ALIVE

    world.listen(hear)
    world.start_warm()
    world.run(hours * 3600.0 * 0.4)
    victim, back_s = _next_to_return(contacts, names[len(ground) :], world.utc_s)
    world.nodes[victim].crash()
    world.run(hours * 3600.0 * 0.6)
    more: dict[str, float] = {"hours": hours, "returns": float(returned[0])}
    if planned:
        more["occlusions"] = float(sum(one.mesh.counters.occlusions for one in world.running if one.mesh))
        seen = world.deaths_seen.get(victim, {})
        if all(one in seen for one in ground):
            more["crash_found_s"] = max(seen[one] for one in ground) - (back_s - UTC_AT_ZERO_S)
    return float(len(world.false_deaths)), more


def _next_to_return(contacts: BentPipe, satellites: list[str], utc_s: float) -> tuple[str, float]:
    """The one that is out of sight and will be back first, a minute from now or later, and when."""
    found = []
    for name in satellites:
        back_s = contacts.returns_at_s(name, _THE_GROUND, utc_s)
        if back_s is not None and back_s >= utc_s + 60.0:
            found.append((back_s, name))
    back_s, name = min(found)
    return name, back_s
