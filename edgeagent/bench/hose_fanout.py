"""``fanoutN-SIZE`` (CPU ms) and ``fanoutN-SIZE-pss`` (MiB): one output, N consumers that read every byte.

CPU time is that of all threads, producing included. For the memory all N consumers exist at once, with what they read
still mapped; PSS is that of the whole process (smaps_rollup) at that moment, less what it was before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeagent.bench.harness import Bench, Case, Sample, Sampler
from edgeagent.bench.hose_guests import request
from edgeagent.bench.hose_rig import KIB, MIB, Rig, Side, checked, good, kept, opened_rig, size_name
from edgeagent.runtime.port import Payload

__all__ = ["fanout_cases"]

_SHAPES = ((1, 1 * MIB), (16, 1 * MIB), (64, 1 * MIB), (1, 64 * MIB), (4, 64 * MIB), (16, 64 * MIB))


def _pss_mib() -> float:
    text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * KIB / MIB


def _hosed(side: Side, consumers: int, count: int) -> None:
    payload = kept(side.produce, count)
    payload.share()
    for _ in range(consumers):
        checked(side.consume.call(payload, move=False), count)
    payload.close()


def _copied(side: Side, consumers: int, count: int) -> None:
    output = good(side.plain_produce.call(request(count, lent=False))).output
    for _ in range(consumers):
        checked(side.plain_consume.call(output), count)


def _cpu(side: Side, work: Callable[[Side, int, int], None], consumers: int, count: int) -> Sample:
    side.settle()
    cpu, wall = time.process_time(), time.perf_counter()
    work(side, consumers, count)
    side.settle()  # clearing the hose is part of the price
    return (time.process_time() - cpu) * 1000, {"wall_ms": (time.perf_counter() - wall) * 1000}


def _held(side: Side, consumers: int, given: Any, count: int) -> float:
    """PSS while ``consumers`` instances hold what they have read."""
    held: list[Payload] = []
    for _ in range(consumers):
        payload = good(side.hold.call(given, keep=True, move=False)).payload
        assert payload is not None
        assert payload.size == count
        held.append(payload)
    pss = _pss_mib()
    for payload in held:
        payload.close()
    return pss


def _emptied(rig: Rig) -> float:
    """PSS with nothing of either side left."""
    for side in (rig.ours, rig.copies):
        side.empty()
    return _pss_mib()


def _pss_hosed(rig: Rig, consumers: int, count: int) -> Sample:
    before, side = _emptied(rig), rig.ours
    payload = kept(side.produce, count)
    payload.share()
    pss = _held(side, consumers, payload, count)
    payload.close()
    return pss - before, {}


def _pss_copied(rig: Rig, consumers: int, count: int) -> Sample:
    before, side = _emptied(rig), rig.copies
    output = good(side.plain_produce.call(request(count, lent=False))).output
    return _held(side, consumers, output, count) - before, {}


def _opener(consumers: int, count: int, *, memory: bool) -> Any:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        rig = bench.share("hose-rig", opened_rig)
        if memory:
            yield {
                "ours": lambda: _pss_hosed(rig, consumers, count),
                "two-copies": lambda: _pss_copied(rig, consumers, count),
            }
            return
        yield {
            "ours": lambda: _cpu(rig.ours, _hosed, consumers, count),
            "two-copies": lambda: _cpu(rig.copies, _copied, consumers, count),
        }

    return opened


def fanout_cases() -> list[Case]:
    cases = []
    for memory in (False, True):
        for consumers, count in _SHAPES:
            cases.append(
                Case(
                    name=f"fanout{consumers}-{size_name(count)}{'-pss' if memory else ''}",
                    unit="MiB" if memory else "CPU ms",
                    better="lower",
                    open=_opener(consumers, count, memory=memory),
                    params={"consumers": consumers, "bytes": count},
                    rounds=7 if count >= 64 * MIB else 11,
                    memory_bytes=(consumers + 4) * count + 64 * MIB,
                    group="hose",
                )
            )
    return cases
