"""Which satellite may hold the data of a workflow that has not said so yet, and how likely each is.

What is known of the source is that it passes over the place where the data comes in. All that do are about as likely,
but for what earlier workflows have shown: instruments are pointed, and orbits chosen, so that the same leg of the orbit
sees a region again and again. So the two legs, northbound and southbound, are learned as the faces of a coin are (the
Beta(1/2, 1/2) prior of Krichevsky and Trofimov), and what was seen counts half for each workflow since, for passes move
on. Only where both legs passed over was there a choice to learn from: a source on the one leg that did tells nothing.
It is the legs that count: where they cross, satellites of the two are a short way apart, and half the network.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgeagent.simulator.wildfire_play import Turn

__all__ = ["foreseen", "possible_sources"]

_RANGE_KM = 500.0  # along the ground: what the scenario means by passing over
_PRIOR = 0.5  # sources that each leg is taken to have shown before the first
_EVEN = 1e-9
_KEPT = 0.5  # of what a source has shown, with each one after it


def _northbound(turn: Turn, satellites: NDArray[np.intp], first_t: int, then_t: int) -> NDArray[np.bool_]:
    """Which of the satellites fly north between two decisions."""
    shots = turn.case.document.snapshots
    before, after = shots[str(first_t)].sat_lat_e4, shots[str(then_t)].sat_lat_e4
    return np.array([after[one] >= before[one] for one in satellites.tolist()], dtype=np.bool_)


def _overhead(turn: Turn, place: int, t: int) -> NDArray[np.intp]:
    """The satellites that pass over a node at a decision, the nearest first; the nearest alone where none does."""
    places = turn.case.positions_km(t)
    here, flying = places[place], places[: turn.case.satellites]
    turned = flying @ here / (np.linalg.norm(flying, axis=1) * np.linalg.norm(here))
    seen = np.flatnonzero(turned >= math.cos(_RANGE_KM / turn.case.document.link_model.earth_radius_km))
    if not len(seen):
        return np.array([turned.argmax()], dtype=np.intp)
    return seen[np.argsort(-turned[seen], kind="stable")]


def _shown(turn: Turn) -> list[float]:
    """How many sources of earlier workflows flew [south, north], the prior included; old ones count less."""
    earlier = []
    for one in turn.case.instances:
        times = [one.decision_times[name] for name, _ in turn.case.tasks]
        if times[0] < turn.t and len(times) > 1 and one.eo_satellite < turn.case.satellites:
            north = _northbound(turn, _overhead(turn, one.ingest_node, times[0]), times[0], times[1])
            if north.any() and not north.all():
                earlier.append((times[0], times[1], one.eo_satellite))
    counts = [_PRIOR, _PRIOR]
    for age, (first_t, then_t, source) in enumerate(sorted(earlier, reverse=True)):
        northbound = _northbound(turn, np.array([source], dtype=np.intp), first_t, then_t)
        counts[int(northbound[0])] += _KEPT**age
    return counts


def possible_sources(turn: Turn) -> list[tuple[int, float]]:
    """For each leg of the orbits that passes over: the satellite nearest to the place, and how likely the leg is.

    The nearest satellite alone where none is within range.
    """
    seen = _overhead(turn, turn.instance.ingest_node, turn.t)
    times = [turn.instance.decision_times[name] for name, _ in turn.case.tasks]
    north = _northbound(turn, seen, times[turn.index], times[min(turn.index + 1, len(times) - 1)])
    if north.all() or not north.any():
        return [(int(seen[0]), 1.0)]
    shown = _shown(turn)
    legs = [(int(seen[north == way][0]), shown[int(way)]) for way in (False, True)]
    total = math.fsum(weight for _, weight in legs)
    return [(satellite, weight / total) for satellite, weight in legs]


def foreseen(turn: Turn) -> str:
    """Whether the source flies on the leg held likelier: "expected", "unexpected"; "open": they were even."""
    legs = possible_sources(turn)
    if len(legs) == 1 or turn.instance.eo_satellite >= turn.case.satellites:
        return "expected" if len(legs) == 1 else "open"
    times = [turn.instance.decision_times[name] for name, _ in turn.case.tasks]
    flying = np.array([turn.instance.eo_satellite, *(satellite for satellite, _ in legs)], dtype=np.intp)
    source, *each = _northbound(turn, flying, times[turn.index], times[min(turn.index + 1, len(times) - 1)])
    share = math.fsum(share for (_, share), north in zip(legs, each, strict=True) if north == source)
    return "open" if abs(share - 0.5) < _EVEN else "expected" if share > 0.5 else "unexpected"
