"""When the backend that does not serve is asked, and for how long: knowledge has a value, a price and a budget.

1. A *full* probe is made where one more sample is worth more than it costs: the expected value of information
   (Raiffa & Schlaifer 1961, for a normal mean) over the next ``_HORIZON`` requests, against the probe's seconds at a
   price. So the unknown is looked at soon, the near and noisy often, and what is clear never. The GPU's seconds are
   scarce: their price grows exponentially with what would be owed for them, so that only what is worth much is looked
   at on credit. A drift makes what was known a guess, and so worth a look; no more is needed.
2. That value knows nothing of change. *Scouts* look for it within a share of the time: probes that are cancelled once
   they took a part of the time of the serving backend (``_CAPS``). What may have changed unseen grows with the requests
   since a look that would have seen it; the cap that should find most for its cost (``_stakes``) is next, as soon as
   it can be paid.
3. A scout that might end by chance would tell of lucky ones only; where its cap is that near to what is expected, a
   full probe is made instead, and paid.
4. A probe that contradicts what was known, a request that is far too slow, or a long pause asks for a full probe.

Budgets are kept by class in requests' worth: each request adds its share, a probe takes what it should cost. The GPU's
time is bounded over all classes too (``purse``). Spaces are drawn at random, so that no period of the load hides from
them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgeagent.accel.evidence import UNKNOWN_ERROR, Estimate
from edgeagent.accel.purse import Purse
from edgeagent.accel.settings import BACKENDS, Backend, Chance, ControllerSettings, other_of

__all__ = ["EARLY", "PROVEN", "ProbePlan", "Schedule"]

# A full probe is cancelled at so many times the usual, or what this request took, whichever is later.
_FULL: Mapping[Backend, float] = MappingProxyType({"gpu": 2.0, "cpu": 3.0})
_FULL_SERVED = 1.25
# Caps of scouts in means of the serving backend.
_CAPS: Mapping[Backend, tuple[float, ...]] = MappingProxyType(
    {"gpu": (0.1, 0.25, 0.45, 0.7, 1.0), "cpu": (0.1, 0.3, 0.6, 1.1)}
)
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
_PRICE_GPU = 2.5  # after that, without debts
_PRICE_CPU = 0.5
_PRICE_OF_DEBT = 0.5  # what a usual request owed for looks adds to the price, as a share of it
_OWED = 0.6  # usual requests owed for looks at which their price is e times as high
_ASKED = 0.5 * _HORIZON  # usual requests that a look is worth which was asked for
_PRICE_SERVE = 1.0  # where a probe answers, its price is what it loses
_WORTH_MAX = 1.6  # what a class's budget can hold, or owe
_CREDIT = 0.7  # what the GPU's budget holds after the learning phase
_FIRST = 10  # request of a class up to which probes that answer may be slow: they are the first
_FIRST_ERROR = 1.0  # of what neighbours say, below which a class that comes later needs no first probes
_GAP_SPREAD = 0.3  # of a space between looks: by so much at most it is longer
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


def _stakes(caps: tuple[float, ...]) -> tuple[float, ...]:
    """What a change to between two caps costs until it is seen, as a share of a request, times how likely it is.

    The ratio after a change is thought to be log-normal around 1 with a deviation of 1; what is lost counts against the
    mean of a time half of which lies before the change.
    """
    edges = [0.5 * math.erfc(-math.log(cap) / math.sqrt(2.0)) for cap in caps]
    middles = [math.sqrt(low * high) for low, high in zip((0.5 * caps[0], *caps), caps, strict=False)]
    return tuple(
        (high - low) * (1.0 - middle) / (0.5 + 0.5 * middle)
        for low, high, middle in zip((0.0, *edges), edges, middles, strict=False)
    )


_STAKES: Mapping[Backend, tuple[float, ...]] = MappingProxyType(
    {backend: _stakes(caps) for backend, caps in _CAPS.items()}
)


class Schedule:
    """Of one class: which probes are due, and what they may cost."""

    __slots__ = (
        "_debited",
        "_early",
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
        "unseen",
        "worth",
    )

    def __init__(self, settings: ControllerSettings, purse: Purse) -> None:
        self._settings, self._purse = settings, purse
        self._mean_ms = 0.0
        self._early, self._horizon = True, _HORIZON
        self._debited = 0.0  # what the last probe should cost
        self.first_left = settings.probes_first
        self.asked = 0  # full probes that are wanted at once
        self.requests = 0
        self.since = 0  # requests since the last probe
        self.proven = False  # whether the GPU brought something to this class once
        self.gap = 1.0  # times the space to the next look, by chance
        self._late: tuple[int, ...] = _LATE
        self._number = 0
        self.worth: dict[Backend, float] = dict.fromkeys(BACKENDS, 0.0)
        # Requests since a look that would have seen a ratio below each cap.
        self.unseen: dict[Backend, list[int]] = {one: [0] * len(caps) for one, caps in _CAPS.items()}
        self.loss_worth = 0.0  # where probes answer: by how many usual requests they may be slower

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
        if self._early and number > EARLY:
            self._early = False
            self.worth["gpu"] = _CREDIT
        self._horizon = _HORIZON * min(max(self.requests / max(number, 1), _PORTION_MIN), 1.0)
        if mean_ms <= 0.0:  # nothing to compare with yet
            return self._at_once(other_of(serving), known)
        self._mean_ms = mean_ms
        self.loss_worth += self._settings.serve_loss_share
        serves = self._settings.probe == "serve"
        plan = (self._answering if serves else self._beside)(other_of(serving), mean_ms, known)
        if plan is None:
            return None
        self.since, self.gap = 0, 1.0 + _GAP_SPREAD * chance.random()
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
        """A probe took so many times ``mean_ms``, what the serving backend takes; it was thought to cost another."""
        thought, self._debited, self._mean_ms = self._debited, 0.0, mean_ms
        self._take(plan.backend, times - thought)

    def _debit(self, backend: Backend, cost: float, seen: int) -> None:
        """A look that sees ratios below ``seen`` of the caps."""
        self.unseen[backend][:seen] = [0] * seen
        if not self._early or backend == "cpu" or seen < len(_CAPS[backend]):
            self._debited = cost
            self._take(backend, cost)

    def _take(self, backend: Backend, cost: float) -> None:
        if backend == "gpu" and not self._early:
            self._purse.take(cost * self._mean_ms)
        self.worth[backend] = max(self.worth[backend] - cost, -_WORTH_MAX)

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
        self.worth[other] = min(self.worth[other] + (_EARLY_SHARE if early else share), _WORTH_MAX)
        self.unseen[other] = [one + 1 for one in self.unseen[other]]
        log_times = min(max(known.log_times if other == "gpu" else -known.log_times, -20.0), 20.0)
        full = ProbePlan(other, _FULL[other] * mean_ms, scout=False)
        cost = min(math.exp(log_times), _FULL[other])
        if self._first(other, known):
            self._debit(other, cost, len(_CAPS[other]))
            return full
        if early and self._late and self._number >= self._late[0]:
            # A recorded or real start of the GPU may have been all that the first ones saw.
            self._late = self._late[1:]
            return ProbePlan("gpu", mean_ms, scout=False)
        value = max(_value(known, other, settings.gain_min, self._horizon), _ASKED if self.asked else 0.0)
        if value > self._price(other, cost, mean_ms) * cost:
            self._debit(other, cost, len(_CAPS[other]))
            return full
        return self._scout(other, mean_ms, cost, log_times - _LUCKY * known.spread)

    def _price(self, other: Backend, cost: float, mean_ms: float) -> float:
        """Of a request's time: the higher, the more would be owed after a look."""
        if other == "cpu":
            return _PRICE_CPU * (1.0 + _PRICE_OF_DEBT * max(-self.worth["cpu"], 0.0))
        if self._early:
            return _PRICE_EARLY
        owed = cost - self._purse.ms / mean_ms
        return _PRICE_GPU * math.exp(min(max(owed, 0.0) / _OWED, 20.0))

    def _scout(self, other: Backend, mean_ms: float, cost: float, log_near: float) -> ProbePlan | None:
        """The look that should find most for its cost, once it can be paid; from ``log_near`` on a cap would cut by
        chance.
        """
        best, need, seen, found = 0.0, 0.0, 0, 0.0
        for level, cap in enumerate(_CAPS[other]):
            found += _STAKES[other][level] * self.unseen[other][level]
            price = cost if math.log(cap) > log_near else cap
            if found > best * price:
                best, need, seen = found / price, price, level + 1
        if not seen or self.worth[other] < need * self.gap:
            return None
        if other == "gpu" and not self._early and not self._purse.pays(need * mean_ms):
            return None
        cap = _CAPS[other][seen - 1]
        near = math.log(cap) > log_near
        self._debit(other, need, len(_CAPS[other]) if near else seen)
        return ProbePlan(other, (_FULL[other] if near else cap) * mean_ms, scout=not near)

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
