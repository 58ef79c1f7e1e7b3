"""When the backend that does not serve is asked, and for how long: knowledge has a price and a budget.

1. Each class begins with ``probes_first`` *full* probes of the GPU; nothing can be decided without.
2. While the GPU might still bring something (its gain plus some errors is worth a change), full probes follow within
   a share of the time that grows with what might be gained, ``gpu_share_unsure`` at most.
3. Where it is known to bring nothing, *scouts* look whether that has changed: probes that are cancelled once they
   took ``_SCOUT`` of the time of the CPU. A large gain ends before that; no gain costs less than half a request.
4. A drift, a probe that contradicts what was known, or a long pause asks for full probes at once.
5. Probes of the CPU need no GPU seconds: every ``cpu_every`` requests, more often while the choice is near.

Spaces between probes are drawn at random around their mean, so that no period of the load hides from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeagent.accel.evidence import Estimate
from edgeagent.accel.settings import Backend, Chance, ControllerSettings

__all__ = ["Budget", "ProbePlan", "Schedule"]

_FULL = 2.0  # a full probe of the GPU is cancelled at so many times the mean of the CPU
# Caps of scouts in means of the CPU, in turn: the larger the gain, the sooner it must be seen, and the cheaper the look.
_SCOUTS = (0.05, 0.1, 0.2, 0.05, 0.1, 0.4)
_EARLY = 30  # requests of the function in which scouts may take ``_EARLY_SHARE`` of the time
_EARLY_SHARE = 0.04
_CPU_FULL = 10.0  # the same for probes of the CPU, in means of the GPU
_UNSURE_ERRORS = 1.3
_UNSURE_FROM = 0.10  # gains below are not looked for
_UNSURE_RANGE = 0.3  # from there to the whole share
_UNSURE_FREE = 3.0  # requests' worth of probes before the shares count
_NEAR_EVERY = 5
_NEAR = math.log(1.5)
_FULL_OF_SCOUTS = 12  # one of so many is a full one where the choice is near


@dataclass(frozen=True)
class ProbePlan:
    """Ask ``backend`` too, for at most ``cap_ms``; ``scout``: that it takes longer is no news."""

    backend: Backend
    cap_ms: float
    scout: bool


class Budget:
    """Of one function: what requests took and what probes of the GPU took, ms."""

    __slots__ = ("lost_ms", "probed_ms", "requests", "served_ms")

    def __init__(self) -> None:
        self.requests = 0
        self.served_ms = 0.0
        self.probed_ms = 0.0
        self.lost_ms = 0.0  # by probes that answered a request later than the other backend would have


class Schedule:
    """Of one class: how many probes there were, which are due."""

    __slots__ = ("asked", "first_left", "gap", "scouts", "since")

    def __init__(self, settings: ControllerSettings) -> None:
        self.first_left = settings.probes_first
        self.asked = 0  # probes that are wanted at once
        self.scouts = 0
        self.since = 0  # requests since the last probe
        self.gap = 1.0

    def ask(self, count: int) -> None:
        """So many full probes, as soon as can be."""
        self.asked = max(self.asked, count)

    def done(self, plan: ProbePlan, chance: Chance) -> None:
        """A probe was begun."""
        self.since, self.gap = 0, 0.5 + chance.random()
        self.scouts += 1
        if not plan.scout:
            self.asked = max(self.asked - 1, 0)
            self.first_left = max(self.first_left - (plan.backend == "gpu"), 0)

    def due(
        self,
        serving: Backend,
        mean_ms: float,
        known: Estimate,
        budget: Budget,
        settings: ControllerSettings,
    ) -> ProbePlan | None:
        """The probe to make with this request; ``mean_ms`` is what the serving backend takes."""
        self.since += 1
        if mean_ms <= 0.0:
            return None  # nothing to compare with yet
        if serving == "gpu":
            return self._of_cpu(mean_ms, known, budget, settings)
        return self._of_gpu(mean_ms, known, budget, settings)

    def _of_cpu(
        self, mean_ms: float, known: Estimate, budget: Budget, settings: ControllerSettings
    ) -> ProbePlan | None:
        near = known.gain_of("cpu") + _UNSURE_ERRORS * known.error > -_NEAR
        every = min(_NEAR_EVERY, settings.cpu_every) if near else settings.cpu_every
        if not self.asked and self.since < every * self.gap:
            return None
        return self._affordable(ProbePlan("cpu", _CPU_FULL * mean_ms, scout=False), known, budget, settings)

    def _of_gpu(
        self, mean_ms: float, known: Estimate, budget: Budget, settings: ControllerSettings
    ) -> ProbePlan | None:
        full, scout = ProbePlan("gpu", _FULL * mean_ms, scout=False), ProbePlan(
            "gpu", _SCOUTS[self.scouts % len(_SCOUTS)] * mean_ms, scout=True
        )
        if self.first_left:
            # What neighbours know to bring nothing is looked at once, in passing.
            hopeless = known.gain_of("gpu") + _UNSURE_ERRORS * known.error < 0.0
            return ProbePlan("gpu", mean_ms, scout=False) if hopeless else full
        hope = known.gain_of("gpu") + _UNSURE_ERRORS * known.error - _UNSURE_FROM
        cost_ms = mean_ms * min(math.exp(max(known.log_ratio, -5.0)), _FULL)
        free_ms = _UNSURE_FREE * mean_ms if hope > 0.0 or self.asked else 0.0
        worth = min(max(hope / _UNSURE_RANGE, 0.0), 1.0)
        share = settings.gpu_share + worth * max(settings.gpu_share_unsure - settings.gpu_share, 0.0)
        if self.asked:
            share = max(share, settings.gpu_share_unsure)
        if budget.requests <= _EARLY:
            share = max(share, _EARLY_SHARE)
        plan = full
        if hope <= 0.0 and not self.asked:
            near = known.gain_of("gpu") > -_NEAR and self.scouts % _FULL_OF_SCOUTS == _FULL_OF_SCOUTS - 1
            plan = full if near else scout
            cost_ms = cost_ms if near else min(cost_ms, scout.cap_ms)
        if budget.probed_ms + cost_ms * self.gap > free_ms + share * budget.served_ms:
            return None
        return self._affordable(plan, known, budget, settings)

    def _affordable(
        self, plan: ProbePlan, known: Estimate, budget: Budget, settings: ControllerSettings
    ) -> ProbePlan | None:
        if settings.probe == "shadow" or self.asked:
            return plan
        loss = math.expm1(min(max(-known.gain_of(plan.backend), 0.0), 20.0)) * plan.cap_ms / _FULL
        return plan if budget.lost_ms + loss <= settings.serve_loss_share * budget.served_ms else None
