"""``same-process-SIZE`` and ``publish-SIZE``: the hand-over alone, in us.

From the producer's return to the consumer's entry, everything between included: bookkeeping, the guest's allocator, the
remaps. The chain runs as a node runs it: on one thread, and with the consumer's instance made before the producer
starts, which the cycle cases contain. ``two-copies`` are two calls with a buffer of the host between them. It flatters
(see the cycle cases): a page that is mapped late is paid for at first touch. So the CPU time and the minor faults
beside it are those of the whole run, produce and consume included, and ``cycle_ratio`` is how the same pair compares
in the cycle cases of the run. ``http-json`` alone leaves the run around the hand-over out of its cost; what is between
its moments says hose_http.
``publish``: the output becomes a sealed memfd that an untrusted process may have, from a lent buffer; that is no hose
yet at 1 MiB, so that a new one and a copy into it are part of that case.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from edgeagent.bench.harness import Bench, Case, Rounds, Sample, Sampler
from edgeagent.bench.hose_cases import FROM_1MIB, Shape, sized_cases
from edgeagent.bench.hose_cost import Cost
from edgeagent.bench.hose_guests import request
from edgeagent.bench.hose_http import HttpHop, with_http
from edgeagent.bench.hose_rig import Side, checked, good, handed_over, kept, opened_rig, size_name
from edgeagent.runtime.port import Outcome

__all__ = ["handover_cases", "publish_cases"]


def _between(first: Outcome, second: Outcome, cost: Cost) -> Sample:
    _, more = cost.spent()
    entered: Any = second
    returned: Any = first
    more = {**more, "remap_us": second.hose[3] / 1000, **handed_over(second)}
    return (entered.times_ns[0] - returned.times_ns[1]) / 1000, more


def _chain(side: Side, count: int, *, lent: bool, plain: bool = False) -> Sample:
    side.settle()
    cost = Cost()
    outcome = side.chain(count, lent=lent, plain=plain)
    return _between(outcome.earlier[0], outcome, cost)


def _two_copies(side: Side, count: int) -> Sample:
    cost = Cost()
    first = good(side.plain_produce.call(request(count, lent=False)))
    return _between(first, checked(side.plain_consume.call(first.output), count), cost)


def _handover(bench: Bench, count: int, _: ExitStack) -> dict[str, Sampler]:
    rig = bench.share("hose-rig", opened_rig)

    def over_http(hop: HttpHop, name: str) -> Sampler:
        post = hop.json_handover if name == "http-json" else hop.raw_handover
        return lambda: post(count)

    local: dict[str, Sampler] = {
        "ours": lambda: _chain(rig.ours, count, lent=True),
        "flip": lambda: _chain(rig.ours, count, lent=False),
        "one-copy": lambda: _chain(rig.copies, count, lent=False, plain=True),
        "two-copies": lambda: _two_copies(rig.copies, count),
    }
    return with_http(bench, rig.copies, count, local, over_http)


def _cycle_ratios(count: int, _: Rounds, bench: Bench) -> dict[str, Any]:
    """Of the whole cycles of that size, as far as they were measured in this run."""
    cycles = {kind: bench.results.get(f"cycle-{kind}-{size_name(count)}") for kind in ("oneshot", "warm")}
    return {"cycle_ratio": {kind: cycle["ratio"] for kind, cycle in cycles.items() if cycle is not None}}


def handover_cases() -> list[Case]:
    return sized_cases("same-process-{}", _handover, Shape(unit="us", is_rate=True, fields=_cycle_ratios))


def _export(side: Side, count: int) -> Sample:
    side.settle()
    payload: Any = kept(side.produce, count)
    cost = Cost()
    fd, _, _ = payload.export()
    spent_ms, more = cost.spent()
    os.close(fd)
    payload.close()
    return spent_ms * 1000, more


def _publish(bench: Bench, count: int, _: ExitStack) -> dict[str, Sampler]:
    rig = bench.share("hose-rig", opened_rig)
    return {"ours": lambda: _export(rig.ours, count)}


def publish_cases() -> list[Case]:
    """From 1 MiB: smaller frames are for sockets."""
    return sized_cases("publish-{}", _publish, Shape(unit="us", sizes=FROM_1MIB, held=4))
