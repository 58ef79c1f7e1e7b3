"""What is known of one size class: how many times the CPU's time the GPU takes, and how sure that is.

``log_ratio`` = log(mean GPU time / mean CPU time): below 0 the GPU is faster. Three sources:

1. *Pairs*: both backends on the same request, so that what the input does cancels out.
2. The windows of both, where they are of the same stretch: better where times scatter for other reasons.
3. A *prior*: neighbouring classes, or what held before the last drift.

Of the first two the one of lower variance is taken, its tail corrected by the windows, and weighed with the prior.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from edgeagent.accel.settings import Backend
from edgeagent.accel.window import SPREAD_PRIOR, Window, moments

__all__ = ["Estimate", "Evidence"]

_PAIRS_MAX = 24
_STRETCH = 200  # requests of the class: what is older is not compared
_TAIL_WEIGHT = 12.0  # samples at which the seen tail counts half
_OLD_ERROR = 0.7  # standard error of what held before a drift
_UNKNOWN_ERROR = 1.5


@dataclass(frozen=True)
class Estimate:
    """``error`` is the standard error of ``log_ratio``; ``count`` the samples of the backend with fewer."""

    log_ratio: float
    error: float
    count: int

    def gain_of(self, backend: Backend) -> float:
        """The logarithm of how much faster this backend is than the other."""
        return -self.log_ratio if backend == "gpu" else self.log_ratio


class Evidence:
    """Windows, pairs and prior of one class; ``number`` counts its requests."""

    __slots__ = ("_cached", "number", "pairs", "prior", "windows")

    def __init__(self) -> None:
        self.number = 0
        self.windows: dict[Backend, Window] = {"cpu": Window(), "gpu": Window()}
        self.pairs: deque[tuple[int, float]] = deque(maxlen=_PAIRS_MAX)
        self.prior: tuple[float, float] = (0.0, _UNKNOWN_ERROR)
        self._cached: Estimate | None = None

    def add(self, backend: Backend, ms: float) -> None:
        """One time of a backend, of the newest request."""
        self.windows[backend].add(self.number, ms)
        self._cached = None

    def add_pair(self, cpu_ms: float, gpu_ms: float) -> None:
        """Both times of one request."""
        self.pairs.append((self.number, math.log(max(gpu_ms, 1e-3) / max(cpu_ms, 1e-3))))
        self._cached = None

    def pair_spread(self) -> float:
        """The standard deviation of the pairs' logarithms."""
        return math.sqrt(moments([one for _, one in self.pairs]).variance_log) if self.pairs else SPREAD_PRIOR

    def set_prior(self, log_ratio: float, error: float) -> None:
        self.prior, self._cached = (log_ratio, error), None

    def forget(self, backend: Backend, keep: int) -> None:
        """After a drift of ``backend``: its newest ``keep`` times stay, the rest becomes the prior."""
        known = self.estimate()
        self.set_prior(known.log_ratio, math.hypot(known.error, _OLD_ERROR))
        for one, window in self.windows.items():
            window.keep_last(keep if one == backend else 0)
        fresh = self.number - keep
        self.pairs = deque((pair for pair in self.pairs if pair[0] > fresh), maxlen=_PAIRS_MAX)

    def estimate(self) -> Estimate:
        """What is thought now."""
        if self._cached is None:
            self._cached = self._estimated()
        return self._cached

    def _estimated(self) -> Estimate:
        since = self.number - _STRETCH
        cpu, gpu = (self.windows[one].logs(since) for one in ("cpu", "gpu"))  # type: ignore[index]
        count = min(len(cpu), len(gpu))
        prior, prior_error = self.prior
        if not count:
            return Estimate(prior, prior_error, 0)
        of_cpu, of_gpu = moments(cpu), moments(gpu)
        ratio = of_gpu.mean_log - of_cpu.mean_log
        variance = of_gpu.variance_log / of_gpu.count + of_cpu.variance_log / of_cpu.count
        pairs = [one for number, one in self.pairs if number >= since]
        if pairs:
            paired = moments(pairs)
            if paired.variance_log / paired.count < variance:
                ratio, variance = paired.mean_log, paired.variance_log / paired.count
        weight = count / (count + _TAIL_WEIGHT)
        ratio += weight * (of_gpu.tail - of_cpu.tail)
        variance += weight * weight * (of_gpu.tail_variance + of_cpu.tail_variance) + SPREAD_PRIOR**2 / 400.0
        trust = prior_error**-2 / (prior_error**-2 + 1.0 / variance)
        return Estimate(
            trust * prior + (1.0 - trust) * ratio,
            math.sqrt(1.0 / (prior_error**-2 + 1.0 / variance)),
            count,
        )
