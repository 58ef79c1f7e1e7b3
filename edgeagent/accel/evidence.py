"""What is known of one size class: how many times the CPU's time the GPU takes, and how sure that is.

``log_ratio`` = log(mean GPU time / mean CPU time): below 0 the GPU is faster. Three sources:

1. *Pairs*: both backends on the same request, so that what the input does cancels out.
2. The windows of both, where they are of the same stretch: better where times scatter for other reasons.
3. A *prior*: what other classes say (``near``), and what held before the last drift.

Of the first two the one of lower variance is taken, its tail corrected by the windows, and weighed with the prior.
Failures are counted apart: the share of them adds so many times ``FAILED_TIMES`` the slower mean.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass, replace

from edgeagent.accel.attempts import Attempts
from edgeagent.accel.settings import BACKENDS, Backend, other_of
from edgeagent.accel.window import SPREAD_PRIOR, Moments, Window, moments

__all__ = ["FAILED_TIMES", "UNKNOWN_ERROR", "Estimate", "Evidence", "Own"]

FAILED_TIMES = 10.0  # a failure counts as so many times what is usual: more than any gain, and still a number
_PAIRS_MAX = 64
_STRETCH = 400  # requests of the class: what is older is not compared, but for the last ``_KEPT``
_KEPT = 6
_TAIL_WEIGHT = 12.0  # samples at which the seen tail counts half
_DRIFT2 = 2e-5  # variance of the logarithm that a request adds to what was not looked at since
_OLD_ERROR = 0.7  # standard error of what held before a drift
UNKNOWN_ERROR = 1.5
_BOUND2 = 0.6  # variance of a ratio of which only a bound was seen
_UNKNOWN = (0.0, UNKNOWN_ERROR)
_LEVEL = 24  # newest times that say where a backend is now
_LEVEL_ERRORS = 2.0  # standard errors by which it must have moved


@dataclass(frozen=True)
class Estimate:
    """``error`` is the standard error of ``log_ratio``; ``count`` the samples of the backend with fewer.

    ``spread`` is the standard deviation of one more sample of the ratio; ``log_times`` the ratio but for failures.
    """

    log_ratio: float
    error: float
    count: int
    spread: float = SPREAD_PRIOR
    log_times: float = 0.0

    def gain_of(self, backend: Backend) -> float:
        """The logarithm of how much faster this backend is than the other."""
        return -self.log_ratio if backend == "gpu" else self.log_ratio


@dataclass(frozen=True)
class Own:
    """As in Estimate, without what was thought before; ``variance`` is the squared error of ``log_ratio``."""

    log_ratio: float
    variance: float
    count: int
    spread: float


class Evidence:
    """Windows, pairs, failures and prior of one class; ``number`` counts its requests."""

    __slots__ = (
        "_cached",
        "_own",
        "_spread2",
        "_tail",
        "_tail_before",
        "attempts",
        "bound",
        "level",
        "near",
        "number",
        "pairs",
        "prior",
        "windows",
    )

    def __init__(self) -> None:
        self.number = 0
        self.windows: dict[Backend, Window] = {"cpu": Window(), "gpu": Window()}
        self.attempts: dict[Backend, Attempts] = {"cpu": Attempts(), "gpu": Attempts()}
        self.pairs: deque[tuple[int, float]] = deque(maxlen=_PAIRS_MAX)
        self.prior: tuple[float, float] = _UNKNOWN
        self.near: tuple[float, float] | None = None  # what other classes say
        self.bound = 0.0  # the share of the newest pairs that say only which one is longer
        self.level: tuple[Backend, float] | None = None  # whose times were where, when the newest pair came
        self._own: Own | None = None
        self._spread2 = SPREAD_PRIOR**2
        # How much more the GPU's tail adds to the logarithm of its mean than the CPU's, and its variance: now, and
        # before the last drift, after which it is the likeliest still.
        self._tail = self._tail_before = (0.0, 0.0)
        self._cached: Estimate | None = None

    def add(self, backend: Backend, ms: float) -> None:
        """One time of a backend, of the newest request."""
        self.windows[backend].add(self.number, ms)
        self.attempts[backend].add(self.number, failed=False)
        self._cached = self._own = None

    def add_failure(self, backend: Backend) -> None:
        """A request that the backend failed."""
        self.attempts[backend].add(self.number, failed=True)
        self._cached = None

    def forgive(self, backend: Backend) -> None:
        """Its failures are explained and over."""
        self.attempts[backend].clear()
        self._cached = None

    def add_pair(self, cpu_ms: float, gpu_ms: float, *, bound: bool = False) -> None:
        """Both times of one request; ``bound``: the longer one was cancelled."""
        self.bound += 0.5 * (bound - self.bound)
        serving = self._serving()
        times = self.windows[serving]
        self.level = (serving, times.newest_log(_LEVEL)) if len(times) else None
        self.pairs.append((self.number, math.log(max(gpu_ms, 1e-3) / max(cpu_ms, 1e-3))))
        self._cached = self._own = None

    def pair_spread(self, but: int) -> float:
        """The standard deviation of the pairs' logarithms, but for so many of the newest: half of them at most, for
        where all seem strange, that is how they are.
        """
        logs = [one for _, one in self.pairs][: -min(but, len(self.pairs) // 2) or None]
        return math.sqrt(moments(logs, self._spread2).variance_log if logs else self._spread2)

    def set_prior(self, log_ratio: float, error: float) -> None:
        """What is thought before anything is seen."""
        self.prior, self._cached = (log_ratio, error), None

    def set_near(self, near: tuple[float, float] | None) -> None:
        """What other classes say: (log ratio, its error)."""
        self.near, self._cached = near, None

    def forget(self, backend: Backend, keep: int) -> None:
        """After a drift of ``backend``: its newest ``keep`` times stay, the rest becomes the prior.

        The other one may have drifted as far, or not at all: the ratio is thought to lie between.
        """
        known = self.estimate()
        logs = self.windows[backend].logs()
        before, after = logs[: -keep or None], logs[-keep or len(logs) :]
        half = 0.0
        if len(before) >= 2:
            self._spread2 = moments(before).variance_log
        if before and after:
            half = 0.5 * (statistics.fmean(after) - statistics.fmean(before))
        ratio = known.log_times + (half if backend == "gpu" else -half)
        error = math.hypot(known.error, max(_OLD_ERROR, abs(half)))
        self.set_prior(ratio, min(error, max(UNKNOWN_ERROR, abs(half))))
        self.windows[backend].keep_last(keep)
        self.windows[other_of(backend)].keep_last(0)
        fresh = self.number - keep
        self.pairs = deque((pair for pair in self.pairs if pair[0] > fresh), maxlen=_PAIRS_MAX)
        self.near = self.level = self._own = None
        self._tail_before = self._tail

    def doubt(self, serving: Backend) -> None:
        """Something drifted elsewhere: what is known of the other backend is a guess."""
        known = self.estimate()
        self.set_prior(known.log_times, math.hypot(known.error, _OLD_ERROR))
        self.windows[other_of(serving)].keep_last(0)
        self.pairs.clear()
        self.near = self.level = self._own = None
        self._tail_before = self._tail

    def estimate(self) -> Estimate:
        """What is thought now."""
        if self._cached is None:
            self._cached = self._with_failures(self._of_times())
        return self._cached

    def told(self) -> tuple[float, float] | None:
        """(log ratio, its variance) for other classes; None: nothing is known.

        After a drift it is what held before. How much longer a cancelled look would have taken is open.
        """
        own = self.own()
        if own.count:
            return own.log_ratio, own.variance + _BOUND2 * self.bound**2
        ratio, error = self.prior
        return (ratio, error * error) if error < UNKNOWN_ERROR else None

    def own(self) -> Own:
        """What was seen of this class alone."""
        if self._own is None:
            self._own = self._seen()
        return self._own

    @property
    def spread2(self) -> float:
        """The variance of the logarithm that is expected of either backend."""
        return self._spread2

    def last_pairs(self, count: int) -> tuple[tuple[int, float], ...]:
        """(number of the request, logarithm of the ratio) of the newest so many, oldest first."""
        return tuple(self.pairs)[-count:]

    def resume(self, number: int, prior: tuple[float, float], spread2: float) -> None:
        """Go on where an earlier one was, of which times and pairs are added with their numbers."""
        self.number, self.prior, self._spread2 = number, prior, spread2
        self._cached = self._own = None

    def _serving(self) -> Backend:
        """The backend that is seen more."""
        return "cpu" if len(self.windows["cpu"]) >= len(self.windows["gpu"]) else "gpu"

    def _of_times(self) -> Estimate:
        own = self.own()
        (prior, prior_error), near = self.prior, self.near
        if near is not None:
            weight, near_weight = prior_error**-2, near[1] ** -2
            prior = (weight * prior + near_weight * near[0]) / (weight + near_weight)
            prior_error = (weight + near_weight) ** -0.5
        if not own.count:
            return Estimate(prior, prior_error, 0, SPREAD_PRIOR, prior)
        trust = 1.0 / (1.0 + prior_error**2 / own.variance)
        ratio = trust * prior + (1.0 - trust) * own.log_ratio
        error = 1.0 / math.sqrt(prior_error**-2 + 1.0 / own.variance)
        return Estimate(ratio, error, own.count, own.spread, ratio)

    def _seen(self) -> Own:
        since = self.number - _STRETCH
        cpu, gpu = self.windows["cpu"], self.windows["gpu"]
        cpu.forget_before(since, _KEPT)
        gpu.forget_before(since, _KEPT)
        while len(self.pairs) > _KEPT and self.pairs[0][0] < since:
            self.pairs.popleft()
        count = min(len(cpu), len(gpu))
        if not count:
            return Own(0.0, 0.0, 0, SPREAD_PRIOR)
        # The backend that is seen more says what scatter to expect of the other, but for less than is usual.
        serving = self._serving()
        of_serving = self.windows[serving].moments(self._spread2)
        expected2 = max(of_serving.variance_log, SPREAD_PRIOR**2)
        of_other = self.windows[other_of(serving)].moments(expected2)
        of_cpu, of_gpu = (of_serving, of_other) if serving == "cpu" else (of_other, of_serving)
        ratio, variance = of_gpu.mean_log - of_cpu.mean_log, of_gpu.error2 + of_cpu.error2
        variance += _DRIFT2 * abs(cpu.newest - gpu.newest)
        spread2 = of_other.variance_log
        if self.pairs:
            paired = moments([one for _, one in self.pairs], expected2)
            half = 0.5 * self._moved(serving, of_serving.variance_log)
            old2 = _DRIFT2 * (self.number - self.pairs[-1][0]) + half * half
            if paired.error2 + old2 < variance:
                ratio, variance, spread2 = paired.mean_log + half, paired.error2 + old2, paired.variance_log
        self._tail = self._tails(of_cpu, of_gpu)
        return Own(ratio + self._tail[0], variance + self._tail[1] + 1e-5, count, math.sqrt(spread2))

    def _tails(self, cpu: Moments, gpu: Moments) -> tuple[float, float]:
        count, (before, before_variance) = min(cpu.count, gpu.count), self._tail_before
        weight = count / (count + _TAIL_WEIGHT)
        rest = 1.0 - weight
        seen_variance = cpu.tail_variance + gpu.tail_variance
        return (
            weight * (gpu.tail - cpu.tail) + rest * before,
            weight * weight * seen_variance + rest * rest * before_variance,
        )

    def _moved(self, serving: Backend, variance_log: float) -> float:
        """How much the logarithm of the ratio would be another since the newest pair, if only one backend had moved:
        slowly, for what is sudden is forgotten. Both may have, so half of it is believed.
        """
        if self.level is None or self.level[0] != serving:
            return 0.0
        chance = _LEVEL_ERRORS * math.sqrt(2.0 * variance_log / _LEVEL)
        up = self.windows[serving].newest_log(_LEVEL) - self.level[1]
        moved = math.copysign(max(abs(up) - chance, 0.0), up)
        return -moved if serving == "cpu" else moved

    def _with_failures(self, known: Estimate) -> Estimate:
        since = self.number - _STRETCH
        (cpu, cpu_error2), (gpu, gpu_error2) = (self.attempts[one].share(since) for one in BACKENDS)
        if not cpu and not gpu:
            return known
        ratio = math.exp(min(max(known.log_ratio, -30.0), 30.0))
        failure = FAILED_TIMES * max(ratio, 1.0)
        of_gpu, of_cpu = ratio * (1.0 - gpu) + failure * gpu, 1.0 - cpu + failure * cpu
        by_gpu, by_cpu = (failure - ratio) / of_gpu, (failure - 1.0) / of_cpu
        error2 = known.error * known.error
        error2 += by_gpu**2 * gpu_error2 + by_cpu**2 * cpu_error2
        return replace(known, log_ratio=math.log(of_gpu / of_cpu), error=math.sqrt(error2))
