"""When the backend that does not serve is asked, and for how long: knowledge has a value, a price and a budget.

1. A *full* probe is made where one more sample is worth more than it costs: the expected value of information
   (Raiffa & Schlaifer 1961, for a normal mean) over the next ``_HORIZON`` requests, against the probe's seconds at a
   price. So the unknown is looked at soon, the near and noisy often, and what is clear never.
2. That value knows nothing of change. *Scouts* look for it within a share of the time: probes that are cancelled once
   they took a part of the time of the serving backend. A large gain ends before that; no gain costs no more. What one
   change costs until it is seen is (1 - r) a request at a ratio r, which says how often each cap is due.
3. A scout that might end by chance would tell of lucky ones only; where its cap is that near to what is expected, a
   full probe is made instead, and paid.
4. A drift, a probe that contradicts what was known, or a long pause asks for full probes at once.

Budgets are kept by class in requests' worth: each request adds its share, a probe takes what it should cost. The GPU's
time is bounded over all classes too (``purse``); what is urgent or promising may owe more. Spaces are drawn at random,
so that no period of the load hides from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgeagent.accel.evidence import UNKNOWN_ERROR, Estimate
from edgeagent.accel.purse import Purse
from edgeagent.accel.settings import Backend, Chance, ControllerSettings, other_of

__all__ = ["EARLY", "PROVEN", "ProbePlan", "Schedule"]

# A full probe is cancelled at so many times the usual, or what this request took, whichever is later.
_FULL: Mapping[Backend, float] = MappingProxyType({"gpu": 2.0, "cpu": 3.0})
_FULL_SERVED = 1.25
# Caps of scouts in means of the serving backend, each with its part of the budget, so that none waits for another.
_SCOUTS: Mapping[Backend, tuple[tuple[float, float], ...]] = MappingProxyType(
    {
        "gpu": ((1.0, 0.35), (0.7, 0.27), (0.45, 0.2), (0.25, 0.12), (0.1, 0.06)),
        "cpu": ((1.1, 0.4), (0.6, 0.22), (0.3, 0.22), (0.1, 0.16)),
    }
)
_CREDIT = (0.0, 0.3, 0.22, 0.14, 0.06)  # what the GPU's budgets hold after the learning phase
_PAY_FULL = (0.55, 0.45)  # of what a full probe costs, from the first budgets
_LUCKY = 2.0  # deviations below what is expected at which a cap is no matter of chance
# So many requests of the function scouts may take ``_EARLY_SHARE`` of the time, and looks are cheap.
EARLY = 30
_EARLY_SHARE = 0.05
_LATE = (20, 28)  # requests of the function at which the GPU is looked at once more, a start being over
PROVEN = 4.0  # so much more of the time is spent on looks at a GPU that brought something before
_HORIZON = 300.0  # requests that a choice is thought to hold for
_PORTION_MIN = 0.3  # of these that a class is thought to get at least
# What a second of a probe must bring in seconds of latency: those of the GPU are scarce.
_PRICE_EARLY = 0.3
_PRICE: Mapping[Backend, float] = MappingProxyType({"gpu": 2.5, "cpu": 0.5})
_PRICE_OF_DEBT = 0.5
_PRICE_SERVE = 1.0  # where a probe answers, its price is what it loses
_WORTH_MAX = 1.6  # what one of the budgets can hold, or owe
# Requests of the class that the purse may owe for a look: usually, at a class that is hardly known, for one that was
# asked for or at a class that came after the learning phase, and where the GPU seems to gain.
_DEBT, _DEBT_FEW, _DEBT_ASKED, _DEBT_HOPE = 0.25, 1.2, 2.0, 6.0
_FIRST = 10  # request of a class up to which probes that answer may be slow: they are the first
_FIRST_ERROR = 1.0  # what neighbours know enough of
_SERVE_EVERY = 60  # requests between probes that answer, where nothing is hoped for


@dataclass(frozen=True)
class ProbePlan:
    """Ask ``backend`` too, for at most ``cap_ms``; ``scout``: however long the request itself took."""

    backend: Backend
    cap_ms: float
    scout: bool

    def limit_ms(self, served_ms: float) -> float:
        """When it is cancelled beside a request that took ``served_ms``."""
        return self.cap_ms if self.scout else max(self.cap_ms, _FULL_SERVED * served_ms)


def _value(known: Estimate, other: Backend, gain_min: float, horizon: float) -> float:
    """What one more sample of ``other`` should save over so many requests, in requests of the serving backend."""
    against = gain_min - known.gain_of(other)
    if against <= 0.0:
        return horizon  # it should serve, but for doubts
    variance = known.error * known.error
    moves = variance / math.sqrt(variance + known.spread * known.spread)
    z = against / max(moves, 1e-9)
    if z > 8.0:
        return 0.0
    density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return horizon * min(moves * (density - z * 0.5 * math.erfc(z / math.sqrt(2.0))), 1.0)


class Schedule:
    """Of one class: which probes are due, and what they may cost."""

    __slots__ = (
        "_debited",
        "_early",
        "_fresh",
        "_horizon",
        "_late",
        "_mean_ms",
        "_number",
        "_purse",
        "_settings",
        "asked",
        "first_left",
        "gap",
        "loss_worth",
        "proven",
        "requests",
        "since",
        "worth",
    )

    def __init__(self, settings: ControllerSettings, purse: Purse | None = None) -> None:
        self._settings, self._purse = settings, purse or Purse()
        self._mean_ms = 0.0
        self._fresh = False  # whether it came after the learning phase
        self._early, self._horizon = True, _HORIZON
        # What the last probe should cost, and of whom.
        self._debited: tuple[float, tuple[float, ...]] = (0.0, ())
        self.first_left = settings.probes_first
        self.asked = 0  # full probes that are wanted at once
        self.requests = 0
        self.since = 0  # requests since the last probe
        self.proven = False  # whether the GPU brought something to this class once
        self.gap = 1.0
        self._late: tuple[int, ...] = _LATE
        self._number = 0
        self.worth: dict[Backend, list[float]] = {one: [0.0] * len(levels) for one, levels in _SCOUTS.items()}
        self.loss_worth = 0.0

    def ask(self, count: int) -> None:
        """So many full probes, as soon as can be."""
        self.asked = max(self.asked, count)

    def due(
        self, serving: Backend, mean_ms: float, known: Estimate, chance: Chance, number: int
    ) -> ProbePlan | None:
        """The probe to make with this request, the function's ``number``th, which says what share this class has.

        ``mean_ms`` is what the serving backend takes, 0: not known.
        """
        self.requests += 1
        self.since += 1
        self._number = number
        if self.requests == 1:
            self._fresh = number > EARLY
        if self._early and number > EARLY:
            self._early = False
            self.worth["gpu"] = list(_CREDIT)
        self._horizon = _HORIZON * min(max(self.requests / max(number, 1), _PORTION_MIN), 1.0)
        if mean_ms <= 0.0:  # nothing to compare with yet
            return self._at_once(other_of(serving), known)
        self._mean_ms = mean_ms
        self.loss_worth += self._settings.serve_loss_share
        serves = self._settings.probe == "serve"
        plan = (self._answering if serves else self._beside)(other_of(serving), mean_ms, known)
        if plan is None:
            return None
        self.since, self.gap = 0, 1.0 + 0.3 * chance.random()
        if not plan.scout:
            self.asked = max(self.asked - 1, 0)
        return plan

    def _at_once(self, other: Backend, known: Estimate) -> ProbePlan | None:
        """The first request of a class is looked at if its neighbours know something, but little."""
        new = self.requests == 1 and known.error < UNKNOWN_ERROR and not known.count
        if not new or self._settings.probe == "serve" or abs(known.log_ratio) > known.error:
            return None
        return ProbePlan(other, 0.0, scout=False)

    def paid(self, plan: ProbePlan, times: float, mean_ms: float) -> None:
        """A probe took so many times ``mean_ms``, what the serving backend takes; its budgets held another cost."""
        (thought, parts), self._mean_ms = self._debited, mean_ms
        self._debited = (0.0, ())
        self._take(plan.backend, times - thought, parts)

    def _debit(self, backend: Backend, cost: float, parts: tuple[float, ...] = _PAY_FULL) -> None:
        if not self._early or backend == "cpu" or parts is not _PAY_FULL:
            self._debited = (cost, parts)
            self._take(backend, cost, parts)

    def _take(self, backend: Backend, cost: float, parts: tuple[float, ...]) -> None:
        if backend == "gpu" and not self._early:
            self._purse.take(cost * self._mean_ms)
        for level, part in enumerate(parts):
            self.worth[backend][level] = max(self.worth[backend][level] - part * cost, -_WORTH_MAX)

    def _first(self, other: Backend, known: Estimate) -> bool:
        """Learning is for looking; later a class whose neighbours know enough has no first probes."""
        if other == "cpu" or not self.first_left or known.count >= self._settings.probes_first:
            return False
        if not self._early and not known.count and known.error < _FIRST_ERROR:
            self.first_left = 0
            return False
        self.first_left -= 1
        return True

    def _beside(self, other: Backend, mean_ms: float, known: Estimate) -> ProbePlan | None:
        """Where probes run beside their request."""
        settings = self._settings
        early = self._early and other == "gpu"
        share = (
            settings.gpu_share * (PROVEN if self.proven else 1.0) if other == "gpu" else settings.cpu_share
        )
        self._earn(other, _EARLY_SHARE if early else share)
        log_times = min(max(known.log_times if other == "gpu" else -known.log_times, -20.0), 20.0)
        full = ProbePlan(other, _FULL[other] * mean_ms, scout=False)
        cost = min(math.exp(log_times), _FULL[other])
        if self._first(other, known):
            self._debit(other, cost)
            return full
        if early and self._late and self._number >= self._late[0]:
            # A recorded or real start of the GPU may have been all that the first ones saw.
            self._late = self._late[1:]
            return ProbePlan("gpu", mean_ms, scout=False)
        owed = max(-sum(self.worth[other][: len(_PAY_FULL)]), 0.0)
        price = _PRICE_EARLY if early else _PRICE[other] * (1.0 + _PRICE_OF_DEBT * owed)
        few = other == "gpu" and not early and known.count < settings.samples_min
        wished = (
            self.asked > 0 or few or _value(known, other, settings.gain_min, self._horizon) > price * cost
        )
        if wished and self._pays(other, cost * mean_ms, self._debt(known, few=few) * mean_ms):
            self._debit(other, cost)
            return full
        return self._scout(other, mean_ms, cost, log_times - _LUCKY * known.spread)

    def _debt(self, known: Estimate, *, few: bool) -> float:
        """What the purse may owe for a full look at the GPU, in requests."""
        if known.gain_of("gpu") > self._settings.gain_min:
            return _DEBT_HOPE
        if self.asked or (few and self._fresh):
            return _DEBT_ASKED
        return _DEBT_FEW if few else _DEBT

    def _pays(self, other: Backend, ms: float, debt_ms: float) -> bool:
        return other == "cpu" or self._early or self._purse.pays(ms, debt_ms)

    def _earn(self, other: Backend, share: float) -> None:
        worth = self.worth[other]
        for level, (_, part) in enumerate(_SCOUTS[other]):
            worth[level] = min(worth[level] + part * share, _WORTH_MAX)

    def _scout(self, other: Backend, mean_ms: float, cost: float, log_near: float) -> ProbePlan | None:
        """The longest look that can be paid; from ``log_near`` on a cap would cut by chance."""
        for level, (cap, _) in enumerate(_SCOUTS[other]):
            near = math.log(cap) > log_near
            need = cost if near else cap
            paid = self._pays(other, need * mean_ms, _DEBT * mean_ms)
            if paid and self.worth[other][level] >= need * self.gap:
                self._debit(other, need, (*[0.0] * level, 1.0))
                return ProbePlan(other, (_FULL[other] if near else cap) * mean_ms, scout=not near)
        return None

    def _answering(self, other: Backend, mean_ms: float, known: Estimate) -> ProbePlan | None:
        """Where probes answer their request: they cannot be cancelled, and cost what they are slower."""
        full = ProbePlan(other, _FULL[other] * mean_ms, scout=False)
        if self._first(other, known) and self.requests <= _FIRST:
            return full
        loss = math.expm1(min(max(-known.gain_of(other), 0.0), 20.0))
        every = self._settings.cpu_every if other == "cpu" else _SERVE_EVERY
        wished = self.asked > 0 or self.since >= every * self.gap
        if not wished and _value(known, other, self._settings.gain_min, self._horizon) <= _PRICE_SERVE * loss:
            return None
        if loss > self.loss_worth:
            return None
        self.loss_worth -= loss
        return full
