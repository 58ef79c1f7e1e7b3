"""Which node a value is sent to, so that the next step has it in time: over the network as it is now.

The rule, for a value of S bytes at node A that a step at node B needs within ``slo_ms``, at R bit/s along a way:

    sending   8 S / R                                 (in ms; 0 for 0 bytes)
    transfer  latency(A, N) + sending                 until N has it all; 0 where N is A
    fetch     latency(B, N) + latency(N, B) + sending until B, which asks N, has it all; 0 where N is B
    ready     transfer + fetch

Of the nodes that may hold it, the one with the least ``ready`` is elected; of equal ones the one with fewer hops from
A, then the first. It is *feasible* exactly when ready <= slo_ms. That is B itself wherever B is reachable and may hold
the value: sending it to another node first never makes it ready earlier. Where B may not (no room, no power, too hot,
about to set), it is a node on the way to it or beside it, or A.

Where nothing is ready in time, the least late node is elected, with ``feasible`` false. Where no way leads to B the
value stays at A, with ``feasible`` false.

:mod:`edgeagent.state.contact_election` is the same over contacts that come and go. Pure.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeagent.state.errors import ElectionRefused
from edgeagent.state.units import BitPerS, Bytes, Ms, checked_rate, checked_size, sending_ms
from edgeagent.state.ways import Ways

__all__ = ["Demand", "Election", "assess", "elect"]

Flags = NDArray[np.bool_]
_TIES_MAX = 16  # equally good nodes whose hops are counted


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be moved, at which rate, and within which time. Raises ElectionRefused for values that cannot be."""

    size_bytes: Bytes
    slo_ms: Ms
    rate: BitPerS

    def __post_init__(self) -> None:
        checked_size(self.size_bytes)
        if not 0.0 <= self.slo_ms < math.inf:
            raise ElectionRefused(f"a limit of {self.slo_ms} ms", hint="give 0 or more")
        checked_rate(self.rate)

    @property
    def sending_ms(self) -> Ms:
        return sending_ms(self.size_bytes, self.rate)


class Election(msgspec.Struct, frozen=True, kw_only=True):
    """``path`` leads from A to the elected node, ``latency_ms`` is its latency; see the module. Times are infinite
    where no way leads. ``why``: in-time, late, or no-route.
    """

    node: str
    path: tuple[str, ...]
    latency_ms: Ms
    transfer_ms: Ms
    fetch_ms: Ms
    feasible: bool
    why: str

    @property
    def ready_ms(self) -> Ms:
        return Ms(self.transfer_ms + self.fetch_ms)


def elect(ways: Ways, origin: str, consumer: str, demand: Demand, hosts: Flags | None = None) -> Election:
    """The election of the module's rule. ``hosts`` ``(nodes,)`` are the nodes that may hold the value, None: all; A
    holds it anyhow. Raises NodeAbsent.
    """
    a, b = ways.row(origin), ways.row(consumer)
    if a == b or hosts is None or hosts[b]:
        node = b if np.isfinite(ways.tree(a).distance[b]) else a
        return assess(ways, a, node, b, demand)
    return assess(ways, a, _beside(ways, a, b, demand, hosts), b, demand)


def _beside(ways: Ways, a: int, b: int, demand: Demand, hosts: Flags) -> int:
    """The best node where B may not hold the value; B's own ways serve all who send to it in this epoch."""
    there = ways.tree(a)
    sending = demand.sending_ms
    ready = there.distance + (sending + ways.tree(b).distance + ways.tree_back(b).distance + sending)
    ready[a] -= sending
    ready[~hosts] = np.inf
    ready[a] = ways.tree(b).distance[a] + ways.tree_back(b).distance[a] + sending
    best = float(ready.min())
    if not math.isfinite(best):
        return a
    ties: list[int] = np.flatnonzero(ready == best)[:_TIES_MAX].tolist()
    return ties[0] if len(ties) == 1 else min(ties, key=lambda row: (len(there.path_to(row)), row))


def assess(ways: Ways, a: int, node: int, b: int, demand: Demand) -> Election:
    """What it means to send the value from row ``a`` to row ``node``, whoever chose it."""
    there = ways.tree(a)
    latency = float(there.distance[node])
    transfer = 0.0 if node == a else latency + demand.sending_ms
    fetch = 0.0
    if node != b:
        fetch = float(ways.tree(b).distance[node] + ways.tree_back(b).distance[node]) + demand.sending_ms
    ready = transfer + fetch
    why = "no-route" if math.isinf(ready) else "in-time" if ready <= demand.slo_ms else "late"
    ids = ways.ids
    return Election(
        node=ids[node],
        path=tuple([ids[row] for row in there.path_to(node)]),
        latency_ms=Ms(latency),
        transfer_ms=Ms(transfer),
        fetch_ms=Ms(fetch),
        feasible=why == "in-time",
        why=why,
    )
