"""Every scenario with many seeds, on all cores: ``make sim SEEDS=1000``. A summary is written, and every failing seed
named with the line that replays it.

Seeds run in blocks over all scenarios, so that a run that ends early (``--minutes``) has the same seeds for each.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgeagent.simulator import gossip_scenarios, state_scenarios
from edgeagent.simulator.gossip_checks import PropertyBroken
from edgeagent.simulator.gossip_scenarios import SCENARIOS
from edgeagent.simulator.state_scenarios import STATE_SCENARIOS

__all__ = ["Outcome", "main", "play", "summary"]

_BLOCK = 20


class Outcome(msgspec.Struct, frozen=True):
    """What became of one seed; ``broken`` is empty where all properties held."""

    scenario: str
    seed: int
    elapsed_s: float
    broken: str


def play(task: tuple[str, int]) -> Outcome:
    """Play one scenario with one seed. Whatever goes wrong in it is that seed's outcome."""
    name, seed = task
    began_s = time.monotonic()
    broken = ""
    room = state_scenarios if name in STATE_SCENARIOS else gossip_scenarios
    try:
        room.run_scenario(name, seed)
    except PropertyBroken as error:
        broken = str(error)
    except Exception as error:  # noqa: BLE001 - a crash of the core under faults is a finding like any other
        broken = (
            f"{name}, seed {seed}: {type(error).__name__}: {error}\nreplay: {room.replay_line(name, seed)}"
        )
    return Outcome(name, seed, time.monotonic() - began_s, broken)


def summary(outcomes: Sequence[Outcome], elapsed_s: float, date: str) -> dict[str, Any]:
    """The document of a run."""
    scenarios: dict[str, dict[str, Any]] = {}
    for outcome in outcomes:
        line = scenarios.setdefault(outcome.scenario, {"seeds": 0, "broken": [], "cpu_s": 0.0})
        line["seeds"] += 1
        line["cpu_s"] = round(line["cpu_s"] + outcome.elapsed_s, 3)
        if outcome.broken:
            line["broken"].append({"seed": outcome.seed, "what": outcome.broken})
    return {
        "schema": 1,
        "date": date,
        "seeds": min((line["seeds"] for line in scenarios.values()), default=0),
        "plays": len(outcomes),
        "broken": sum(len(line["broken"]) for line in scenarios.values()),
        "elapsed_s": round(elapsed_s, 1),
        "scenarios": scenarios,
    }


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m edgeagent.simulator.many_seeds", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="begin no further block after this; 0: no limit"
    )
    parser.add_argument(
        "--scenario", choices=sorted({**SCENARIOS, **STATE_SCENARIOS}), action="append", help="only these"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="write the summary to this file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Play all; returns 0 where every property held for every seed, else 1."""
    chosen = _arguments(argv)
    names = chosen.scenario or [*SCENARIOS, *STATE_SCENARIOS]
    began_s = time.monotonic()
    outcomes: list[Outcome] = []
    # spawn: workers begin clean, whatever the parent has imported or started.
    with multiprocessing.get_context("spawn").Pool(chosen.jobs) as pool:
        for start in range(chosen.first, chosen.first + chosen.seeds, _BLOCK):
            elapsed_s = time.monotonic() - began_s
            if chosen.minutes and elapsed_s > 60.0 * chosen.minutes:
                break
            block = range(start, min(start + _BLOCK, chosen.first + chosen.seeds))
            for outcome in pool.imap_unordered(play, [(name, seed) for seed in block for name in names], 4):
                outcomes.append(outcome)
                if outcome.broken:
                    sys.stdout.write(outcome.broken + "\n")
            sys.stderr.write(f"seeds up to {block[-1]}: {elapsed_s:.0f} s\n")
    outcomes.sort(key=lambda outcome: (names.index(outcome.scenario), outcome.seed))
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = summary(outcomes, time.monotonic() - began_s, date)
    if chosen.out is not None:
        chosen.out.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    sys.stdout.write(
        f"{document['seeds']} seeds of {len(names)} scenarios, {document['broken']} broken, "
        f"{document['elapsed_s']} s\n"
    )
    return 1 if document["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
