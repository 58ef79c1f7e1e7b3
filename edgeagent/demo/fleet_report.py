"""What the demo says of the fleet's runs."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from edgeagent.demo.continuum import FleetRun
from edgeagent.demo.fleet import Fleet
from edgeagent.demo.plant import Fire, Score
from edgeagent.demo.report import Voice

__all__ = ["fleet_document", "say_run", "say_sky"]


def say_sky(say: Voice, fleet: Fleet, contacts: list[dict[str, Any]]) -> None:
    """Who is over the edge node, by its own prediction; seconds of orbital time from the beginning."""
    say()
    say(
        f"contacts of {fleet.origin.name} (orbital seconds from the beginning; {fleet.members[0].kind} node's own plan)"
    )
    for one in contacts:
        begin, end = one["start_s"] - fleet.since_s, one["end_s"] - fleet.since_s
        say(f"  {fleet.name_of(one['peer']):<7} {begin:7.0f} to {end:6.0f}")


def say_run(say: Voice, fleet: Fleet, number: int, run: FleetRun) -> None:
    """Where each step ran and why; what was predicted, what was measured, and millionths of a dollar by list prices."""
    say()
    say(f"run {number} ({run.id}) at {run.orbital_s:.0f} s of orbital time: {run.total_ms:.0f} ms")
    say(
        f"{'step':<10} {'node':<8} {'predicted':>9} {'measured':>9} {'guest':>8} {'hose':>8} {'bytes in':>9} "
        f"{'cost, uUSD':>10} why"
    )
    for step in run.steps:
        say(
            f"{step['name']:<10} {fleet.name_of(step['node']):<8} {_ms(step['predicted_ms']):>9} "
            f"{_ms(step['measured_ms']):>9} {_ms(step['duration_ms']):>8} {step['hose']:>8} {step['bytes_in']:>9} "
            f"{1e6 * step['cost_usd']:>10.2f} {_named(fleet, step['why'])}"
        )
    if run.problem:
        say(f"NOT OK: {_named(fleet, run.problem)}")
    if run.killed is not None:
        say(f"killed {run.killed.name} (SIGKILL) while it executed vet; the run went on, vet ran again on "
            f"{fleet.name_of(run.rerun_on)}")  # fmt: skip


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def _named(fleet: Fleet, why: str) -> str:
    for member in fleet.members:
        why = why.replace(member.id, member.name).replace(member.id[:12], member.name)
    return why


def fleet_document(
    source: str,
    fires: list[Fire],
    scores: list[Score],
    pictures: tuple[str | None, str | None],
    fleet: Fleet,
    runs: list[FleetRun],
    *,
    ok: bool,
    url: str | None,
) -> str:
    """The object of ``demo --json`` (CONTRACTS 2); ``scores`` are those of the runs, ``url`` is served on."""
    killed = next((run.killed for run in runs if run.killed is not None), None)
    documents = [run.document(ok=one.ok) for run, one in zip(runs, scores, strict=True)]
    return json.dumps(
        {
            "ok": ok,
            "source": source,
            "detections": scores[-1].document(),
            "planted": [msgspec.structs.asdict(fire) for fire in fires],
            "picture": pictures[0],
            "map": pictures[1],
            "nodes": {one.id: {"name": one.name, "kind": one.kind, "url": one.url} for one in fleet.members},
            "steps": documents[-1]["steps"],
            "runs": documents,
            "killed_node": killed.id if killed is not None else None,
            "url": url,
        }
    )
