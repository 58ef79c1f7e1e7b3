"""What a function is to be: fast, or within its limit for the least money or the fewest joules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from edgeagent.accel.evidence import Estimate, Evidence
from edgeagent.accel.settings import BACKENDS, Backend, other_of

__all__ = ["SEEN_MIN", "Energy", "Frugal", "Goal", "wanted"]

SEEN_MIN = 8
_BETTER_SHARE = 0.15  # so many fewer misses of the limit decide between backends of like latency
_LIKE = 0.05
_NOTHING = 0.05  # a gain of the GPU that is not worth it, by so many errors and from so many samples on
_NOTHING_ERRORS, _NOTHING_MIN = 0.7, 4
_CHEAPER = 0.9  # of what the serving backend takes: less than that is worth a change
_FAR = 30.0  # of a logarithm, where its exponential is as good as none or all
_J_PER_KWH = 3.6e6

Frugal = Literal["", "cost", "energy"]


class Energy(NamedTuple):
    """What a busy core and a busy GPU draw over idle, in watts, and what a kilowatt-hour of that costs now; ``cores``
    are those that a request keeps busy on the CPU.
    """

    core_w: float = 0.0
    gpu_w: float = 0.0
    usd_per_kwh: float = 0.0
    cores: float = 1.0


_NO_ENERGY = Energy()


@dataclass(frozen=True, kw_only=True)
class Goal:
    """``slo_ms``: the limit of the latency, 0: none. ``cheapest``: within the limit, the cheaper backend is taken.

    ``cpu_usd_s`` and ``gpu_usd_s`` are prices of a second of a core and of the GPU, to which that of its energy is
    added; ``usd_max`` is what a request may cost, 0: no limit. ``frugal``: where both are known, the backend of less
    cost, or of fewer joules, is taken, within the limit if there is one.
    """

    slo_ms: float = 0.0
    cheapest: bool = False
    cpu_usd_s: float = 0.0
    gpu_usd_s: float = 0.0
    usd_max: float = 0.0
    frugal: Frugal = ""
    energy: Energy = _NO_ENERGY

    @property
    def compares_cost(self) -> bool:
        """Whether money or energy may decide between backends of which one is clearly faster."""
        return self.cheapest or self.usd_max > 0.0 or bool(self.frugal)

    def watts(self, backend: Backend) -> float:
        """Over idle, while a request runs there."""
        return self.energy.gpu_w if backend == "gpu" else self.energy.cores * self.energy.core_w

    def usd_s(self, backend: Backend) -> float:
        """Of a second there, its energy included."""
        price = self.gpu_usd_s if backend == "gpu" else self.energy.cores * self.cpu_usd_s
        return price + self.watts(backend) * self.energy.usd_per_kwh / _J_PER_KWH


def _misses(evidence: Evidence, backend: Backend, limit_ms: float) -> float | None:
    """The share of a backend's times over the limit; None where too few were seen."""
    window = evidence.windows[backend]
    return window.share_over(math.log(limit_ms)) if len(window) >= SEEN_MIN else None


def _request_usd(goal: Goal, evidence: Evidence, backend: Backend) -> float:
    return goal.usd_s(backend) * evidence.windows[backend].mean_ms() / 1000.0


def _takes_less(goal: Goal, known: Estimate, other: Backend) -> bool:
    """Whether a request takes clearly less of what counts there: joules, or money."""
    per_s = goal.watts if goal.frugal == "energy" else goal.usd_s
    times = math.exp(min(max(-known.gain_of(other), -_FAR), _FAR))
    return per_s(other) * times < _CHEAPER * per_s(other_of(other))


def _is_seen(evidence: Evidence) -> bool:
    return all(len(evidence.windows[one]) >= SEEN_MIN for one in BACKENDS)


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
        if (goal.cheapest or goal.frugal) and ours is not None and ours <= 0.05:
            # Both keep the limit with room to spare: money or energy decides.
            within = _misses(evidence, other, 0.8 * goal.slo_ms)
            keeps = within is not None and within <= 0.05
            return (goal.frugal or "cost") if keeps and _takes_less(goal, known, other) else ""
        if ours is not None and theirs is not None and ours - theirs > _BETTER_SHARE and gain > -_LIKE:
            return "slo"
        keeps_better = ours is not None and theirs is not None and ours < theirs
    elif goal.frugal:
        takes_less = _takes_less(goal, known, other)
        if not takes_less or _is_seen(evidence):
            return goal.frugal if takes_less else ""
    if gain > gain_min:
        return "faster"
    sure = other == "cpu" and not keeps_better and known.count >= _NOTHING_MIN
    nothing = sure and known.gain_of("gpu") + _NOTHING_ERRORS * known.error < _NOTHING
    return "the GPU brings nothing" if nothing else ""
