"""Elections over 10,000 nodes: milliseconds a decision, wall time.

The network is a +grid of 100 planes of 100 satellites, with latencies between 1 and 10 ms; a round elects for the same
random pairs with every contestant, and its value is the median call (a busy machine's pauses are no part of an
election); ``mean_ms`` and ``max_ms`` are beside it. The limit is what a value of 1 MB takes to the consumer and a
tenth, so that each pair has a feasible election.

- ours: elections, paths included, with the trees of the epoch searched before. ``tree_ms`` is one such search.
- databelt: the original's: at each request the graph is built from the list of edges, the shortest path to the sink is
  searched with a heap and walked back. In Python, as ours, but for the kernel that searches our trees.
- databelt-cached: its walk over our trees: what the rule alone costs.

``election-contacts-10000`` elects over contacts that come and go, those pairs that have a feasible election within the
deadline, nothing searched before. The original has nothing to compare: it knows no contacts.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgeagent.bench.harness import Bench, Case, CaseSkipped, Sample, Sampler

if TYPE_CHECKING:
    from edgeagent.state.contact_election import Need
    from edgeagent.state.contacts import Contacts, Host
    from edgeagent.state.election import Demand
    from edgeagent.state.ways import Ways

__all__ = ["election_cases", "original_election"]

SIDE = 100
NODES = SIDE * SIDE
PAIRS = 200  # a round of ours
SLOW_PAIRS = 5  # a round of what takes a hundred milliseconds each
SIZE_BYTES = 1_000_000
MBIT_S = 1000.0
Edge = tuple[str, str, float]


def _edges(seed: int) -> list[Edge]:
    """Each link once, (a, b, latency in ms), of a torus."""
    chance = random.Random(seed)
    names = [f"sat-{row}" for row in range(NODES)]
    return [
        (names[plane * SIDE + slot], names[other], chance.uniform(1.0, 10.0))
        for plane, slot in itertools.product(range(SIDE), repeat=2)
        for other in (((plane + 1) % SIDE) * SIDE + slot, plane * SIDE + (slot + 1) % SIDE)
    ]


def _ways(edges: Sequence[Edge]) -> Ways:
    from edgeagent.state.ways import Ways
    from edgeagent.topology.graph import Graph

    rows = {f"sat-{row}": row for row in range(NODES)}
    graph = Graph(
        NODES, [rows[a] for a, _, _ in edges], [rows[b] for _, b, _ in edges], [ms for _, _, ms in edges]
    )
    return Ways(tuple(rows), graph)


def original_election(
    edges: Sequence[Edge], origin: str, sink: str, size_bytes: int, rate: float, slo_ms: float
) -> str:
    """The original's election as it does it: everything anew at each request."""
    from edgeagent.state.databelt import databelt_walk

    graph: dict[str, list[tuple[str, float]]] = {}
    for a, b, ms in edges:
        graph.setdefault(a, []).append((b, ms))
        graph.setdefault(b, []).append((a, ms))
    distance, before = {origin: 0.0}, {origin: ""}
    heap = [(0.0, origin)]
    while heap:
        so_far, node = heapq.heappop(heap)
        if node == sink:
            break
        for other, ms in graph[node]:  # stale entries are scanned again
            if so_far + ms < distance.get(other, math.inf):
                distance[other], before[other] = so_far + ms, node
                heapq.heappush(heap, (so_far + ms, other))
    path, at = [], sink
    while at:
        path.append(at)
        at = before[at]
    path.reverse()
    return path[databelt_walk([distance[node] for node in path], size_bytes, rate, slo_ms)[0]]


def _demands(ways: Ways, seed: int) -> list[tuple[str, str, Demand]]:
    """Pairs, with the trees of their ends searched."""
    from edgeagent.state.election import Demand
    from edgeagent.state.units import Bytes, Ms, mbit_s, sending_ms

    chance, rate, size = random.Random(seed), mbit_s(MBIT_S), Bytes(SIZE_BYTES)
    origins = chance.sample(range(NODES), 16)  # a node's own elections share its tree
    made = []
    for number in range(PAIRS):
        a, b = origins[number % len(origins)], chance.randrange(NODES)
        latency = float(ways.tree(a).distance[b])
        limit = Ms((latency + sending_ms(size, rate)) * 1.1)
        made.append((ways.ids[a], ways.ids[b], Demand(size_bytes=size, slo_ms=limit, rate=rate)))
    return made


def _each(count: int, work: Callable[[int], object]) -> Sample:
    """Milliseconds of the median of ``count`` calls."""
    taken = []
    for number in range(count):
        begun = time.perf_counter_ns()
        work(number)
        taken.append((time.perf_counter_ns() - begun) / 1e6)
    return statistics.median(taken), {"mean_ms": sum(taken) / count, "max_ms": max(taken)}


