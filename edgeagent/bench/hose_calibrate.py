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
from edgeagent.bench.hose_rig import KIB, MIB, Side, checked, made, opened_rig, size_name
from edgeagent.hose.settings import Crossovers, save_crossovers

__all__ = ["Crossing", "calibrate", "crossover"]

_SIZES = tuple(16 * KIB << i for i in range(11))  # 16 KiB .. 16 MiB
_ROUNDS = 15
_NOISE = 1.05
_NEVER = 1 << 62
_ALWAYS = Crossovers(
    flip_bytes_min=16 * KIB,
    window_bytes_min=16 * KIB,
    share_bytes_min=16 * KIB,
    loan_bytes_min=16 * KIB,
    huge_bytes_min=4 * MIB,
)
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
    with opened_rig(crossovers=_ALWAYS) as rig:
        for name, work in (("flip", _flip), ("loan", _loan), ("window", _window), ("share", _share)):
            points = []
            for point in _measure(rig.ours, rig.copies, work):
                progress.step(f"{name}: {size_name(point.bytes)}")
                points.append(point)
            measured[name] = points
            progress.say(f"{name}: from {_shown(crossover(points))}")
    found = Crossovers(
        flip_bytes_min=crossover(measured["flip"]),
        window_bytes_min=crossover(measured["window"]),
        share_bytes_min=crossover(measured["share"]),
        loan_bytes_min=crossover(measured["loan"]),
    )
    return save_crossovers(state_dir, found), found, measured


def _shown(count: int) -> str:
    return "no size" if count >= _NEVER else size_name(count)
