"""A Walker shell of 72 planes with 22 satellites each, whose datagrams take the way of its lasers."""

from __future__ import annotations

import time

from edgeagent.bench.gossip_worlds import WorldFailed, publish_loads_to
from edgeagent.bench.harness import Sample
from edgeagent.gossip.presets import preset
from edgeagent.simulator.gossip_warm import WarmWorld
from edgeagent.simulator.walker_shell import WalkerShell
from edgeagent.simulator.wire import Faults

__all__ = ["PLANES", "SLOTS", "shell"]

PLANES, SLOTS = 72, 22
_WEATHER = Faults(latency_s=(0.0005, 0.005), loss=0.01)
_PIECE_S = 10.0
_DETECT_S = 120.0


def shell(seed: str, for_s: float, cpu_s: float, *, crash: bool) -> Sample:
    """Everybody's load changes every second and goes to those at the ends of its lasers: bytes a second that each one
    sends. Ends early when so much time of this machine is spent. ``crash``: then one is lost, and found.
    """
    from edgeagent.simulator.gossip_world import UTC_AT_ZERO_S

    sky = WalkerShell(PLANES, SLOTS, UTC_AT_ZERO_S)
    world = WarmWorld(seed, sky.names, knobs=preset("orbit"))
    world.wire.faults = _WEATHER
    world.wire.path_s = lambda a, b: sky.latency_s(a, b, world.utc_s)
    world.start_warm()
    publish_loads_to(world, sky.links)
    world.run(_PIECE_S)
    began_s, began, sent = world.now_s, time.monotonic(), sum(world.wire.sent_bytes.values())
    while world.now_s - began_s < for_s and time.monotonic() - began < cpu_s:
        world.run(_PIECE_S)
    virtual_s = world.now_s - began_s
    rate = (sum(world.wire.sent_bytes.values()) - sent) / len(sky.names) / virtual_s
    more = {"virtual_s": virtual_s, "false_deaths": float(len(world.false_deaths))}
    return rate, {**more, **(_found(world, sky.names) if crash else {})}


def _found(world: WarmWorld, names: list[str]) -> dict[str, float]:
    """One crashes: seconds until half of the others hold it dead, and all."""
    victim = world.chance.choice(names)
    world.nodes[victim].crash()
    crashed_s, others = world.now_s, len(world.running)
    seen = world.deaths_seen.setdefault(victim, {})
    if not world.run_until(lambda: len(seen) == others, _DETECT_S, 1.0):
        raise WorldFailed(f"{len(seen)} of {others} know after {_DETECT_S:.0f} s that {victim} crashed")
    found_s = sorted(at_s - crashed_s for at_s in seen.values())
    return {"crash_half_s": found_s[len(found_s) // 2], "crash_everybody_s": found_s[-1]}
