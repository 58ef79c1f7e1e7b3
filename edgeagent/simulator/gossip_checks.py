"""The properties that gossip promises, checked against the truth of a world.

P1 completeness: a crashed node is held dead by everybody, in bounded time.
P2 accuracy: while the wire is within the presets' bounds, nobody alive is declared dead.
P3 refutation wins: whoever was accused falsely is alive everywhere again once it can be heard.
P4 incarnations never go back, in nobody's view.
P5 after healing all views agree, with each other and with the truth.
P7 a scheduled occlusion is never declared dead.
P8 tables are bounded, whatever names are forged.
(P6, constant load per node, is measured: ``edgeagent bench gossip``.)
"""

from __future__ import annotations

import math

from edgeagent.gossip.antientropy import interval_s
from edgeagent.gossip.suspicion import suspicion_bounds_s
from edgeagent.simulator.gossip_world import GossipWorld

__all__ = [
    "PropertyBroken",
    "converges",
    "detection_bound_s",
    "finds_the_dead",
    "nobody_alive_is_dead",
    "nothing_went_back",
    "requires",
]


class PropertyBroken(AssertionError):
    """A promise does not hold; the message says which one, and how to see it again."""


def requires(holds: bool, text: str) -> None:
    if not holds:
        raise PropertyBroken(text)


def detection_bound_s(world: GossipWorld) -> float:
    """When a crash is known to everybody: two rounds of probing, the longest suspicion, rumours and one repair."""
    knobs, members = world.knobs, len(world.nodes)
    _, longest_s = suspicion_bounds_s(knobs, members)
    rounds_s = 2 * members * knobs.probe_interval_s / max(1, len(world.running)) + 10 * knobs.probe_interval_s
    rumours_s = 4 * math.log2(members + 1) * knobs.gossip_interval_s
    return rounds_s + longest_s + rumours_s + 1.25 * interval_s(knobs.push_pull_interval_s, members)


def converges(world: GossipWorld, within_s: float) -> None:
    """P1, P3 and P5: from now on calm, all views become true."""
    good = world.run_until(lambda: not world.unconverged(), within_s)
    requires(good, f"P5 not converged {within_s:.0f} s after calm: {world.unconverged()}")


def nobody_alive_is_dead(world: GossipWorld) -> None:
    """P2 and P7."""
    for at_s, observer, name in world.false_deaths:
        raise PropertyBroken(f"P2 at {at_s:.3f} {observer} declared {name} dead, which is alive")


def finds_the_dead(world: GossipWorld, names: list[str]) -> None:
    """P1, from the crash on."""
    bound_s = detection_bound_s(world)
    living = {node.name for node in world.running}

    def found() -> bool:
        return all(living <= world.deaths_seen.get(name, {}).keys() for name in names)

    requires(
        world.run_until(found, bound_s), f"P1 not everybody knows after {bound_s:.0f} s that {names} crashed"
    )


def nothing_went_back(world: GossipWorld) -> None:
    """P4."""
    for at_s, observer, name, before, after in world.went_back:
        raise PropertyBroken(f"P4 at {at_s:.3f} {observer} took {name} back from {before} to {after}")
