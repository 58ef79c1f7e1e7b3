"""Where the requests of one function run: CPU or GPU, by what both were seen to take.

Theory of operation. The caller asks :meth:`Controller.route` before a request and tells :meth:`Controller.served` after
it; if the route has a probe, it runs the request on that backend too and tells :meth:`Controller.probed`. No clock and
no chance of its own, so that a recorded trace gives the same answers as the day it was recorded.

1. Requests are told apart by size class; each has its evidence, its probes and its backend. What other classes know is
   its prior: a class that has too little of its own goes where their line says.
2. A class changes its backend when the other is faster by ``gain_min`` and by so many standard errors that a chance is
   unlikely; each recent change asks for more, and for a longer stay.
3. When the times of the serving backend change in kind, or looks contradict what is known, that becomes a guess, in
   all classes: so a look is worth more again, and one of both may decide.
4. A failure counts as ten times the usual time. Those of the GPU that chance does not explain, mostly two in a row,
   open its breaker: all goes to the CPU.
5. The GPU is wanted (:attr:`Controller.wants_gpu`) from the first request on where the mode allows it, but nothing is
   sent there before it is ready, so that a start is never taken for slowness.
6. Modes ``cpu`` and ``gpu`` are pinned: they are obeyed, whatever is seen; ``gpu`` also where the GPU is not ready: the
   caller must say so rather than serve it elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from edgeagent.accel.breaker import Breaker
from edgeagent.accel.conditions import ConditionLimits, Conditions, Veto
from edgeagent.accel.drift import shifted
from edgeagent.accel.evidence import UNKNOWN_ERROR, Evidence
from edgeagent.accel.goal import SEEN_MIN, Energy, Goal, wanted
from edgeagent.accel.kept import PAIRS_KEPT, TIMES_KEPT, KeptClass, KeptController
from edgeagent.accel.probing import EARLY, PROVEN, ProbePlan, Schedule
from edgeagent.accel.purse import Purse
from edgeagent.accel.settings import BACKENDS, Backend, Chance, ControllerSettings, Mode, first_of, other_of
from edgeagent.accel.size_classes import neighbours_prior, size_class

__all__ = ["Change", "Controller", "Route"]

_FAST_GAIN = math.log(3.0)
_FAST_TIMES = 1.5
_CANCELLED = 1.2  # a probe that was cancelled would have taken at least so many times as long
# A request this many times slower than usual, and so many deviations, is looked into at once.
_SLOW_TIMES = 3.0
_SLOW_DEVIATIONS = 4.0
_SLOW_BEYOND = 0.2  # and so much (of the logarithm) slower than anything that was seen
_SLOW_FROM = 5
_SLOW_TWICE = 2
_LOOK_EVERY = 4  # requests between looks for a drift, or after one that is further off than these
_ODD, _ODD_DEVIATIONS = 0.4, 1.5
_TRIAL = 3  # requests after a promotion that the CPU answers too
_EXPECTED_MAX = math.log(100.0)  # times that are expected of what was never seen to end
_PROVEN_GAIN = 0.3
_FAILED_EVERY = 12  # requests without a look at a GPU that failed lately
_PAUSE_S = 600.0
# Probes that contradict what was known (Page 1954): deviations beyond ``_SLACK`` add up, each counts so many at most.
_SLACK, _SURPRISE_MAX = 0.75, 3.5
_SURPRISE, _CONTRADICTED = 1.5, 4.5  # sums at which another look is wanted, and at which it is believed
_SURPRISE_SPREAD = 0.15  # least deviation
# A class without evidence follows its neighbours: to the CPU at so many errors, to the GPU at one error of the gain, or
# less where that is large; a guess from ``_FAR`` is no better than a throw, and the likelier side is taken.
_TENTATIVE = 0.7
_HOPEFUL = 0.25
_FAR, _FAR_GAIN = 0.4, 0.12
_CHANGES_MAX = 64
_ALONE, _ALONE_EVERY = 12, 4  # samples from which on the neighbours are asked only every so many requests


@dataclass(frozen=True)
class Route:
    """Serve with ``backend``; where ``probe`` is set, ask that one too. ``why`` is for people."""

    backend: Backend
    probe: ProbePlan | None
    why: str


@dataclass(frozen=True)
class Change:
    """A class of a function (None: all of it) goes to another backend, to save the share ``gain`` of latency."""

    at_s: float
    size_class: int | None
    backend: Backend
    reason: str
    gain: float


class _Class:
    __slots__ = (
        "above",
        "backend",
        "below",
        "changed",
        "drifted_at",
        "evidence",
        "looked_at",
        "schedule",
        "seen_s",
        "slow",
        "slow_from",
        "strange",
    )

    def __init__(self, backend: Backend, settings: ControllerSettings, purse: Purse) -> None:
        self.backend: Backend = backend
        self.evidence = Evidence()
        self.schedule = Schedule(settings, purse)
        self.changed: list[int] = []  # the numbers of the requests after which it went elsewhere
        self.seen_s = -math.inf
        self.above = self.below = 0.0  # how far the newest probes are above and below what was known
        self.strange = 0  # how many these are
        self.looked_at = self.drifted_at = 0  # the function's requests of the newest pair and the last drift
        self.slow = 0  # requests in a row that were far slower than usual
        self.slow_from = math.inf  # the logarithm of the time from which one is

    def kept(self, which: int) -> KeptClass:
        known = self.evidence
        return KeptClass(
            which,
            self.backend,
            known.number,
            self.schedule.requests,
            self.schedule.proven,
            tuple(self.changed),
            known.prior,
            known.spread2,
            known.windows["cpu"].last_times(TIMES_KEPT),
            known.windows["gpu"].last_times(TIMES_KEPT),
            known.last_pairs(PAIRS_KEPT),
        )

    def resume(self, kept: KeptClass) -> None:
        known, schedule = self.evidence, self.schedule
        self.backend, self.changed = kept.backend, list(kept.changed)
        known.resume(kept.number, kept.prior, kept.spread2)
        for backend, times in zip(BACKENDS, (kept.cpu, kept.gpu), strict=True):
            for number, ms in times:
                known.windows[backend].add(number, ms)
        known.pairs.extend(kept.pairs)
        schedule.requests, schedule.proven = kept.requests, kept.proven
        if kept.cpu and kept.gpu:
            schedule.ask(1)  # nobody knows what happened meanwhile


class Controller:
    """Of one function; at most ``settings.classes_max`` size classes, which powers of four do not exceed."""

    def __init__(
        self,
        settings: ControllerSettings,
        chance: Chance,
        *,
        mode: Mode = "cpu_preferred",
        goal: Goal | None = None,
        limits: ConditionLimits | None = None,
    ) -> None:
        self._settings, self._chance, self.mode = settings, chance, mode
        self._goal = goal or Goal()
        self._veto = Veto(limits)
        self._breaker = Breaker()
        self._purse = Purse()
        self._classes: dict[int, _Class] = {}
        self._ready = False
        self._requests = 0
        self.changes: list[Change] = []  # the newest 64
        self._resting = ""  # why the GPU may not serve although it is ready

    @property
    def wants_gpu(self) -> bool:
        """Whether the GPU should be started, or kept."""
        return self.mode != "cpu" and not self._veto.reason

    def gpu_is(self, *, ready: bool) -> None:
        """What the broker says of itself."""
        self._ready = ready

    def limit_is(self, slo_ms: float) -> None:
        """What the function's limit leaves for one of these requests; 0: no limit."""
        if slo_ms != self._goal.slo_ms:
            self._goal = replace(self._goal, slo_ms=slo_ms)

    def energy_is(self, energy: Energy) -> None:
        """What a second of either backend draws, and what that costs now."""
        if energy != self._goal.energy:
            self._goal = replace(self._goal, energy=energy)

    def conditions(self, now: Conditions) -> str:
        """Heat, battery and sun as they are now; the reason that forbids the GPU, empty: none."""
        return self._veto.update(now)

    def route(self, now_s: float, size: float = 0.0) -> Route:
        """Where the next request goes."""
        if self.mode in ("cpu", "gpu"):
            return Route(self.mode, None, f"pinned to {self.mode}")
        self._requests += 1
        which = size_class(size)
        one = self._class(which)
        self._follow_neighbours(which, one)
        if now_s - one.seen_s > _PAUSE_S and one.seen_s > -math.inf:
            one.schedule.ask(1)
        one.seen_s = now_s
        self._ask(one)
        rests = self._gpu_rests(now_s)
        if rests:
            return Route("cpu", self._trial(now_s, one), rests)
        usual_ms = self._usual_ms(one, one.backend)
        probe = one.schedule.due(one.backend, usual_ms, one.evidence.estimate(), self._chance, self._requests)
        if probe is not None and self._settings.probe == "serve":
            return Route(probe.backend, None, "probe")
        return Route(one.backend, probe, "usual")

    def served(
        self, now_s: float, size: float, backend: Backend, ms: float, *, failed: bool = False
    ) -> Change | None:
        """A request was answered by ``backend`` after ``ms``, or failed there."""
        which = size_class(size)
        one = self._class(which)
        one.evidence.number += 1
        if failed:
            return self._failed(now_s, which, one, backend)
        if backend == "gpu":
            self._answered(now_s)
        if self._requests > EARLY:
            self._earn(one, backend, ms)
        if backend == one.backend:
            self._add_served(one, backend, ms)
        else:
            usual_ms = self._usual_ms(one, one.backend)
            if usual_ms > 0.0:
                self._compare(one, backend, usual_ms, ms)
            one.evidence.add(backend, ms)
        return self._decide(now_s, which, one)

    def probed(
        self, now_s: float, size: float, plan: ProbePlan, served_ms: float, ms: float, *, failed: bool = False
    ) -> Change | None:
        """The probe beside a request that took ``served_ms``: its time, or ``limit_ms`` where it was cancelled."""
        which = size_class(size)
        one = self._class(which)
        if failed:
            return self._failed(now_s, which, one, plan.backend)
        if plan.backend == "gpu":
            self._answered(now_s)
        usual_ms = self._usual_ms(one, one.backend)
        if usual_ms > 0.0:
            one.schedule.paid(plan, ms / usual_ms, usual_ms)
        cancelled = ms >= plan.limit_ms(served_ms)
        at_least_ms = ms
        if cancelled:
            # It takes longer: by a fifth at least, or as long as was thought anyway, which is no news.
            expected_ms = self._expected_ms(one, plan.backend, served_ms)
            known = one.evidence.estimate().count >= self._settings.samples_min
            if plan.scout or (known and expected_ms > _CANCELLED * ms):
                return None
            at_least_ms = max(_CANCELLED * ms, expected_ms)
        self._compare(one, plan.backend, served_ms, at_least_ms, bound=cancelled)
        one.evidence.add(plan.backend, at_least_ms)
        if one.slow >= _SLOW_TWICE and served_ms > _SLOW_TIMES * at_least_ms:
            # It was slow twice, and the other one is not: waiting for more would cost more than a wrong change.
            self._drifted(one)
            one.evidence.forget(plan.backend, 1)
            one.evidence.add(one.backend, served_ms)
            return self._move(now_s, which, one, "much faster")
        return self._decide(now_s, which, one)

    def kept(self) -> KeptController:
        """What is worth keeping for a controller after this one."""
        return KeptController(
            self._requests, tuple(one.kept(which) for which, one in sorted(self._classes.items()))
        )

    def resume(self, kept: KeptController) -> None:
        """Begin with what an earlier one knew of the same function on the same devices; before the first request."""
        self._requests = kept.requests
        for one in kept.classes[: self._settings.classes_max]:
            self._class(one.which).resume(one)

    # -- one class ---------------------------------------------------------------------------------------------------

    def _class(self, which: int) -> _Class:
        known = self._classes.get(which)
        if known is None:
            if len(self._classes) >= self._settings.classes_max:
                return self._classes[min(self._classes, key=lambda one: abs(one - which))]
            known = self._classes[which] = _Class(first_of(self.mode), self._settings, self._purse)
        return known

    def _earn(self, one: _Class, backend: Backend, ms: float) -> None:
        """What a request adds to what looks at the GPU may take."""
        if backend == "gpu":
            gain = min(one.evidence.estimate().gain_of("gpu"), _EXPECTED_MAX)
            self._purse.saved(ms * math.expm1(gain), ms * math.exp(gain))
        else:
            self._purse.served(ms, self._settings.gpu_share * (PROVEN if one.schedule.proven else 1.0))

    def _follow_neighbours(self, which: int, one: _Class) -> None:
        if len(self._classes) < 2:
            return
        known = one.evidence.estimate()
        if known.count >= _ALONE and one.schedule.requests % _ALONE_EVERY:
            return  # by requests: samples of the backend that does not serve may be as many for long
        others = {
            each: told
            for each, other in self._classes.items()
            if other.looked_at >= one.drifted_at and (told := other.evidence.told()) is not None
        }
        one.evidence.set_near(neighbours_prior(which, others))
        known = one.evidence.estimate()
        if known.count >= self._settings.samples_min:
            return
        far = not known.count and known.error > _FAR
        more = _FAR_GAIN if far else min(known.error, _HOPEFUL)
        if known.gain_of("gpu") > self._settings.gain_min + more:
            one.backend = "gpu"
        elif known.gain_of("cpu") > _TENTATIVE * known.error:
            one.backend = "cpu"

    def _ask(self, one: _Class) -> None:
        """Looks that are wanted whatever one more sample is worth."""
        known, serving, schedule = one.evidence.estimate(), one.backend, one.schedule
        seen = len(one.evidence.windows[other_of(serving)])
        if self._goal.compares_cost and seen < SEEN_MIN and schedule.requests % self._settings.cpu_every == 0:
            schedule.ask(1)  # where cost may decide, both must be known however clear the latency is
        if serving == "cpu" and schedule.since >= _FAILED_EVERY and one.evidence.attempts["gpu"].failed:
            schedule.ask(1)  # what failed is over some day
        if serving == "gpu" and schedule.since > 1:
            proven = known.gain_of("gpu") > self._settings.gain_min + known.error
            if not proven:
                schedule.ask(1)  # the GPU must earn its place

    def _usual_ms(self, one: _Class, backend: Backend) -> float:
        return one.evidence.windows[backend].mean_ms()

    def _expected_ms(self, one: _Class, probed: Backend, served_ms: float) -> float:
        """How long a probe should take beside a request that took so long."""
        times = one.evidence.estimate().log_times
        return served_ms * math.exp(min(times if probed == "gpu" else -times, _EXPECTED_MAX))

    def _compare(
        self, one: _Class, probed: Backend, served_ms: float, probed_ms: float, *, bound: bool = False
    ) -> None:
        """Add a pair; where these contradict what was known, the probed backend is another than it was."""
        known = one.evidence.estimate()
        cpu_ms, gpu_ms = (probed_ms, served_ms) if probed == "cpu" else (served_ms, probed_ms)
        if known.count:
            off = math.log(max(gpu_ms, 1e-3) / max(cpu_ms, 1e-3)) - known.log_times
            spread = max(math.hypot(one.evidence.pair_spread(but=one.strange), known.error), _SURPRISE_SPREAD)
            step = min(max(off / spread, -_SURPRISE_MAX), _SURPRISE_MAX)
            one.above = max(one.above + step - _SLACK, 0.0)
            one.below = max(one.below - step - _SLACK, 0.0)
            surprise = max(one.above, one.below)
            one.strange = one.strange + 1 if surprise else 0
            if surprise > _SURPRISE:
                one.schedule.ask(1)
            if surprise > _CONTRADICTED:
                keep = min(max(one.strange - 1, 1), 2)
                one.above = one.below = 0.0
                one.strange = 0
                self._drifted(one)
                one.evidence.forget(probed, keep)
                one.evidence.add(other_of(probed), served_ms)
        one.evidence.add_pair(cpu_ms, gpu_ms, bound=bound)
        one.looked_at = self._requests

    def _drifted(self, one: _Class) -> None:
        """One class is another than it was: so may the others be, and what they knew before does not count here."""
        one.drifted_at = self._requests
        for each in self._classes.values():
            if each is not one:
                each.evidence.doubt(each.backend)

    def _decide(self, now_s: float, which: int, one: _Class) -> Change | None:
        known, settings = one.evidence.estimate(), self._settings
        other = other_of(one.backend)
        gain = known.gain_of(other)
        few = known.count < (1 if one.evidence.prior[1] < UNKNOWN_ERROR else settings.samples_min)
        if few or (other == "gpu" and not self._breaker.closed):
            return None
        least = settings.gain_min if other == "gpu" else settings.gain_back_min
        reason = wanted(self._goal, one.evidence, other, known, gain_min=least)
        if not reason:
            return None
        recent = sum(number > one.evidence.number - settings.memory for number in one.changed)
        sure = settings.confidence_gpu if other == "gpu" else settings.confidence
        doubt = (sure + recent * settings.confidence_step) * known.error
        fast = gain > max(_FAST_GAIN, _FAST_TIMES * doubt)
        since = one.evidence.number - (one.changed[-1] if one.changed else -settings.memory)
        if not fast and (since < settings.dwell * 2**recent or (reason == "faster" and gain < doubt)):
            return None
        return self._move(now_s, which, one, reason)

    def _move(self, now_s: float, which: int, one: _Class, reason: str) -> Change | None:
        one.backend, one.slow = other_of(one.backend), 0
        one.changed = [*one.changed[-7:], one.evidence.number]
        if one.backend == "gpu":
            one.schedule.ask(_TRIAL)
        gain = one.evidence.estimate().gain_of(one.backend)
        if one.backend == "gpu" and gain > _PROVEN_GAIN:
            one.schedule.proven = True
        return self._changed(Change(now_s, which, one.backend, reason, -math.expm1(-gain)))

    def _add_served(self, one: _Class, backend: Backend, ms: float) -> None:
        """Add a time of the serving backend, and look for a drift: now and then, or when it is an odd one."""
        odd = self._is_odd(one, ms)
        one.evidence.add(backend, ms)
        if not odd and one.evidence.number % _LOOK_EVERY:
            return
        newest = shifted(one.evidence.windows[backend].logs())
        if newest:
            self._drifted(one)
            one.evidence.forget(backend, newest)

    def _is_odd(self, one: _Class, ms: float) -> bool:
        """Whether this is unusual; counts times in a row that are far beyond what the serving backend takes."""
        window = one.evidence.windows[one.backend]
        if len(window) < _SLOW_FROM:
            one.slow = 0
            return False
        log = math.log(max(ms, 1e-3))
        usual = window.moments()
        spread = math.sqrt(usual.variance_log)
        if not one.slow:  # while they are slow, they are no measure
            far = max(_SLOW_DEVIATIONS * spread, math.log(_SLOW_TIMES))
            one.slow_from = max(usual.mean_log + far, window.largest_log() + _SLOW_BEYOND)
        one.slow = one.slow + 1 if log > one.slow_from else 0
        if one.slow:
            one.schedule.ask(1)
        return abs(log - usual.mean_log) > max(_ODD, _ODD_DEVIATIONS * spread)

    def _changed(self, change: Change) -> Change:
        self.changes = [*self.changes[-(_CHANGES_MAX - 1) :], change]
        return change

    # -- the GPU as a whole ------------------------------------------------------------------------------------------

    def gpu_rests(self, now_s: float) -> str:
        """Why the GPU may not serve now; empty: it may. One that failed may be tried once it has rested."""
        rests = self._gpu_rests(now_s)
        is_over = self._ready and not self._veto.reason and self._breaker.may_try(now_s)
        return "" if rests and is_over else rests

    def _gpu_rests(self, now_s: float) -> str:
        if self._veto.reason:
            return self._veto.reason
        if not self._ready:
            return "the GPU is not ready"
        return "" if self._breaker.closed else "the GPU failed"

    def _trial(self, now_s: float, one: _Class) -> ProbePlan | None:
        """One probe of a GPU that failed, once it has rested."""
        if self._veto.reason or not self._ready or self._breaker.closed or not self._breaker.may_try(now_s):
            return None
        mean_ms = self._usual_ms(one, "cpu")
        return ProbePlan("gpu", 2.0 * mean_ms, scout=False) if mean_ms > 0.0 else None

    def _failed(self, now_s: float, which: int, one: _Class, backend: Backend) -> Change | None:
        """Where the failures of the GPU open the breaker, the CPU serves until the GPU answers again."""
        if backend == "cpu":
            one.evidence.add_failure("cpu")
            return self._decide(now_s, which, one)
        opened = self._breaker.failed(now_s, self._usual_ms(one, "cpu") / 1000.0)
        if not opened:
            if self._breaker.closed:
                one.evidence.add_failure("gpu")
            return self._decide(now_s, which, one) if self._breaker.closed else None
        if all(each.backend == "cpu" for each in self._classes.values()):
            return None
        return self._changed(Change(now_s, None, "cpu", "the GPU failed", 0.0))

    def _answered(self, now_s: float) -> None:
        """The GPU answered; if it was given up, its failures are over and explained."""
        if not self._breaker.answered():
            return
        for each in self._classes.values():
            each.evidence.forgive("gpu")
        if any(each.backend == "gpu" for each in self._classes.values()):
            self._changed(Change(now_s, None, "gpu", "the GPU answers again", 0.0))
