"""When the backend that does not serve is asked, and for how long: knowledge has a price and a budget.

1. Each class begins with ``probes_first`` *full* probes of the GPU; nothing can be decided without.
2. While the GPU might still bring something (its gain plus some errors is worth a change), full probes follow within
   a share of the time that grows with what might be gained, ``gpu_share_unsure`` at most.
3. Where it is known to bring nothing, *scouts* look whether that has changed: probes that are cancelled once they
   took a small part of the time of the CPU. A large gain ends before that; no gain costs no more than that part.
4. A drift, a probe that contradicts what was known, or a long pause asks for full probes at once.
5. Probes of the CPU need no GPU seconds: every ``cpu_every`` requests, more often while the choice is near.

Budgets are kept by class in requests' worth: each request of the CPU adds its share, a probe takes what it should
cost. Spaces are drawn at random around their mean, so that no period of the load hides from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeagent.accel.evidence import Estimate
from edgeagent.accel.settings import Backend, Chance, ControllerSettings

__all__ = ["ProbePlan", "Schedule"]

_FULL = 2.0  # a full probe of the GPU is cancelled at so many times the mean of the CPU
_FULL_SERVED = 1.25  # or at so many times what this request took, whichever is later
_CPU_FULL = 10.0  # the same for probes of the CPU, in means of the GPU
# Caps of scouts in means of the CPU, in turn: a larger gain must be seen sooner, and the look is cheaper.
_SCOUTS = (0.05, 0.1, 0.2, 0.05, 0.1, 0.4, 0.05, 0.1, 0.2, 0.9)
_EARLY = 30  # requests of a class in which scouts may take ``_EARLY_SHARE`` of the time
_EARLY_SHARE = 0.03
_LATE = 26  # request of a class at which the GPU is looked at once more, the start being over
_UNSURE_ERRORS = 1.3
_UNSURE_FROM = 0.10  # gains below are not looked for
_UNSURE_RANGE = 0.3  # from there to the whole share
_UNSURE_FREE = 3.0  # requests' worth of full probes that a class has at first
_WORTH_MAX = 3.0  # what a budget can hold
_ASKED_SPACE = 20  # requests between probes that are asked for and not paid for
_FIRST = 10  # request of a class up to which probes that answer may be slow: they are the first
_SERVE_EVERY = 60  # requests between probes that answer, where nothing is hoped for
_NEAR_EVERY = 5
_NEAR = math.log(1.5)


@dataclass(frozen=True)
class ProbePlan:
    """Ask ``backend`` too, for at most ``cap_ms``; ``scout``: that it takes longer is no news."""

    backend: Backend
    cap_ms: float
    scout: bool

    def limit_ms(self, served_ms: float) -> float:
        """When it is cancelled beside a request that took ``served_ms``."""
        return self.cap_ms if self.scout else max(self.cap_ms, _FULL_SERVED * served_ms)


class Schedule:
    """Of one class: which probes are due, and what they may cost."""

    __slots__ = (
        "_settings",
        "asked",
        "first_left",
        "free_from",
        "full_worth",
        "gap",
        "late_from",
        "loss_worth",
        "requests",
        "scout_worth",
        "scouts",
        "since",
    )

    def __init__(self, settings: ControllerSettings) -> None:
        self._settings = settings
        self.first_left = settings.probes_first
        self.asked = 0  # full probes that are wanted at once
        self.requests = 0
        self.since = 0  # requests since the last probe
        self.scouts = 0
        self.gap = 1.0
        self.free_from = 0
        self.late_from: float = _LATE
        self.full_worth, self.scout_worth, self.loss_worth = _UNSURE_FREE, 0.0, 0.0

    def ask(self, count: int) -> None:
        """So many full probes, as soon as can be."""
        self.asked = max(self.asked, count)

    def due(self, serving: Backend, mean_ms: float, known: Estimate, chance: Chance) -> ProbePlan | None:
        """The probe to make with this request; ``mean_ms`` is what the serving backend takes, 0: not known."""
        self.requests += 1
        self.since += 1
        if mean_ms <= 0.0:
            return None  # nothing to compare with yet
        serves = self._settings.probe == "serve"
        self.loss_worth += self._settings.serve_loss_share
        plan = self._of_cpu(mean_ms, known) if serving == "gpu" else self._of_gpu(mean_ms, known)
        if plan is None:
            return None
        first = plan.backend == "gpu" and self.requests <= _FIRST
        if serves and not first and not self._affordable(known, plan.backend):
            return None
        self.since, self.gap = 0, 0.5 + chance.random()
        if not plan.scout:
            self.asked = max(self.asked - 1, 0)
        return plan

    def _of_cpu(self, mean_ms: float, known: Estimate) -> ProbePlan | None:
        near = known.gain_of("cpu") + _UNSURE_ERRORS * known.error > -_NEAR
        every = min(_NEAR_EVERY, self._settings.cpu_every) if near else self._settings.cpu_every
        if not self.asked and self.since < every * self.gap:
            return None
        return ProbePlan("cpu", _CPU_FULL * mean_ms, scout=False)

    def _of_gpu(self, mean_ms: float, known: Estimate) -> ProbePlan | None:
        settings = self._settings
        hope = known.gain_of("gpu") + _UNSURE_ERRORS * known.error - _UNSURE_FROM
        if self.first_left:
            self.first_left -= 1
            # What neighbours know to bring nothing is looked at once, in passing.
            return ProbePlan("gpu", mean_ms * (1.0 if hope < 0.0 else _FULL), scout=False)
        if self.requests >= self.late_from and settings.probe == "shadow":
            # A recorded or real start of the GPU may have been all that the first ones saw.
            self.late_from = math.inf
            return ProbePlan("gpu", mean_ms, scout=False)
        worth = min(max(hope / _UNSURE_RANGE, 0.0), 1.0)
        self.full_worth = min(
            self.full_worth + worth * settings.gpu_share_unsure + settings.gpu_share / 4.0, _WORTH_MAX
        )
        scouting = _EARLY_SHARE if self.requests <= _EARLY else settings.gpu_share * 0.75
        self.scout_worth = min(self.scout_worth + scouting, _WORTH_MAX)
        cost = min(math.exp(max(known.log_ratio, -5.0)), _FULL)
        near = hope > -_NEAR
        if self.asked and self.requests >= self.free_from:
            self.free_from = self.requests + _ASKED_SPACE
            return ProbePlan("gpu", _FULL * mean_ms, scout=False)
        wished = self.asked or hope > 0.0 or (near and self.full_worth > _UNSURE_FREE - cost)
        if wished and self.full_worth >= cost * self.gap:
            self.full_worth -= cost
            return ProbePlan("gpu", _FULL * mean_ms, scout=False)
        if settings.probe == "serve":
            return (
                ProbePlan("gpu", _FULL * mean_ms, scout=False)
                if self.since >= _SERVE_EVERY * self.gap
                else None
            )
        cap = _SCOUTS[self.scouts % len(_SCOUTS)]
        if self.scout_worth < cap * self.gap:
            return None
        self.scouts += 1
        self.scout_worth -= min(cap, cost)
        return ProbePlan("gpu", cap * mean_ms, scout=True)

    def _affordable(self, known: Estimate, backend: Backend) -> bool:
        """Where probes answer: whether what this one should lose is within the share."""
        loss = math.expm1(min(max(-known.gain_of(backend), 0.0), 20.0))
        if loss > self.loss_worth:
            return False
        self.loss_worth -= loss
        return True
