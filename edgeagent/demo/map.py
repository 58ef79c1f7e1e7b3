"""The map of the demo: ground tracks, nodes, contacts and where the steps of each run were executed, as a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeagent.demo.continuum import FleetRun
from edgeagent.demo.fleet import SPEED, Fleet
from edgeagent.demo.orbits import REGION, train

__all__ = ["draw_map"]

_COLOURS = {"cloud": "#5b6c8f", "ground": "#7a5230", "edge": "#207a4a", "satellite": "#b0307a"}
_TRACK_S = 1500.0
_SPAN_DEG = 20.0


def _tracks(fleet: Fleet, times_s: list[float]) -> dict[str, list[tuple[float, float]]]:
    """(longitude, latitude) in degrees of each satellite at UTC times."""
    from edgeagent.orbit.geodetic import geodetic_of
    from edgeagent.orbit.nodes import Satellite

    found = {}
    for number, elements in enumerate(train(fleet.since_s)):
        places = Satellite(f"sat-{number + 1}", elements).positions_km(times_s)
        latitude, longitude, _ = geodetic_of(places)
        found[f"sat-{number + 1}"] = list(zip(longitude.tolist(), latitude.tolist(), strict=True))
    return found


def draw_map(path: Path, fleet: Fleet, contacts: list[dict[str, Any]], runs: list[FleetRun]) -> bool:
    """Write it; False when matplotlib is not installed, OSError when it cannot be written."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(12, 8.5), dpi=110, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    sky, plan = figure.subplots(2, 1, height_ratios=(4, 1))
    times = [fleet.since_s + second for second in range(0, int(_TRACK_S), 15)]
    for points in _tracks(fleet, times).values():
        sky.plot(*zip(*points, strict=True), color=_COLOURS["satellite"], alpha=0.25, linewidth=1)
    _links(sky, fleet, contacts, runs)
    _executions(sky, fleet, runs)
    _stations(sky, fleet)
    latitude, longitude = REGION
    sky.set_xlim(longitude - 1.4 * _SPAN_DEG, longitude + 1.4 * _SPAN_DEG)
    sky.set_ylim(max(-90.0, latitude - _SPAN_DEG), min(90.0, latitude + _SPAN_DEG))
    sky.grid(visible=True, alpha=0.3)
    sky.set_xlabel("longitude, degrees")
    sky.set_ylabel("latitude, degrees")
    sky.set_title(
        f"where the steps ran ({SPEED} times as fast as the clock); tracks of {_TRACK_S / 60:.0f} minutes"
    )
    _contacts(plan, fleet, contacts, runs)
    figure.savefig(path)
    return True


def _links(sky: Any, fleet: Fleet, contacts: list[dict[str, Any]], runs: list[FleetRun]) -> None:
    """Where each satellite was when a run began, and the line to the origin of those that it saw then."""
    from edgeagent.demo.fleet import ground_places

    origin = next(place[2:] for place in ground_places() if place[0] == fleet.origin.name)
    for number, run in enumerate(runs, 1):
        utc_s = fleet.since_s + run.orbital_s
        seen = {fleet.name_of(one["peer"]) for one in contacts if one["start_s"] <= utc_s < one["end_s"]}
        for name, ((longitude, latitude),) in _tracks(fleet, [utc_s]).items():
            sky.plot(longitude, latitude, marker="s", markersize=4, color=f"C{number - 1}", alpha=0.7)
            sky.annotate(
                f"{name} in run {number}",
                (longitude, latitude),
                xytext=(4, -9),
                textcoords="offset points",
                color=f"C{number - 1}",
                fontsize=6.5,
                clip_on=True,
            )
            if name in seen:
                ends = (longitude, origin[1]), (latitude, origin[0])
                sky.plot(*ends, color=f"C{number - 1}", linewidth=0.7, linestyle=":")


def _stations(sky: Any, fleet: Fleet) -> None:
    """Names to all sides, for the stations stand close together."""
    from edgeagent.demo.fleet import ground_places

    sides = ((-38, 4), (-38, -10), (9, -4), (-32, 6))
    for (name, kind, latitude, longitude), side in zip(ground_places(), sides, strict=True):
        sky.plot(longitude, latitude, marker="^", color=_COLOURS[kind], markersize=8, markeredgecolor="white")
        sky.annotate(name, (longitude, latitude), xytext=side, textcoords="offset points", fontsize=9)


def _executions(sky: Any, fleet: Fleet, runs: list[FleetRun]) -> None:
    """A dot for each step at the node that ran it, where that was; a line for the way between two."""
    from edgeagent.demo.fleet import ground_places

    fixed = {name: (longitude, latitude) for name, _, latitude, longitude in ground_places()}
    for number, run in enumerate(runs, 1):
        moving = {name: points[0] for name, points in _tracks(fleet, [fleet.since_s + run.orbital_s]).items()}
        where = {**moving, **fixed}
        points = [where[fleet.name_of(step["node"])] for step in run.steps if step["state"] == "succeeded"]
        colour = f"C{number - 1}"
        sky.plot(
            *zip(*points, strict=True),
            color=colour,
            linewidth=1.6,
            marker="o",
            markersize=4,
            label=f"run {number}",
        )
        if run.killed is not None and run.killed.name in where:
            sky.plot(*where[run.killed.name], marker="X", markersize=13, color="#d00000", label="killed")
    sky.legend(loc="lower left", fontsize=8)


def _contacts(plan: Any, fleet: Fleet, contacts: list[dict[str, Any]], runs: list[FleetRun]) -> None:
    names = [member.name for member in fleet.members if member.kind == "satellite"]
    for one in contacts:
        name = fleet.name_of(one["peer"])
        if name in names:
            begin, end = one["start_s"] - fleet.since_s, one["end_s"] - fleet.since_s
            plan.barh(names.index(name), end - begin, left=begin, color=_COLOURS["satellite"], alpha=0.6)
    for number, run in enumerate(runs, 1):
        plan.axvline(run.orbital_s, color=f"C{number - 1}")
    plan.set_yticks(range(len(names)), names)
    plan.set_xlabel(
        f"contacts of {fleet.origin.name}, orbital seconds from the beginning; lines: when runs began"
    )
    plan.set_xlim(0, _TRACK_S)
