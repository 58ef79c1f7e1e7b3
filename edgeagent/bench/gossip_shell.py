"""A Walker shell of 72 planes with 22 satellites each, whose datagrams take the way of its lasers.

First everybody's load changes every second, and what that costs is measured. It decides nothing about who is there, and
is nine in ten of all datagrams: the many hours in which nobody may be buried go on without it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

from edgeagent.bench.gossip_worlds import WorldFailed, publish_loads_to
from edgeagent.bench.harness import Sample
from edgeagent.gossip.presets import preset
from edgeagent.simulator.gossip_warm import WarmWorld
from edgeagent.simulator.walker_shell import WalkerShell
from edgeagent.simulator.wire import Faults

__all__ = ["LOADED_S", "PLANES", "SLOTS", "shell"]

PLANES, SLOTS = 72, 22
LOADED_S = 60.0
_WEATHER = Faults(latency_s=(0.0005, 0.005), loss=0.01)
_PIECE_S = 10.0
_DETECT_S = 120.0
_ROUTES_EVERY_S = 180.0
_COLLECT_EVERY_S = 3600.0


def shell(seed: str, for_s: float, within_s: float, *, crash: bool) -> Sample:
    """Bytes a second that each one sends while its load changes every second and goes to those at the ends of its
    lasers, for LOADED_S; then without load, until ``for_s`` of virtual time have passed in all, or ``within_s`` of this
    machine's. ``crash``: then one is lost, and found.
    """
    from edgeagent.simulator.gossip_world import UTC_AT_ZERO_S

    sky = WalkerShell(PLANES, SLOTS, UTC_AT_ZERO_S, every_s=_ROUTES_EVERY_S)
    world = WarmWorld(seed, sky.names, knobs=preset("orbit"))
    world.wire.faults = _WEATHER
    world.wire.path_s = lambda a, b: sky.latency_s(a, b, world.utc_s)
    world.start_warm()
    publish_loads_to(world, sky.links, _PIECE_S + LOADED_S)
    world.run(_PIECE_S)
    began_s, began = world.now_s, time.monotonic()
    with _rare_collections():
        rate, loaded_s = _bytes_per_s(world, min(LOADED_S, for_s), began + within_s)
        more = {"loaded_s": loaded_s}
        if for_s > loaded_s:
            more["without_load_bytes_per_s"], _ = _bytes_per_s(world, for_s - loaded_s, began + within_s)
        virtual_s = world.now_s - began_s
        more |= {"virtual_s": virtual_s, "virtual_s_per_s": virtual_s / (time.monotonic() - began)}
        found = _found(world, sky.names) if crash else {}
    return rate, {**more, **found, "false_deaths": float(len(world.false_deaths))}


def _bytes_per_s(world: WarmWorld, for_s: float, until: float) -> tuple[float, float]:
    """(what each one sends a second, over how many virtual seconds); at least one piece, even where time is up."""
    began_s, sent = world.now_s, sum(world.wire.sent_bytes.values())
    collected_s = began_s
    while world.now_s - began_s < for_s:
        world.run(_PIECE_S)
        if world.now_s - collected_s >= _COLLECT_EVERY_S:
            gc.collect()
            collected_s = world.now_s
        if time.monotonic() > until:
            break
    virtual_s = world.now_s - began_s
    return (sum(world.wire.sent_bytes.values()) - sent) / len(world.nodes) / virtual_s, virtual_s


@contextmanager
def _rare_collections() -> Iterator[None]:
    """No search for cycles but ours: looking through millions of members that live on takes a fifth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


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
