"""What a function is to be: fast, or within its limit for the least money."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeagent.accel.evidence import Estimate, Evidence
from edgeagent.accel.settings import Backend, other_of

__all__ = ["SEEN_MIN", "Goal", "wanted"]

SEEN_MIN = 8
_BETTER_SHARE = 0.15  # so many fewer misses of the limit decide between backends of like latency
_LIKE = 0.05
_NOTHING = 0.05  # a gain of the GPU that is not worth it, by so many errors and from so many samples on
_NOTHING_ERRORS, _NOTHING_MIN = 0.7, 4


@dataclass(frozen=True, kw_only=True)
class Goal:
    """``slo_ms``: the limit of the latency, 0: none. ``cheapest``: within the limit, the cheaper backend is taken.

    ``cpu_usd_s`` and ``gpu_usd_s`` are prices of a second; ``usd_max`` is what a request may cost, 0: no limit.
    """

    slo_ms: float = 0.0
    cheapest: bool = False
    cpu_usd_s: float = 0.0
    gpu_usd_s: float = 0.0
    usd_max: float = 0.0

    @property
    def compares_cost(self) -> bool:
        """Whether money may decide between backends of which one is clearly faster."""
        return self.cheapest or self.usd_max > 0.0


def _misses(evidence: Evidence, backend: Backend, limit_ms: float) -> float | None:
    """The share of a backend's times over the limit; None where too few were seen."""
    window = evidence.windows[backend]
    return window.share_over(math.log(limit_ms)) if len(window) >= SEEN_MIN else None


def _request_usd(goal: Goal, evidence: Evidence, backend: Backend) -> float:
    price = goal.gpu_usd_s if backend == "gpu" else goal.cpu_usd_s
    return price * evidence.windows[backend].mean_ms() / 1000.0


def wanted(goal: Goal, evidence: Evidence, other: Backend, known: Estimate, *, gain_min: float) -> str:
    """Why a class should go to ``other``; empty: it should not."""
    gain = known.gain_of(other)
    serving = other_of(other)
    keeps_better = False
    other_usd = _request_usd(goal, evidence, other)
    if goal.usd_max and other_usd > goal.usd_max and other_usd > _request_usd(goal, evidence, serving):
        return ""
    if goal.usd_max and _request_usd(goal, evidence, serving) > goal.usd_max:
        return "cost"
    if goal.slo_ms:
        ours, theirs = (_misses(evidence, one, goal.slo_ms) for one in (serving, other))
        if goal.cheapest and ours is not None and ours <= 0.05:
            # Both keep the limit with room to spare: money decides.
            within = _misses(evidence, other, 0.8 * goal.slo_ms)
            cheaper = other_usd < 0.9 * _request_usd(goal, evidence, serving)
            return "cost" if within is not None and within <= 0.05 and cheaper else ""
        if ours is not None and theirs is not None and ours - theirs > _BETTER_SHARE and gain > -_LIKE:
            return "slo"
        keeps_better = ours is not None and theirs is not None and ours < theirs
    if gain > gain_min:
        return "faster"
    sure = other == "cpu" and not keeps_better and known.count >= _NOTHING_MIN
    nothing = sure and known.gain_of("gpu") + _NOTHING_ERRORS * known.error < _NOTHING
    return "the GPU brings nothing" if nothing else ""
