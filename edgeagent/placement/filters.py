"""Who may run a step: what the node is, and what the network lets it reach over the whole time that the step takes.

Each filter says of each node whether it passed, and of one that did not what the limit is and what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeagent.placement.gpus import gpu_fault
from edgeagent.placement.outlook import Outlook, Window
from edgeagent.placement.table import NodeTable, architecture_of
from edgeagent.placement.views import NodeView, StepAsk

__all__ = ["EXCLUDED", "Filter", "contact_filter", "data_filters", "edge_filters", "node_filters"]

EXCLUDED = "excluded"  # the filter of nodes that are not there, or refused before

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Filter:
    """``passed`` ``(nodes,)``; ``detail(row)`` for one that did not; ``hint`` for when it leaves no node."""

    name: str
    passed: Flags
    detail: Callable[[int], str]
    hint: str


def _views_filter(
    name: str,
    views: Sequence[NodeView],
    passes: Callable[[NodeView], bool],
    detail: Callable[[NodeView], str],
    hint: str,
) -> Filter:
    flags = np.fromiter((passes(view) for view in views), dtype=np.bool_, count=len(views))
    return Filter(name, flags, lambda row: detail(views[row]), hint)


def node_filters(ask: StepAsk, table: NodeTable) -> list[Filter]:
    """What the caller knows against a node, trust, needs and memory."""
    views = table.views
    filters = [
        _views_filter(
            EXCLUDED,
            views,
            lambda view: not view.excluded,
            lambda view: view.excluded,
            "wait until a node is back, or join more nodes",
        ),
        _views_filter(
            "trust",
            views,
            lambda view: view.trusted,
            lambda view: "the node is not trusted",
            "anchor the keys of the nodes that may run this",
        ),
    ]
    if ask.pinned:
        filters.append(
            _views_filter(
                "pinned",
                views,
                lambda view: view.id == ask.pinned,
                lambda view: f"the step is pinned to {ask.pinned}",
                "name a node that is a member",
            )
        )
    filters += [_need_filter(need, views) for need in ask.needs]
    if ask.memory_bytes > 0:
        filters.append(
            Filter(
                "memory",
                table.memory_bytes >= ask.memory_bytes,
                lambda row: f"{ask.memory_bytes} bytes needed, {table.memory_bytes[row]:.0f} free",
                "lower limits.memory_bytes, or free memory",
            )
        )
    return filters


def _need_filter(need: str, views: Sequence[NodeView]) -> Filter:
    word, _, value = need.partition(":")
    hint = f"loosen the need {need!r:.60}, or join a node that meets it"
    if need == "gpu":
        return _views_filter("gpu", views, lambda view: not gpu_fault(view), gpu_fault, hint)
    if word == "arch" and value:
        wanted = architecture_of(value)
        return _views_filter(
            "architecture",
            views,
            lambda view: architecture_of(view.architecture) == wanted,
            lambda view: f"{wanted} needed, it is {view.architecture or 'unknown'}",
            hint,
        )
    if word == "kind" and value:
        return _views_filter(
            "kind",
            views,
            lambda view: view.kind == value,
            lambda view: f"{value} needed, it is {view.kind or 'unknown'}",
            hint,
        )
    if word == "node" and value:
        return _views_filter(
            "node", views, lambda view: view.id == value, lambda view: f"{value} needed", hint
        )
    return _views_filter(
        "label", views, lambda view: need in view.labels, lambda view: f"it has no label {need!r:.60}", hint
    )


def data_filters(ask: StepAsk, source: int, window: Window, outlook: Outlook) -> list[Filter]:
    """The data source is within its SLOs at all times of the window; ``source`` is its row."""
    ways = np.maximum.reduce([outlook.ways_ms(source, time) for time in window.times_s])
    limit = ask.data_latency_ms_max
    filters = [
        Filter(
            "data-latency",
            np.isfinite(ways) & (ways <= limit),
            lambda row: _way_detail(ways[row], limit, f"{ask.data_source} while the step runs"),
            "loosen data_latency_ms_max, or wait for a contact",
        )
    ]
    if ask.data_mbit_s_min > 0.0:
        rates = np.minimum.reduce([outlook.mbit_s(source, time) for time in window.times_s])
        filters.append(
            Filter(
                "data-bandwidth",
                rates >= ask.data_mbit_s_min,
                lambda row: (
                    f"{rates[row]:.1f} Mbit/s from {ask.data_source}, at least {ask.data_mbit_s_min:g}"
                ),
                "loosen data_mbit_s_min",
            )
        )
    return filters


def edge_filters(
    ask: StepAsk, anchors: Sequence[int], window: Window, outlook: Outlook, ids: Sequence[str]
) -> list[Filter]:
    """Every edge into the step is within its SLOs when it starts; ``anchors`` are the rows of the steps before."""
    at = window.start_s
    ways = np.array([outlook.ways_ms(row, at) for row in anchors])
    rates = np.array([outlook.mbit_s(row, at) for row in anchors]) if ask.mbit_s_min > 0.0 else None
    longest = ways.max(axis=0)
    limit = ask.latency_ms_max

    def where(row: int) -> str:
        return ids[anchors[int(ways[:, row].argmax())]]

    filters = [
        Filter(
            "route",
            np.isfinite(longest),
            lambda row: f"no route from {where(row)} at that time",
            "wait for a contact",
        )
    ]
    if np.isfinite(limit):
        filters.append(
            Filter(
                "latency",
                longest <= limit,
                lambda row: _way_detail(longest[row], limit, where(row)),
                "loosen latency_ms_max, or wait for a better contact",
            )
        )
    if rates is not None:
        least = rates.min(axis=0)
        filters.append(
            Filter(
                "bandwidth",
                least >= ask.mbit_s_min,
                lambda row: f"{least[row]:.1f} Mbit/s, at least {ask.mbit_s_min:g}",
                "loosen mbit_s_min",
            )
        )
    return filters


def _way_detail(way_ms: float, limit_ms: float, where: str) -> str:
    return (
        f"{way_ms:.1f} ms from {where}, at most {limit_ms:g}"
        if np.isfinite(way_ms)
        else f"no route from {where}"
    )


def contact_filter(ask: StepAsk, target: int, window: Window, outlook: Outlook, alive: Flags) -> Filter:
    """There is a route to who waits when the step ends, and it lasts until the result is back.

    Only of ``alive`` nodes it is asked how long.
    """
    end = window.end_s
    back = outlook.ways_ms(target, end) + outlook.sending_ms(ask.bytes_out, target, end)
    passed = np.isfinite(back)
    until = np.full(len(back), np.inf)
    for row in np.flatnonzero(passed & alive).tolist():
        if row != target:
            until[row] = outlook.network.contact_until_s(row, target, end)
    needed = end + back / 1000.0 * outlook.speed
    passed &= until >= needed

    def detail(row: int) -> str:
        if not np.isfinite(back[row]):
            return f"no route to {ask.returns_to} when the step ends"
        return (
            f"the route to {ask.returns_to} ends {needed[row] - until[row]:.1f} s before the result is back"
        )

    return Filter(
        "contact", passed, detail, "wait for a contact, or let the result be held until there is one"
    )
