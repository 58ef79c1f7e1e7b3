"""``cycle-oneshot-SIZE`` and ``cycle-warm-SIZE``: produce, hand over, consume every byte, in ms.

This is what a chain costs in all, so it stands first: a page that is mapped late is paid for at its first touch, and a
producer that lost its pages pays on its next fill. Every run has new instances, as always; one-shot rounds begin with
every hose cleared and nothing else in flight, warm ones follow each other without a pause.

- ours: the guest fills a buffer that it asked to be lent: a hose from 1.5 MiB up, its own memory below that.
- ``without-loan``: the same through our tiers, for guests that know no loans but align; ``unaligned``: that do neither.
- ``one-copy``: one memcpy from guest to guest. ``two-copies``: through a buffer of the host, as Roadrunner's user mode.
- ``http-json``, ``http-raw``: POSTed to another node (hose_http).
- ``floor``: one guest produces and reads, nothing is handed over.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from edgeagent.bench.harness import Bench, Case, Rounds, Sample, Sampler
from edgeagent.bench.hose_cases import TOO_LONG, Shape, is_thorough, sized_cases
from edgeagent.bench.hose_http import HttpHop, with_http
from edgeagent.bench.hose_rig import MIB, Rig, Side, opened_rig, size_name, spent
from edgeagent.runtime.port import Outcome

__all__ = ["cycle_cases"]

_BATCH_BYTES = 32 * MIB  # a warm sample runs about so many bytes
_OTHER_GUESTS = ("without-loan", "unaligned")
_OTHER_GUESTS_BYTES_MAX = 64 * MIB  # they are no baselines; beyond, they would take a third of a run


def _works(rig: Rig, count: int) -> dict[str, tuple[Side, Callable[[], Outcome]]]:
    ours, copies = rig.ours, rig.copies
    return {
        "ours": (ours, lambda: ours.chain(count, lent=True)),
        "without-loan": (ours, lambda: ours.chain(count, lent=False)),
        "unaligned": (ours, lambda: ours.chain(count, lent=False, plain=True)),
        "one-copy": (copies, lambda: copies.chain(count, lent=False, plain=True)),
        "two-copies": (copies, lambda: copies.through_the_host(count)),
        "floor": (ours, lambda: ours.alone(count)),
    }


def _sampler(side: Side, work: Callable[[], Outcome | None], times: int, *pids: int) -> Sampler:
    def sample() -> Sample:
        side.settle()
        if times > 1:
            work()  # who waited for the scrubber begins with cold caches, and the side that has none does not
        return spent(work, times, pids)

    return sample


def _contestants(bench: Bench, count: int, *, warm: bool) -> dict[str, Sampler]:
    rig = bench.share("hose-rig", opened_rig)
    times = max(1, min(64, _BATCH_BYTES // count)) if warm else 1

    def over_http(hop: HttpHop, name: str) -> Sampler:
        post = hop.json if name == "http-json" else hop.raw
        return _sampler(rig.copies, lambda: post(count), min(times, 4), hop.pid)

    local = {name: _sampler(side, work, times) for name, (side, work) in _works(rig, count).items()}
    if count > _OTHER_GUESTS_BYTES_MAX and not is_thorough(bench):
        for name in _OTHER_GUESTS:
            del local[name]
            bench.skip(f"{name} beyond {size_name(_OTHER_GUESTS_BYTES_MAX)}", TOO_LONG)
    return with_http(bench, rig.copies, count, local, over_http)


def _oneshot(bench: Bench, count: int, _: ExitStack) -> dict[str, Sampler]:
    return _contestants(bench, count, warm=False)


def _warm(bench: Bench, count: int, _: ExitStack) -> dict[str, Sampler]:
    return _contestants(bench, count, warm=True)


def _tiers(_count: int, rounds: Rounds, _bench: Bench) -> dict[str, Any]:
    return {"tiers": {name: taken[-1][1]["tier"] for name, taken in rounds.items() if "tier" in taken[-1][1]}}


def cycle_cases() -> list[Case]:
    """In the order of their size, one-shot before warm."""
    shape = Shape(unit="ms", is_rate=True, fields=_tiers)
    return [
        *sized_cases("cycle-oneshot-{}", _oneshot, shape),
        *sized_cases("cycle-warm-{}", _warm, shape),
    ]
