"""A small network by the script, and nodes for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeagent.placement.decision import CandidateExplanation, Decision
from edgeagent.placement.views import NodeView
from edgeagent.topology.graph import Graph

__all__ = ["Scripted", "explanation", "views"]

Floats = NDArray[np.float64]


@dataclass
class Scripted:
    """Links ``(a, b) -> ms`` by name, at any time ``links(at_s)``; the rest is constant unless given."""

    ids: tuple[str, ...]
    links: Callable[[float], Mapping[tuple[str, str], float]]
    rates: Mapping[tuple[str, str], float] = field(default_factory=dict)
    light: Callable[[int, float, float], float | None] = lambda row, begin, end: None
    until_s: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def graph(self, at_s: float) -> Graph:
        links = self.links(at_s)
        ends = np.array([[self.ids.index(a), self.ids.index(b)] for a, b in links], dtype=np.int32)
        ends = ends.reshape(-1, 2)
        return Graph(len(self.ids), ends[:, 0], ends[:, 1], list(links.values()))

    def mbit_s(self, source_row: int, at_s: float) -> Floats:
        return np.array(
            [
                self.rates.get(
                    (self.ids[source_row], name), self.rates.get((name, self.ids[source_row]), math.inf)
                )
                for name in self.ids
            ]
        )

    def sunlit_share(self, row: int, from_s: float, to_s: float) -> float | None:
        return self.light(row, from_s, to_s)

    def contact_until_s(self, a_row: int, b_row: int, at_s: float) -> float:
        return self.until_s.get((self.ids[a_row], self.ids[b_row]), math.inf)


def views(ids: tuple[str, ...], **by_name: Mapping[str, object]) -> list[NodeView]:
    """Plain nodes of four cores; ``by_name`` gives fields of some."""
    return [
        NodeView(id=name, **{"cores": 4, "memory_bytes": 2**30, **by_name.get(name, {})})  # type: ignore[arg-type]
        for name in ids
    ]


def explanation(decision: Decision, step: int = 0) -> dict[str, CandidateExplanation]:
    return {one.node: one for one in decision.explanations[step].candidates}
