"""The benchmark ``accel``, promotion: from the first breach of the limit to the first answer of the GPU.

A function of an LLM's times (1,577 ms on CPU, 164 ms on GPU, a limit of 1 s) is called by one client, in virtual time;
the GPU needs 10 s to start. A round draws its times from a seed and plays them for ours and for the original's rules;
its value is the time from the end of the first request that took longer than the limit to the end of the first request
that the GPU answered within it. Two rates: without thinking, and one request every 15 s or so. The pure controller is
measured here, with no device and no process: what a real start takes is a parameter, ``gpu_cold_s``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager

from edgeagent.accel.replay import Chooser, Play, ReplayOptions, play
from edgeagent.accel.traces import Traces
from edgeagent.bench.accel_contest import our_chooser
from edgeagent.bench.accel_gaia import GaiaRules
from edgeagent.bench.harness import Bench, Case, Sample, Sampler

__all__ = ["promotion_cases", "promotion_s"]

_COUNT = 300
_SPREAD = 0.12
_CPU_MS, _GPU_MS, _SLO_MS = 1577.0, 164.0, 1000.0
_COLD_S = 10.0
_THINK_S = {"promotion": 0.0, "promotion-rare": 13.4}


def promotion_s(played: Play, slo_ms: float) -> float:
    """Seconds from the first answer over the limit to the GPU's first within it; to the end where there is none."""
    breached_s = math.inf
    for one in played.served:
        end_s = one.at_s + max(one.ms, 0.0) / 1000.0
        if one.backend == "gpu" and 0.0 <= one.ms <= slo_ms and breached_s < math.inf:
            return end_s - breached_s
        if one.ms > slo_ms:
            breached_s = min(breached_s, end_s)
    return played.ends_s - breached_s if breached_s < math.inf else 0.0


def _traces(chance: random.Random) -> Traces:
    def times(ms: float) -> tuple[float, ...]:
        return tuple(ms * math.exp(chance.gauss(-_SPREAD * _SPREAD / 2.0, _SPREAD)) for _ in range(_COUNT))

    return Traces(times(_CPU_MS), times(_GPU_MS), (0.0,) * _COUNT)


def _case(name: str) -> Case:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        seed = bench.options.seed

        def sampler(who: str) -> Sampler:
            numbers = iter(range(1_000_000))

            def sample() -> Sample:
                number = next(numbers)
                options = ReplayOptions(
                    slo_ms=_SLO_MS, think_s=_THINK_S[name], gpu_cold_s=_COLD_S, seed=seed + number
                )
                chooser: Chooser = our_chooser(options) if who == "ours" else GaiaRules(options)
                played = play(_traces(random.Random(f"{name}/{seed}/{number}")), chooser, options)
                return promotion_s(played, _SLO_MS), {
                    "promoted": any(one.backend == "gpu" for one in played.served)
                }

            return sample

        yield {who: sampler(who) for who in ("ours", "gaia-rules")}

    return Case(
        name=name,
        unit="s",
        better="lower",
        open=opened,
        params={
            "slo_ms": _SLO_MS,
            "gpu_cold_s": _COLD_S,
            "think_s": _THINK_S[name],
            "requests": _COUNT,
            "time": "virtual",
        },
        rounds=21,
        rounds_full=201,
        warm_up_rounds=0,
    )


def promotion_cases() -> list[Case]:
    """Busy and rare."""
    return [_case(name) for name in _THINK_S]
