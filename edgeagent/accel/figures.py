"""The figures of a replay: after the learning phase, of that phase, and of all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from edgeagent.accel.replay import Play, ReplayOptions, Served

__all__ = ["LEARNING", "Figures", "Part", "figures", "learning_of"]

LEARNING = 30  # requests that are counted apart


class Part(msgspec.Struct, kw_only=True):
    """Of a stretch of requests. ``violations`` and ``switches`` are counts; ``gpu_seconds`` include probes.

    ``mean_ms`` and the percentiles are of the answers; None where nothing was answered.
    """

    requests: int
    mean_ms: float | None
    slo_violations: int
    failures: int
    switches: int
    probes: int
    gpu_seconds: float
    gpu_share_pct: float
    cost_usd: float


class Figures(Part, kw_only=True):
    """After the learning phase; ``regret_pct`` is by how much the mean is above the oracle's there.

    The oracle's GPU is always there; ``regret_ready_pct`` is against one whose GPU has to start first, as all others'.
    """

    p50_ms: float | None
    p95_ms: float | None
    regret_pct: float
    regret_ready_pct: float
    oracle_mean_ms: float | None
    learning: Part
    whole: Part


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)] if ordered else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _counted_ms(served: Sequence[Served], lost_ms: float) -> float:
    """The sum of all, what was not answered too."""
    return sum(one.ms if one.ms >= 0.0 else lost_ms for one in served)


def learning_of(count: int) -> int:
    """How many of so many requests are counted apart; none where all would be."""
    return LEARNING if count > LEARNING else 0


def _part(served: Sequence[Served], switches: int, options: ReplayOptions) -> Part:
    answered = [one.ms for one in served if one.ms >= 0.0]
    gpu_s, cpu_s = sum(one.gpu_s for one in served), sum(one.cpu_s for one in served)
    busy_s = sum(answered) / 1000.0
    late = sum(one > options.slo_ms for one in answered) if options.slo_ms else 0
    return Part(
        requests=len(served),
        mean_ms=_mean(answered),
        slo_violations=late + len(served) - len(answered),
        failures=len(served) - len(answered),
        switches=switches,
        probes=sum(one.probed for one in served),
        gpu_seconds=gpu_s,
        gpu_share_pct=100.0 * gpu_s / busy_s if busy_s else 0.0,
        cost_usd=cpu_s * options.cpu_usd_s + gpu_s * options.gpu_usd_s,
    )


def _regret_pct(served: Sequence[Served], best: Sequence[Served], lost_ms: float) -> float:
    mine, theirs = _counted_ms(served, lost_ms), _counted_ms(best, lost_ms)
    return 100.0 * (mine / theirs - 1.0) if theirs else 0.0


def figures(
    played: Play, oracle: Play, options: ReplayOptions, lost_ms: float, ready: Play | None = None
) -> Figures:
    """Of one contestant against the oracle's play; ``lost_ms`` is what an unanswered request counts as in the regret.

    ``ready`` is the play of the oracle whose GPU has to start first; None: it is there at once.

    Traces of 30 requests or fewer are learning altogether; the figures are of all of them then.
    """
    first = learning_of(len(played.served))
    tail, best = played.served[first:], oracle.served[first:]
    early = sum(number <= first for number, _ in played.changes)
    part = _part(tail, len(played.changes) - early, options)
    ordered = sorted(one.ms for one in tail if one.ms >= 0.0)
    return Figures(
        **msgspec.structs.asdict(part),
        p50_ms=_quantile(ordered, 0.5),
        p95_ms=_quantile(ordered, 0.95),
        regret_pct=_regret_pct(tail, best, lost_ms),
        regret_ready_pct=_regret_pct(tail, (ready or oracle).served[first:], lost_ms),
        oracle_mean_ms=_mean([one.ms for one in best if one.ms >= 0.0]),
        learning=_part(played.served[:first], early, options),
        whole=_part(played.served, len(played.changes), options),
    )
