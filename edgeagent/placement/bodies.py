"""Who may run a step by heat and battery; the models are those of ``thermal.py`` and ``battery.py``.

Where the sun makes no difference to the answer it is not asked: a node that stays cool in full sun passes, and one that
lasts through darkness.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeagent.placement.filters import Filter
from edgeagent.placement.outlook import Outlook, Window
from edgeagent.placement.settings import DecideSettings
from edgeagent.placement.table import NodeTable
from edgeagent.placement.thermal import approach_c

__all__ = ["battery_filter", "temperatures_c", "thermal_filter"]

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


class _Stretch(NamedTuple):
    """``seconds`` within a cell of time whose light is asked for; cells are the same for all steps."""

    seconds: float
    from_s: float
    to_s: float
    runs: bool


def _busy_share(table: NodeTable) -> Floats:
    """How busy the node is with the step beside what it does already: one core more."""
    return np.minimum(table.cpu + 1.0 / table.cores, 1.0)


def temperatures_c(table: NodeTable, window: Window, now_s: float, light: Floats) -> tuple[Floats, Floats]:
    """(when the step starts, when it ends); ``light`` is each node's share of sunlight.

    A node whose temperature is not known is as warm as it gets without work.
    """
    resting = table.base_c + table.c_per_w * table.idle_w + table.sun_c * light
    known = np.where(np.isnan(table.temperature_c), resting, table.temperature_c)
    start = approach_c(known, resting, np.exp(-max(window.start_s - now_s, 0.0) / table.tau_s))
    watts = table.idle_w + (table.busy_w - table.idle_w) * _busy_share(table)
    working = table.base_c + table.c_per_w * watts + table.sun_c * light
    return start, approach_c(start, working, np.exp(-(window.end_s - window.start_s) / table.tau_s))


def _light(table: NodeTable, row: int, from_s: float, to_s: float, outlook: Outlook, unknown: float) -> float:
    """The network's prediction, else what the node said, else ``unknown``."""
    light = outlook.light(row, from_s, to_s)
    load = table.views[row].load
    if light is None and load is not None and load.sunlit is not None:
        light = float(load.sunlit)
    return unknown if light is None else light


def thermal_filter(
    table: NodeTable, window: Window, now_s: float, outlook: Outlook, alive: Flags
) -> tuple[Filter, Floats]:
    """The filter, and the temperatures at the end of the step. Unknown light counts as full sun."""
    light = np.ones(table.nodes)
    start, end = temperatures_c(table, window, now_s, light)
    limit = np.minimum(table.hottest_c, table.recommended_c)
    asked = np.flatnonzero(alive & (np.maximum(start, end) > limit)).tolist()
    for row in asked:
        light[row] = _light(table, row, now_s, max(window.end_s, now_s + 1.0), outlook, 1.0)
    if asked:
        start, end = temperatures_c(table, window, now_s, light)
    hottest = np.maximum(start, end)
    return Filter(
        "thermal",
        hottest <= table.hottest_c,
        lambda row: f"up to {hottest[row]:.1f} C, at most {table.hottest_c[row]:g} C",
        "wait until it is cooler, or let the step be shorter",
    ), end


def battery_filter(
    table: NodeTable,
    window: Window,
    now_s: float,
    outlook: Outlook,
    settings: DecideSettings,
    alive: Flags,
) -> Filter:
    """The reserve lasts while the step runs and an orbit after it, with the eclipses there are. Unknown light is none.

    A node that does not say how full its battery is passes: it decides itself when it is asked.
    """
    reserve, busy = table.reserve, _busy_share(table)
    run_s, rest_s = window.end_s - window.start_s, max(window.start_s - now_s, 0.0) + settings.battery_ahead_s
    working_w = table.idle_w + (table.busy_w - table.idle_w) * busy
    dark = table.charge - (table.idle_w * rest_s + working_w * run_s) / 3600.0 / table.battery_wh
    lowest = np.where(np.isnan(dark), np.inf, np.maximum(dark, 0.0))
    asked = np.flatnonzero(alive & (lowest < reserve))
    if len(asked):
        lowest[asked] = _lowest(table, asked, busy[asked], _stretches(window, now_s, settings), outlook)
    return Filter(
        "battery",
        lowest >= reserve,
        lambda row: f"down to {lowest[row]:.1%} through what is ahead, {reserve[row]:.0%} are kept",
        "wait for sunlight, or lower the reserve",
    )


def _stretches(window: Window, now_s: float, settings: DecideSettings) -> list[_Stretch]:
    """From now until ``battery_ahead_s`` after the step."""
    size, made = settings.stretch_s, []
    begin = min(now_s, window.start_s)
    ends = ((window.start_s, False), (window.end_s, True), (window.end_s + settings.battery_ahead_s, False))
    for end, runs in ends:
        while begin < end:
            cell = math.floor(begin / size) * size
            stop = min(end, cell + size)
            if stop <= begin:  # a quotient was rounded down to the cell that ends here
                cell += size
                stop = max(min(end, cell + size), math.nextafter(begin, math.inf))
            made.append(_Stretch(stop - begin, cell, cell + size, runs))
            begin = stop
    return made


def _lowest(
    table: NodeTable, rows: Ints, busy: Floats, stretches: Sequence[_Stretch], outlook: Outlook
) -> Floats:
    """The lowest charge of some nodes, with the light that they will have."""
    share = lowest = table.charge[rows]
    solar, idle = table.solar_w[rows], table.idle_w[rows]
    working = idle + (table.busy_w[rows] - idle) * busy
    lights: dict[float, Floats] = {}
    for one in stretches:
        light = lights.get(one.from_s)
        if light is None:
            light = lights[one.from_s] = np.array(
                [_light(table, row, one.from_s, one.to_s, outlook, 0.0) for row in rows.tolist()]
            )
        net = solar * light - (working if one.runs else idle)
        share = np.clip(share + net * one.seconds / 3600.0 / table.battery_wh[rows], 0.0, 1.0)
        lowest = np.minimum(lowest, share)
    return lowest
