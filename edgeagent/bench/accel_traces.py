"""The synthetic traces of the benchmark ``accel``: six functions of the kinds that the original met or missed.

Times are log-normal around means that resemble published ones (``steady``: an LLM's 1,577 ms on CPU and 164 ms on GPU,
``useless-gpu``: a wait of 2 s on both); which numbers come out is a matter of the seed alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgeagent.accel.replay import ReplayOptions
from edgeagent.accel.traces import Traces

__all__ = ["TRACES", "Recorded"]

_COUNT = 500
Row = tuple[float, float, float]  # CPU ms, GPU ms, size


@dataclass(frozen=True)
class Recorded:
    """Traces and how they are replayed."""

    traces: Traces
    options: ReplayOptions


def _around(chance: random.Random, ms: float, spread: float = 0.12) -> float:
    return ms * math.exp(chance.gauss(-spread * spread / 2.0, spread))


def _recorded(rows: list[Row], options: ReplayOptions) -> Recorded:
    cpu, gpu, sizes = zip(*rows, strict=True)
    return Recorded(Traces(cpu, gpu, sizes), options)


def _steady(chance: random.Random) -> Recorded:
    rows = [(_around(chance, 1577.0), _around(chance, 164.0), 0.0) for _ in range(_COUNT)]
    return _recorded(rows, ReplayOptions(gpu_cold_s=10.0))


def _drifting_sizes(chance: random.Random) -> Recorded:
    """Matrices of growing order, with smaller ones in between: the crossover is near 2200."""
    rows: list[Row] = []
    for number in range(_COUNT):
        order = chance.uniform(0.3, 1.0) * (500.0 + 11_500.0 * number / _COUNT)
        cpu, gpu = 20.0 + 2.2e-8 * order**3, 140.0 + 9e-6 * order**2
        rows.append((_around(chance, cpu, 0.08), _around(chance, gpu, 0.08), math.floor(8.0 * order * order)))
    return _recorded(rows, ReplayOptions(gpu_cold_s=5.0))


def _rare_requests(chance: random.Random) -> Recorded:
    rows = [(_around(chance, 1600.0), _around(chance, 170.0), 0.0) for _ in range(200)]
    return _recorded(rows, ReplayOptions(think_s=13.4, gpu_cold_s=10.0))


def _slow_gpu_start(chance: random.Random) -> Recorded:
    rows = [(_around(chance, 4000.0), _around(chance, 250.0), 0.0) for _ in range(_COUNT)]
    return _recorded(rows, ReplayOptions(think_s=2.0, gpu_cold_s=180.0))


def _gpu_dies(chance: random.Random) -> Recorded:
    rows = [
        (_around(chance, 900.0), _around(chance, 120.0) if number < 250 else -1.0, 0.0)
        for number in range(_COUNT)
    ]
    return _recorded(rows, ReplayOptions(gpu_cold_s=5.0))


def _useless_gpu(chance: random.Random) -> Recorded:
    rows = [(_around(chance, 2080.0, 0.015), _around(chance, 2080.0, 0.015), 0.0) for _ in range(_COUNT)]
    return _recorded(rows, ReplayOptions(gpu_cold_s=5.0))


TRACES: Mapping[str, Callable[[random.Random], Recorded]] = MappingProxyType(
    {
        "steady": _steady,
        "drifting-sizes": _drifting_sizes,
        "rare-requests": _rare_requests,
        "slow-gpu-start": _slow_gpu_start,
        "gpu-dies": _gpu_dies,
        "useless-gpu": _useless_gpu,
    }
)
