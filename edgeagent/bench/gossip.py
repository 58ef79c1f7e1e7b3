"""The benchmark ``gossip``: membership of simulated groups, in the production core, in virtual time.

Figures in seconds are virtual: they come from the protocol and its presets, and are the same on every machine for one
seed. Only ``simulated-seconds-per-second`` depends on the machine. The baseline ``swim-without-lifeguard`` is the same
core with Lifeguard off: static suspicions, no local health, no nacks, no buddy, no excuse for late timers.
``lifeguard-without-stalls`` lacks the last one only, which is ours and not in Lifeguard's paper.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from edgeagent.bench.gossip_real import real_case
from edgeagent.bench.harness import Bench, Case, Rounds, Sample, Sampler
from edgeagent.bench.stats import significant

__all__ = ["cases"]

BASELINE = "swim-without-lifeguard"
STARVED = {"nodes": 100, "starved": 15, "for_s": 60.0}
SATELLITES = 200
HOURS, HOURS_FULL = 1.0, 24.0
SHELL_S, SHELL_WITHIN_S = 60.0, 15.0
SHELL_CHOSEN_WITHIN_S = 1500.0
LOAD_NEIGHBOURS = {"lan": 8, "orbit": 4}

_Opener = Any


def _numbered(case: str, bench: Bench, work: Callable[[str], Sample]) -> Sampler:
    """Each round with a seed of its own."""
    rounds = itertools.count()
    return lambda: work(f"{bench.options.seed}/{case}/{next(rounds)}")


def _detect(nodes: int) -> _Opener:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        from edgeagent.bench.gossip_worlds import LAN, detect, settled
        from edgeagent.gossip.presets import preset, without_lifeguard

        def sampler(knobs: Any) -> Sampler:
            return _numbered(f"detect-{nodes}", bench, lambda seed: detect(settled(seed, nodes, knobs, LAN)))

        lan = preset("lan")
        yield {"ours": sampler(lan), BASELINE: sampler(without_lifeguard(lan))}

    return opened


def _converge(nodes: int) -> _Opener:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        from edgeagent.bench.gossip_worlds import LAN, converge, settled
        from edgeagent.gossip.presets import preset

        world = settled(f"{bench.options.seed}/converge-{nodes}", nodes, preset("lan"), LAN)
        yield {"ours": lambda: converge(world)}

    return opened


@contextmanager
def _false_deaths(bench: Bench) -> Iterator[dict[str, Sampler]]:
    from edgeagent.bench.gossip_disturbed import starved
    from edgeagent.gossip.presets import preset, without_lifeguard

    def sampler(knobs: Any) -> Sampler:
        nodes, hungry, for_s = int(STARVED["nodes"]), int(STARVED["starved"]), STARVED["for_s"]
        return _numbered("false-deaths", bench, lambda seed: starved(seed, nodes, hungry, for_s, knobs))

    lan = preset("lan")
    yield {
        "ours": sampler(lan),
        BASELINE: sampler(without_lifeguard(lan)),
        "lifeguard-without-stalls": sampler(msgspec.structs.replace(lan, lag_tolerance_s=0.0)),
    }


def _totals(rounds: Rounds, _bench: Bench) -> dict[str, Any]:
    """Counts are compared by their sums; a sum of 0 of ours counts as 1."""
    total = {who: sum(value for value, _ in taken) for who, taken in rounds.items()}
    ours = max(total["ours"], 1.0)
    ratio = {who: significant(theirs / ours, 4) for who, theirs in total.items() if who != "ours"}
    return {"total": total, "ratio": ratio}


def _world_with_loads(seed: str, nodes: int, kind: str) -> Any:
    from edgeagent.bench.gossip_worlds import LAN, ORBIT, publish_loads, settled
    from edgeagent.gossip.presets import preset

    world = settled(seed, nodes, preset(kind), LAN if kind == "lan" else ORBIT)
    publish_loads(world, LOAD_NEIGHBOURS[kind])
    world.run(10.0)  # forwarding has begun by then
    return world


def _bytes(nodes: int, kind: str) -> _Opener:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        from edgeagent.bench.gossip_worlds import LAN, ORBIT, settled, traffic
        from edgeagent.gossip.presets import preset

        seed = f"{bench.options.seed}/bytes-{nodes}-{kind}"
        loaded = _world_with_loads(seed, nodes, kind)
        quiet = settled(seed, nodes, preset(kind), LAN if kind == "lan" else ORBIT)
        yield {
            "ours": lambda: (traffic(loaded, 15.0), {}),
            "_quiet": lambda: (traffic(quiet, 20.0), {}),
        }

    return opened


def _quiet_bytes(rounds: Rounds, _bench: Bench) -> dict[str, Any]:
    taken = [value for value, _ in rounds["_quiet"]]
    return {"without_load_bytes_per_s": significant(sum(taken) / len(taken))}


@contextmanager
def _load_nearby(bench: Bench) -> Iterator[dict[str, Sampler]]:
    from edgeagent.bench.gossip_worlds import load_delays

    world = _world_with_loads(f"{bench.options.seed}/load", 100, "orbit")
    yield {"ours": lambda: load_delays(world, 20)}


def _speed(nodes: int, kind: str, for_s: float) -> _Opener:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        world = _world_with_loads(f"{bench.options.seed}/speed-{nodes}", nodes, kind)

        def ours() -> Sample:
            begun, events = time.process_time(), world.clock.events
            world.run(for_s)
            took_s = time.process_time() - begun
            return for_s / took_s, {"events_per_cpu_s": (world.clock.events - events) / took_s}

        yield {"ours": ours}

    return opened


@contextmanager
def _occlusion(bench: Bench) -> Iterator[dict[str, Sampler]]:
    from edgeagent.bench.gossip_disturbed import occluded

    hours = HOURS_FULL if bench.options.full else HOURS

    def sampler(*, planned: bool) -> Sampler:
        work: Callable[[str], Sample] = lambda seed: occluded(seed, SATELLITES, hours, planned=planned)  # noqa: E731
        return _numbered("occlusion", bench, work)

    yield {"ours": sampler(planned=True), "without-plan": sampler(planned=False)}


@contextmanager
def _shell(bench: Bench) -> Iterator[dict[str, Sampler]]:
    from edgeagent.bench.gossip_shell import shell

    day_s = HOURS_FULL * 3600.0
    if bench.options.full:
        for_s, within_s = day_s, math.inf
    elif bench.options.is_choice:  # somebody wants to know: as long as patience allows
        for_s, within_s = day_s, SHELL_CHOSEN_WITHIN_S
    else:
        for_s, within_s = SHELL_S, SHELL_WITHIN_S
    crash = for_s > SHELL_S
    yield {"ours": _numbered("shell", bench, lambda seed: shell(seed, for_s, within_s, crash=crash))}


def _case(
    name: str, unit: str, opener: _Opener, rounds: tuple[int, int], params: dict[str, Any], **more: Any
) -> Case:
    shared: dict[str, Any] = {"better": "lower", "memory_bytes": 256 << 20, **more}
    # Nothing to warm up: virtual time is the same from the first round on.
    return Case(
        name=name,
        unit=unit,
        open=opener,
        params=params,
        rounds=rounds[0],
        rounds_full=rounds[1],
        warm_up_rounds=0,
        **shared,
    )


def _bytes_case(nodes: int, kind: str, rounds: tuple[int, int]) -> Case:
    name = f"bytes-per-second-{nodes}" + ("" if kind == "orbit" else f"-{kind}")
    near = {"load_period_s": 1.0, "neighbours": LOAD_NEIGHBOURS[kind]}
    params = {"nodes": nodes, "preset": kind, **near}
    return _case(name, "bytes/s per node", _bytes(nodes, kind), rounds, params, fields=_quiet_bytes)


def _speed_case(kind: str, for_s: float) -> Case:
    name = "simulated-seconds-per-second-1000" + ("" if kind == "lan" else f"-{kind}")
    params = {"nodes": 1000, "preset": kind, "load_period_s": 1.0, "for_s": for_s}
    return _case(name, "s per CPU s", _speed(1000, kind, for_s), (5, 15), params, better="higher")


def cases() -> Sequence[Case]:
    def lan(nodes: int) -> dict[str, Any]:
        return {"nodes": nodes, "preset": "lan"}

    sky = {"satellites": SATELLITES, "preset": "orbit"}
    near = {"nodes": 100, "preset": "orbit", "changes": 20}
    return [
        _case("detect-10", "s", _detect(10), (31, 101), lan(10)),
        _case("detect-100", "s", _detect(100), (21, 51), lan(100)),
        _case("detect-1000", "s", _detect(1000), (5, 21), lan(1000)),
        _case("converge-100", "s", _converge(100), (21, 51), lan(100)),
        _case("converge-1000", "s", _converge(1000), (7, 21), lan(1000)),
        _case("converge-5000", "s", _converge(5000), (3, 21), lan(5000), memory_bytes=1 << 30),
        _case(
            "false-deaths",
            "deaths",
            _false_deaths,
            (5, 31),
            {**STARVED, "preset": "lan"},
            fields=_totals,
        ),
        _case("load-to-neighbours", "s", _load_nearby, (5, 21), near),
        _case("occlusion-24h", "false deaths", _occlusion, (1, 1), sky, fields=_totals),
        _speed_case("lan", 5.0),
        _speed_case("orbit", 15.0),
        _bytes_case(100, "orbit", (7, 21)),
        _bytes_case(1000, "orbit", (3, 11)),
        _bytes_case(100, "lan", (7, 21)),
        _bytes_case(1000, "lan", (3, 11)),
        _case("walker-72x22", "bytes/s per node", _shell, (1, 1), {"satellites": 1584, "preset": "orbit"}),
        real_case(8, (5, 21)),
        real_case(24, (3, 11)),
        real_case(50, (3, 7)),
    ]
