"""``bench hose --calibrate``: where, on this node, one way of handing bytes over becomes better than another.

For every size the whole cycle (produce, hand over, consume every byte) is timed both ways, interleaved. A tier begins
at the first size from which it is never slower than the other way by more than the noise (5 %), up to the largest size
that is tried; what never pays is switched off. The thresholds go to ``hose.json`` in the state directory.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec

from edgeagent.bench.harness import Progress
from edgeagent.bench.hose_rig import COPY_ONLY, KIB, MIB, Side, checked, made, opened_rig, size_name
from edgeagent.hose.settings import Crossovers, HoseSettings, save_crossovers
from edgeagent.runtime.native_engine import NativeEngine

__all__ = ["Crossing", "calibrate", "crossover", "last_paying"]

_SIZES = tuple(16 * KIB << i for i in range(11))  # 16 KiB .. 16 MiB
_ROUNDS = 15
_NOISE = 1.05
_NEVER = 1 << 62
_ALWAYS = Crossovers(
    flip_bytes_min=16 * KIB,
    exchange_bytes_min=16 * KIB,
    resident_bytes_max=0,
    window_bytes_min=16 * KIB,
    share_bytes_min=16 * KIB,
    loan_bytes_min=16 * KIB,
    huge_bytes_min=4 * MIB,
)
_COPIES = msgspec.structs.replace(COPY_ONLY, resident_bytes_max=0)
# Both sides warm: exchanged by the one engine, and copied by the other; it is what loans must be better than.
_RESIDENT = msgspec.structs.replace(_ALWAYS, resident_bytes_max=16 * MIB, loan_bytes_min=_NEVER)
_RESIDENT_FROM = 256 * KIB  # smaller payloads get no slots of their own (native/hose/tier.hpp)
_CONSUMERS = 4  # for the crossover of sharing


class Crossing(msgspec.Struct, frozen=True):
    """One size: the median cycle in ms with the tier, and without it."""

    bytes: int
    with_ms: float
    without_ms: float


def crossover(points: list[Crossing]) -> int:
    """The first size from which the tier is never worse than the noise; out of reach when there is none."""
    first = _NEVER
    for point in sorted(points, key=lambda point: -point.bytes):
        if point.with_ms > point.without_ms * _NOISE:
            break
        first = point.bytes
    return first


def last_paying(points: list[Crossing]) -> int:
    """The largest size up to which the tier is never worse than the noise; 0 when there is none."""
    last = 0
    for point in sorted(points, key=lambda point: point.bytes):
        if point.bytes < _RESIDENT_FROM:
            continue  # both ways are one
        if point.with_ms > point.without_ms * _NOISE:
            break
        last = point.bytes
    return last


def _take_up(side: Side, crossovers: Crossovers) -> None:
    assert isinstance(side.engine, NativeEngine)
    side.engine.use_hoses(HoseSettings(crossovers=crossovers))


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def _measure(tier: Side, other: Side, work: Callable[[Side, int], object]) -> Iterator[Crossing]:
    for count in _SIZES:
        spent: tuple[list[float], list[float]] = ([], [])
        for turn in range(_ROUNDS + 2):
            for i in (0, 1) if turn % 2 else (1, 0):
                side = (tier, other)[i]
                side.settle()
                value = _timed(partial(work, side, count))
                if turn >= 2:
                    spent[i].append(value)
        yield Crossing(count, statistics.median(spent[0]), statistics.median(spent[1]))


def _flip(side: Side, count: int) -> None:
    side.chain(count, lent=False)


def _loan(side: Side, count: int) -> None:
    side.chain(count, lent=True)


def _window(side: Side, count: int) -> None:
    """Several readers of bytes that lie in a hose already: what the hose cost is not part of it."""
    payload = made(side.produce, count, lent=True)
    if isinstance(payload, bytes | memoryview):
        checked(side.consume.call(payload), count)
        return
    for _ in range(_CONSUMERS):
        checked(side.consume.call(payload, move=False), count)
    payload.close()


def _share(side: Side, count: int) -> None:
    payload = made(side.produce, count, lent=False)
    if not isinstance(payload, bytes | memoryview):
        payload.share()
    for _ in range(_CONSUMERS):
        checked(side.consume.call(payload, move=False), count)
    if not isinstance(payload, bytes | memoryview):
        payload.close()


def calibrate(state_dir: Path, progress: Progress) -> tuple[Path, Crossovers, dict[str, list[Crossing]]]:
    """Measure and write; returns the file, what is in it, and the measurements by tier.

    Raises CaseSkipped without the native engine, OSError when the file cannot be written.
    """
    measured: dict[str, list[Crossing]] = {}

    def measure(name: str, tier: Side, other: Side, work: Callable[[Side, int], object]) -> None:
        measured[name] = []
        for point in _measure(tier, other, work):
            progress.step(f"{name}: {size_name(point.bytes)}")
            measured[name].append(point)

    with opened_rig(crossovers=_ALWAYS, copies=_COPIES) as rig:
        for name, work in (("flip", _flip), ("window", _window), ("share", _share)):
            measure(name, rig.ours, rig.copies, work)
            progress.say(f"{name}: from {_shown(crossover(measured[name]))}")
        with opened_rig(crossovers=_RESIDENT) as warm:
            measure("exchange", warm.ours, warm.copies, _flip)
            _take_up(
                warm.ours,
                msgspec.structs.replace(_RESIDENT, exchange_bytes_min=crossover(measured["exchange"])),
            )
            measure("resident", warm.ours, rig.ours, _flip)
            measure("loan", rig.ours, warm.ours, _loan)
        progress.say(f"exchange: from {_shown(crossover(measured['exchange']))}")
        progress.say(f"resident slots: up to {size_name(last_paying(measured['resident']))}")
        progress.say(f"loan: from {_shown(crossover(measured['loan']))}")
    found = Crossovers(
        flip_bytes_min=crossover(measured["flip"]),
        exchange_bytes_min=crossover(measured["exchange"]),
        resident_bytes_max=last_paying(measured["resident"]),
        window_bytes_min=crossover(measured["window"]),
        share_bytes_min=crossover(measured["share"]),
        loan_bytes_min=crossover(measured["loan"]),
    )
    return save_crossovers(state_dir, found), found, measured


def _shown(count: int) -> str:
    return "no size" if count >= _NEVER else size_name(count)
