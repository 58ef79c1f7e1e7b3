"""``same-process-SIZE`` and ``publish-SIZE``: the hand-over alone, in us.

From the producer's return to the consumer's entry, everything between included: bookkeeping, a new instance, the
guest's allocator, the remaps. It flatters (see the cycle cases): a page that is mapped late is paid for at first touch.
``publish``: the output becomes a sealed memfd that an untrusted process may have, from a lent buffer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgeagent.bench.harness import Bench, Case, Sample, Sampler
from edgeagent.bench.hose_cycle import SIZES, tiers_of
from edgeagent.bench.hose_guests import request
from edgeagent.bench.hose_http import JSON_BYTES_MAX, opened_hop
from edgeagent.bench.hose_rig import MIB, Side, checked, good, kept, opened_rig, size_name
from edgeagent.runtime.port import Outcome

__all__ = ["handover_cases", "publish_cases"]


def _between(first: Outcome, second: Outcome) -> Sample:
    entered: Any = second
    returned: Any = first
    tier, copied, mapped, remap_ns = second.hose
    more = {"remap_us": remap_ns / 1000, "tier": tier, "copied_bytes": copied, "mapped_bytes": mapped}
    return (entered.times_ns[0] - returned.times_ns[1]) / 1000, more


def _chain(side: Side, count: int, *, lent: bool, plain: bool = False) -> Sample:
    side.settle()
    first = good((side.plain_produce if plain else side.produce).call(request(count, lent=lent), keep=True))
    given = first.output if first.payload is None else first.payload
    second = checked((side.plain_consume if plain else side.consume).call(given), count)
    if first.payload is not None:
        first.payload.close()
    return _between(first, second)


def _two_copies(side: Side, count: int) -> Sample:
    first = good(side.plain_produce.call(request(count, lent=False)))
    return _between(first, checked(side.plain_consume.call(first.output), count))


def _handover(count: int) -> Any:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        rig = bench.share("hose-rig", opened_rig)
        hop = bench.share("hose-http", lambda: opened_hop(rig))
        samplers: dict[str, Sampler] = {
            "ours": lambda: _chain(rig.ours, count, lent=True),
            "flip": lambda: _chain(rig.ours, count, lent=False),
            "one-copy": lambda: _chain(rig.copies, count, lent=False, plain=True),
            "two-copies": lambda: _two_copies(rig.copies, count),
            "http-raw": lambda: hop.raw_handover(count),
        }
        if count <= JSON_BYTES_MAX:
            samplers["http-json"] = lambda: hop.json_handover(count)
        yield samplers

    return opened


def handover_cases() -> list[Case]:
    return [
        Case(
            name=f"same-process-{size_name(count)}",
            unit="us",
            better="lower",
            open=_handover(count),
            params={"bytes": count},
            rounds=21 if count <= 64 * MIB else 5,
            memory_bytes=6 * count + 64 * MIB,
            group="hose",
            fields=tiers_of,
        )
        for count in SIZES
    ]


def _export(side: Side, count: int) -> Sample:
    side.settle()
    payload: Any = kept(side.produce, count)
    begun = time.perf_counter_ns()
    fd, _, _ = payload.export()
    spent_us = (time.perf_counter_ns() - begun) / 1000
    os.close(fd)
    payload.close()
    return spent_us, {}


def _publish(count: int) -> Any:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        rig = bench.share("hose-rig", opened_rig)
        yield {"ours": lambda: _export(rig.ours, count)}

    return opened


def publish_cases() -> list[Case]:
    """From 1 MiB: smaller outputs do not lie in a hose of their own."""
    return [
        Case(
            name=f"publish-{size_name(count)}",
            unit="us",
            better="lower",
            open=_publish(count),
            params={"bytes": count},
            rounds=11 if count <= 64 * MIB else 5,
            memory_bytes=4 * count + 64 * MIB,
            group="hose",
        )
        for count in SIZES
        if count >= MIB
    ]
