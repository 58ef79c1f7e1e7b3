"""``cycle-oneshot-SIZE`` and ``cycle-warm-SIZE``: produce, hand over, consume every byte, in ms.

This is what a chain costs in all, so it stands first: a page that is mapped late is paid for at its first touch, and a
producer that lost its pages pays on its next fill. Every run has new instances, as always; one-shot rounds begin with
every hose cleared and nothing else in flight, warm ones follow each other without a pause.

- ours: the guest fills a lent buffer (from 1 MiB up), or its own memory below that.
- ``without-loan``: the same through our tiers, for guests that know no loans but align; ``unaligned``: that do neither.
- ``one-copy``: one memcpy from guest to guest. ``two-copies``: through a buffer of the host, as Roadrunner's user mode.
- ``http-raw``, ``http-json``: a POST between the two (hose_http).
- ``floor``: one guest produces and reads, nothing is handed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from edgeagent.bench.harness import Bench, Case, Rounds, Sampler
from edgeagent.bench.hose_http import JSON_BYTES_MAX, HttpHop, opened_hop
from edgeagent.bench.hose_rig import KIB, MIB, Rig, Side, opened_rig, size_name, spent
from edgeagent.hose.settings import TIERS
from edgeagent.runtime.port import Outcome

__all__ = ["SIZES", "cycle_cases", "tiers_of"]

SIZES = (KIB, 64 * KIB, MIB, 16 * MIB, 64 * MIB, 256 * MIB, 512 * MIB)
_BATCH_BYTES = 32 * MIB  # a warm sample runs about so many bytes


def _works(rig: Rig, hop: HttpHop, count: int) -> dict[str, tuple[Side, Callable[[], Outcome]]]:
    ours, copies = rig.ours, rig.copies
    works: dict[str, tuple[Side, Callable[[], Outcome]]] = {
        "ours": (ours, lambda: ours.chain(count, lent=True)),
        "without-loan": (ours, lambda: ours.chain(count, lent=False)),
        "unaligned": (ours, lambda: ours.chain(count, lent=False, plain=True)),
        "one-copy": (copies, lambda: copies.chain(count, lent=False, plain=True)),
        "two-copies": (copies, lambda: copies.through_the_host(count)),
        "floor": (ours, lambda: ours.alone(count)),
        "http-raw": (copies, lambda: hop.raw(count)),
    }
    if count <= JSON_BYTES_MAX:
        works["http-json"] = (copies, lambda: hop.json(count))
    return works


def _opener(count: int, *, warm: bool) -> Any:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        rig = bench.share("hose-rig", opened_rig)
        hop = bench.share("hose-http", lambda: opened_hop(rig))
        times = max(1, min(64, _BATCH_BYTES // count)) if warm else 1

        def sampler(side: Side, work: Callable[[], Outcome]) -> Sampler:
            def sample() -> tuple[float, dict[str, float]]:
                side.settle()
                value, more = spent(work, times)
                return value, dict(more)

            return sample

        yield {name: sampler(side, work) for name, (side, work) in _works(rig, hop, count).items()}

    return opened


def tiers_of(rounds: Rounds, _bench: Bench) -> dict[str, Any]:
    """The field that names how the input came, by sampler."""
    told = {name: taken[-1][1] for name, taken in rounds.items() if "tier" in taken[-1][1]}
    return {"tiers": {name: TIERS[int(more["tier"])] for name, more in told.items()}}


def cycle_cases() -> list[Case]:
    """In the order of their size, one-shot before warm."""
    cases = []
    for warm in (False, True):
        for count in SIZES:
            cases.append(  # noqa: PERF401 - a generator of this depth is harder to read
                Case(
                    name=f"cycle-{'warm' if warm else 'oneshot'}-{size_name(count)}",
                    unit="ms",
                    better="lower",
                    open=_opener(count, warm=warm),
                    params={"bytes": count},
                    rounds=_rounds(count),
                    memory_bytes=6 * count + 64 * MIB,
                    group="hose",
                    fields=tiers_of,
                )
            )
    return cases


def _rounds(count: int) -> int:
    return 21 if count <= 16 * MIB else 11 if count <= 64 * MIB else 5