@contextmanager
def _static(bench: Bench) -> Iterator[dict[str, Sampler]]:
    from edgeagent.state.databelt import databelt_choice
    from edgeagent.state.election import elect

    edges = _edges(bench.options.seed)
    ways = _ways(edges)
    demands = _demands(ways, bench.options.seed)
    if not all(elect(ways, *one).feasible for one in demands):
        raise CaseSkipped("a pair has no feasible election")
    graph, searched = ways.graph, itertools.count()

    def original(number: int) -> str:
        origin, sink, demand = demands[number]
        return original_election(edges, origin, sink, SIZE_BYTES, demand.rate, demand.slo_ms)

    def cached(number: int) -> str:
        origin, sink, demand = demands[number]
        return ways.ids[databelt_choice(ways, ways.row(origin), ways.row(sink), demand)[0]]

    if any(original(one) != cached(one) for one in range(SLOW_PAIRS)):
        raise CaseSkipped("the baseline elects other nodes than its rule")

    def ours() -> Sample:
        begun = time.perf_counter_ns()
        graph.tree(next(searched) % NODES)
        tree_ms = (time.perf_counter_ns() - begun) / 1e6
        value, more = _each(PAIRS, lambda one: elect(ways, *demands[one]))
        return value, {**more, "tree_ms": tree_ms}

    yield {
        "ours": ours,
        "databelt": lambda: _each(SLOW_PAIRS, original),
        "databelt-cached": lambda: _each(PAIRS, cached),
    }


def _sky(seed: int) -> tuple[Contacts, dict[str, Host]]:
    """Contacts of the grid over 20 minutes: a third of the links holds all the time, the others come and go."""
    from edgeagent.state.contacts import Contact, Contacts, Host
    from edgeagent.state.units import Bytes, Ms, UtcS, mbit_s

    chance, rate = random.Random(seed), mbit_s(MBIT_S)
    contacts = []
    for a, b, ms in _edges(seed):
        spans = (
            [(0.0, 1200.0)]
            if chance.random() < 1 / 3
            else [(begin, begin + 240.0) for begin in _begins(chance)]
        )
        for start_s, end_s in spans:
            contacts += [
                Contact(
                    sender=sender,
                    receiver=receiver,
                    start_s=UtcS(start_s),
                    end_s=UtcS(end_s),
                    rate=rate,
                    latency=Ms(ms),
                )
                for sender, receiver in ((a, b), (b, a))
            ]
    host = Host(room_bytes=Bytes(1 << 30))
    return Contacts(contacts), {f"sat-{row}": host for row in range(NODES)}


def _begins(chance: random.Random) -> list[float]:
    first = chance.uniform(-240.0, 360.0)
    return [first, first + 600.0]


def _needs(seed: int) -> list[Need]:
    """A value for a node two to six hops away, needed within 60 ms of now."""
    from edgeagent.state.contact_election import Need
    from edgeagent.state.units import Bytes, UtcS

    chance = random.Random(seed)
    made = []
    for _ in range(PAIRS):
        plane, slot = chance.randrange(SIDE), chance.randrange(SIDE)
        away = ((plane + chance.randint(1, 3)) % SIDE) * SIDE + (slot + chance.randint(1, 3)) % SIDE
        now = chance.uniform(0.0, 900.0)
        made.append(
            Need(
                size_bytes=Bytes(SIZE_BYTES // 10),
                holders={f"sat-{plane * SIDE + slot}": UtcS(now)},
                consumers=(f"sat-{away}",),
                now_s=UtcS(now),
                use_s=UtcS(now),
                deadline_s=UtcS(now + 0.06),
            )
        )
    return made


@contextmanager
def _over_contacts(bench: Bench) -> Iterator[dict[str, Sampler]]:
    from edgeagent.state.contact_election import elect_over

    contacts, hosts = _sky(bench.options.seed)
    needs = _needs(bench.options.seed)
    elected = [elect_over(contacts, hosts, need) for need in needs]
    needs = [need for need, one in zip(needs, elected, strict=True) if one.feasible]
    if len(needs) < PAIRS // 10:
        raise CaseSkipped(f"only {len(needs)} of {PAIRS} elections are feasible")

    def ours() -> Sample:
        value, more = _each(len(needs), lambda one: elect_over(contacts, hosts, needs[one]))
        return value, {**more, "feasible": len(needs)}

    yield {"ours": ours}


def election_cases() -> list[Case]:
    """Baselines are what the original does at each request, and its rule alone."""
    params = {"nodes": NODES, "links": 2 * NODES, "mbit_s": MBIT_S}
    return [
        Case(
            name=f"election-{NODES}",
            unit="ms",
            better="lower",
            open=_static,
            params={**params, "size_bytes": SIZE_BYTES},
            memory_bytes=200 << 20,
        ),
        Case(
            name=f"election-contacts-{NODES}",
            unit="ms",
            better="lower",
            open=_over_contacts,
            params={**params, "size_bytes": SIZE_BYTES // 10, "within_ms": 60},
            memory_bytes=300 << 20,
        ),
    ]
