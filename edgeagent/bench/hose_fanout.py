"""``fanoutN-SIZE`` (CPU ms) and ``fanoutN-SIZE-pss`` (MiB): one output, N consumers that read every byte.

CPU time is that of all threads, producing and reading included: ``floor`` is one guest that produces and then reads N
times, nothing is handed over. ``handover_cpu_ms`` is what each way takes above it.

For the memory all N consumers exist at once, with what they read still mapped; PSS is that of the whole process
(smaps_rollup) at that moment, less what it was before.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from edgeagent.bench.harness import Bench, Case, Rounds, Sample, Sampler
from edgeagent.bench.hose_cases import FROM_1MIB, Shape, sized_cases
from edgeagent.bench.hose_cost import Cost
from edgeagent.bench.hose_guests import request
from edgeagent.bench.hose_rig import KIB, MIB, Rig, Side, checked, good, kept, made, opened_rig
from edgeagent.bench.stats import significant
from edgeagent.runtime.port import Payload

__all__ = ["fanout_cases"]

_CONSUMERS = (1, 4, 16, 64)


def _pss_mib() -> float:
    text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * KIB / MIB


def _hosed(side: Side, consumers: int, count: int) -> None:
    given = made(side.produce, count, lent=True)
    if not isinstance(given, bytes | memoryview):
        given.share()
    for _ in range(consumers):
        checked(side.consume.call(given, move=False), count)
    if not isinstance(given, bytes | memoryview):
        given.close()


def _copied(side: Side, consumers: int, count: int) -> None:
    output = good(side.plain_produce.call(request(count, lent=False))).output
    for _ in range(consumers):
        checked(side.plain_consume.call(output), count)


def _alone(side: Side, consumers: int, count: int) -> None:
    side.alone(count, reads=consumers)


def _cpu(side: Side, work: Callable[[Side, int, int], None], consumers: int, count: int) -> Sample:
    side.settle()
    cost = Cost()
    work(side, consumers, count)
    side.settle()  # clearing the hose is part of the price
    wall_ms, more = cost.spent()
    return more.pop("cpu_ms"), {"wall_ms": wall_ms, **more}


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


def _cpu_of(bench: Bench, count: int, _: ExitStack, *, consumers: int) -> dict[str, Sampler]:
    rig = bench.share("hose-rig", opened_rig)
    return {
        "ours": lambda: _cpu(rig.ours, _hosed, consumers, count),
        "two-copies": lambda: _cpu(rig.copies, _copied, consumers, count),
        "floor": lambda: _cpu(rig.ours, _alone, consumers, count),
    }


def _above_floor(_count: int, rounds: Rounds, _bench: Bench) -> dict[str, Any]:
    """Medians of the differences round by round; near nothing they may be negative."""
    floor = [value for value, _ in rounds.get("floor", ())]
    if not floor:
        return {}
    return {
        "handover_cpu_ms": {
            name: significant(
                median(value - below for (value, _), below in zip(taken, floor, strict=True)), 4
            )
            for name, taken in rounds.items()
            if name != "floor"
        }
    }


def _pss_of(bench: Bench, count: int, _: ExitStack, *, consumers: int) -> dict[str, Sampler]:
    rig = bench.share("hose-rig", opened_rig)
    return {
        "ours": lambda: _pss_hosed(rig, consumers, count),
        "two-copies": lambda: _pss_copied(rig, consumers, count),
    }


def _is_long(count: int, *, consumers: int) -> bool:
    return count > 64 * MIB or count * consumers > 1024 * MIB


def fanout_cases() -> list[Case]:
    """Memory from 1 MiB: below, instances weigh more than what they read."""
    cases = []
    for n in _CONSUMERS:
        shape = Shape(
            unit="CPU ms",
            params={"consumers": n},
            times=n,
            fields=_above_floor,
            only_full=partial(_is_long, consumers=n),
        )
        cases += sized_cases(f"fanout{n}-{{}}", partial(_cpu_of, consumers=n), shape)
    for n in _CONSUMERS:
        shape = Shape(
            unit="MiB",
            params={"consumers": n},
            sizes=FROM_1MIB,
            times=n,
            held=n + 4,
            only_full=partial(_is_long, consumers=n),
        )
        cases += sized_cases(f"fanout{n}-{{}}-pss", partial(_pss_of, consumers=n), shape)
    return cases
