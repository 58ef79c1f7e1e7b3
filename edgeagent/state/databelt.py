"""Baselines: Databelt's own election, a random node, and the cloud.

Source of the first: Databelt (arXiv 2508.15351) as published, code polaris-slo-cloud/databelt, policy "Skylark". Its
rule at the moment of a store: the shortest path by latency from the local node to the sink; from the sink backwards,
the first node with::

    2 L + size / (1000 B) <= max_latency

in whole numbers: L is the latency from the local node in ms, size is in bytes, B in Mbit/s. The local node where none
fits. Kept as they are: bytes are taken for bits, so that a transfer counts for an eighth of its time; fractions are cut
off; where no path leads to the sink the local node is elected as if all were well.

Not kept: names that are in no graph are typed errors here, and no panic. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from edgeagent.state.election import Demand, Election, assess
from edgeagent.state.ways import Ways

__all__ = [
    "POLICIES",
    "Believed",
    "Chance",
    "cloud",
    "databelt",
    "databelt_choice",
    "databelt_walk",
    "random_node",
]

POLICIES = ("databelt", "random-node", "cloud")


class Chance(Protocol):
    """What a ``random.Random`` can do."""

    def randrange(self, stop: int, /) -> int: ...


class Believed(msgspec.Struct, frozen=True, kw_only=True):
    """``election`` says what the choice is worth in true units; ``cost_ms`` what the rule made of it, None where no
    node fitted the rule (``fits`` false) and the value stays.
    """

    election: Election
    fits: bool
    cost_ms: int | None


def databelt_walk(
    latency_ms: Sequence[float], size_bytes: int, rate: float, slo_ms: float
) -> tuple[int, int | None]:
    """(position of the elected node, its cost by the rule or None where none fits). ``latency_ms`` are those of the
    nodes on the path, the local one first, counted from it; ``rate`` in bit/s, 1,000,000 B.
    """
    sending = size_bytes * 1000 // int(rate) if float(rate).is_integer() else int(size_bytes * 1000 / rate)
    for at in range(len(latency_ms) - 1, -1, -1):
        cost = 2 * int(latency_ms[at]) + sending
        if cost <= slo_ms:
            return at, cost
    return 0, None


def databelt_choice(ways: Ways, a: int, b: int, demand: Demand) -> tuple[int, int | None]:
    """(the row that the original elects for a value at row ``a`` and the sink ``b``, its cost by the rule)."""
    tree = ways.tree(a)
    path = tree.path_to(b)
    if not path:
        return a, None
    latencies: list[float] = tree.distance[path].tolist()
    at, cost_ms = databelt_walk(latencies, demand.size_bytes, demand.rate, demand.slo_ms)
    return path[at], cost_ms


def databelt(ways: Ways, origin: str, sink: str, demand: Demand) -> Believed:
    """The original's election. Raises NodeAbsent."""
    a, b = ways.row(origin), ways.row(sink)
    node, cost_ms = databelt_choice(ways, a, b, demand)
    return Believed(election=assess(ways, a, node, b, demand), fits=cost_ms is not None, cost_ms=cost_ms)


def random_node(ways: Ways, origin: str, consumer: str, demand: Demand, chance: Chance) -> Election:
    """Any node of the graph, each as likely. Raises NodeAbsent."""
    a, b = ways.row(origin), ways.row(consumer)
    return assess(ways, a, chance.randrange(len(ways.ids)), b, demand)


def cloud(ways: Ways, origin: str, consumer: str, demand: Demand, store: str) -> Election:
    """Always the node ``store``, the cloud's. Raises NodeAbsent."""
    return assess(ways, ways.row(origin), ways.row(store), ways.row(consumer), demand)
