"""The scenarios by name, and the one line that runs one of them again:

python -m edgeagent.simulator.gossip_scenarios --scenario pause --seed 17 [--story]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from edgeagent.simulator import gossip_failing, gossip_faulty, gossip_forged, gossip_sky
from edgeagent.simulator.gossip_checks import PropertyBroken, nothing_went_back
from edgeagent.simulator.gossip_world import GossipWorld
from edgeagent.simulator.one_seed import replay

__all__ = ["SCENARIOS", "Scenario", "main", "replay_line", "run_scenario"]

Say = Callable[[str], None]


class Scenario(NamedTuple):
    """``play`` raises PropertyBroken; it is given a world of between ``nodes`` nodes."""

    play: Callable[[GossipWorld], None]
    nodes: tuple[int, int] = (5, 10)
    sky: bool = False


SCENARIOS: dict[str, Scenario] = {
    "loss": Scenario(gossip_faulty.loss),
    "duplication": Scenario(gossip_faulty.duplication),
    "reordering": Scenario(gossip_faulty.reordering),
    "asymmetry": Scenario(gossip_faulty.asymmetry, (7, 12)),
    "partition": Scenario(gossip_faulty.partition),
    "swizzle": Scenario(gossip_faulty.swizzle),
    "crash": Scenario(gossip_failing.crash),
    "restart-with-state": Scenario(gossip_failing.restart_with_state),
    "restart-without-state": Scenario(gossip_failing.restart_without_state),
    "pause": Scenario(gossip_failing.pause),
    "starved": Scenario(gossip_failing.starved, (8, 12)),
    "leave": Scenario(gossip_failing.leave),
    "chaos": Scenario(gossip_failing.chaos),
    "forged": Scenario(gossip_forged.forged),
    "occlusion": Scenario(gossip_sky.occlusion, (6, 9), sky=True),
    "occlusion-crash": Scenario(gossip_sky.occlusion_crash, (6, 9), sky=True),
    "clock-jump": Scenario(gossip_sky.clock_jump, (6, 8), sky=True),
    "load": Scenario(gossip_sky.load_nearby, (8, 12)),
}


def replay_line(name: str, seed: int) -> str:
    """The command that plays one scenario of one seed again."""
    return f"python -m edgeagent.simulator.gossip_scenarios --scenario {name} --seed {seed} --story"


def run_scenario(name: str, seed: int, say: Say | None = None) -> str:
    """Play one; returns the digest of all that happened. Raises PropertyBroken with the line that replays it."""
    scenario = SCENARIOS[name]
    low, high = scenario.nodes
    size = low + seed % (high - low + 1)
    if scenario.sky:
        world = gossip_sky.sky(f"{name}/{seed}", size)
    else:
        world = GossipWorld(f"{name}/{seed}", [f"n{place}" for place in range(size)])
    world.tell_story(say)
    try:
        scenario.play(world)
        nothing_went_back(world)
    except PropertyBroken as broken:
        raise PropertyBroken(f"{name}, seed {seed}: {broken}\nreplay: {replay_line(name, seed)}") from None
    return world.digest


def main(argv: Sequence[str] | None = None) -> int:
    """Play one from the command line."""
    return replay("edgeagent.simulator.gossip_scenarios", SCENARIOS, run_scenario, argv)


if __name__ == "__main__":
    sys.exit(main())
