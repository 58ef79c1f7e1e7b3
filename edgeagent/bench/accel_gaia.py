"""A rival of the replay: Gaia's rules, written anew from what its published code does (arXiv 2511.13728).

A loop looks every 30 s at the 95th percentile of the last 10 minutes' answers, or of those since the last change,
taken from a histogram with steps of 1-2-5, and at the rate. The function starts on the CPU; its label changes first,
requests follow once the other backend serves. Failures are not seen. Knobs are those that it ships with; the limit is
the replay's.

1. Below ``_RATE_MIN`` no rule on latency holds.
2. Promote when the percentile is over the limit (over twice the limit at a low rate) and what is remembered of the GPU
   is nothing or 200 ms better.
3. From 2 to 10 minutes after a change: demote when the GPU is not 200 ms better than what is remembered of the CPU,
   promote when the CPU is 200 ms worse than what is remembered of the GPU.
4. Without a change in 10 minutes: demote at a low rate. It is taken over 30 minutes however short the function has
   lived, as the database that it asks does: a young function goes back and forth.

What is remembered is the percentile of the backend that is left, the largest ever; at 100 s on the CPU it stays on the
GPU for good. Where the published rules say nothing we chose: the order of equal ticks, and 5 s until a CPU serves.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from edgeagent.accel.controller import Change
from edgeagent.accel.probing import ProbePlan
from edgeagent.accel.replay import ReplayOptions
from edgeagent.accel.settings import Backend, other_of

__all__ = ["GaiaRules", "bucketed_p95_ms"]

_POLL_S = 30.0
_WINDOW_S = 600.0
_RATE_WINDOW_S = 1800.0
_GUARD_S = 120.0
_GAP_MS = 200.0
_RATE_MIN = 0.1
_RATE_LOW = 0.2
_PIN_MS = 100_000.0
_CPU_START_S = 5.0
# So long after the last answer every window is empty, and the rules find nothing new.
_QUIET_TICKS = math.ceil((_RATE_WINDOW_S + _WINDOW_S) / _POLL_S) + 1
_EDGES_MS = [step * 10.0**power for power in range(6) for step in (1.0, 2.0, 5.0)]


def bucketed_p95_ms(times: Sequence[float]) -> float:
    """The percentile as a histogram tells it: linear within its bucket; 0 where nothing was seen."""
    if not times:
        return 0.0
    rank, below = 0.95 * len(times), 0
    for low, high in pairwise([0.0, *_EDGES_MS]):
        inside = sum(low < one <= high for one in times)
        if inside and below + inside >= rank:
            return low + (high - low) * (rank - below) / inside
        below += inside
    return _EDGES_MS[-1]


class GaiaRules:
    """One function under that loop."""

    reruns = False

    def __init__(self, options: ReplayOptions) -> None:
        self._limit_ms = options.slo_ms or math.inf
        self._cold_s = options.gpu_cold_s
        self._label: Backend = "cpu"
        self._serving: Backend = "cpu"
        self._follows_at_s = 0.0
        self._changed_s = -math.inf
        self._tick_s = _POLL_S
        self._remembered: dict[Backend, float] = {}
        self._seen: deque[tuple[float, float]] = deque()
        self._pinned = False

    def wants_gpu(self, now_s: float) -> bool:
        """Its GPU is there as long as the label says so."""
        del now_s
        return self._label == "gpu"

    def choose(self, now_s: float, size: float, *, gpu_ready: bool) -> tuple[Backend, ProbePlan | None]:
        """By the label, once that backend serves."""
        del size, gpu_ready
        if now_s >= self._follows_at_s:
            self._serving = self._label
        return self._serving, None

    def seen(self, now_s: float, size: float, backend: Backend, ms: float) -> Sequence[Change]:
        """An answer; the ticks that passed since the last one are made up for."""
        del size, backend
        if ms >= 0.0:
            self._seen.append((now_s, ms))
        changes = []
        due = math.floor((now_s - self._tick_s) / _POLL_S) + 1
        for number in range(min(due, _QUIET_TICKS)):
            at_s = self._tick_s + number * _POLL_S
            reason = self._tick(at_s)
            if reason:
                changes.append(self._change(at_s, reason))
        self._tick_s += max(due, 0) * _POLL_S
        return changes

    def probed(
        self, now_s: float, size: float, plan: ProbePlan, served_ms: float, ms: float
    ) -> Sequence[Change]:
        """It makes none."""
        del now_s, size, plan, served_ms, ms
        return ()

    def _tick(self, now_s: float) -> str:
        """Why the label changes now; empty: it does not."""
        while self._seen and self._seen[0][0] < now_s - _RATE_WINDOW_S:
            self._seen.popleft()
        rate = self._answers(now_s, _WINDOW_S) / min(_WINDOW_S, now_s)
        p95_ms = self._p95_ms(now_s)
        since_s = now_s - self._changed_s
        if self._pinned:
            return ""
        if rate >= _RATE_MIN and p95_ms:
            if self._label == "cpu":
                limit = self._limit_ms * (2.0 if rate < _RATE_LOW else 1.0)
                gpu_ms = self._remembered.get("gpu")
                better = gpu_ms is None or gpu_ms < p95_ms - _GAP_MS
                if p95_ms > limit and better:
                    return "over the limit"
                if _GUARD_S <= since_s <= _WINDOW_S and gpu_ms is not None and p95_ms > gpu_ms + _GAP_MS:
                    return "the GPU was better"
            elif (
                _GUARD_S <= since_s <= _WINDOW_S and p95_ms > self._remembered.get("cpu", math.inf) - _GAP_MS
            ):
                return "the GPU is not better"
        seldom = self._answers(now_s, _RATE_WINDOW_S) / _RATE_WINDOW_S < _RATE_MIN
        return "seldom used" if self._label == "gpu" and since_s > _WINDOW_S and seldom else ""

    def _answers(self, now_s: float, window_s: float) -> int:
        return sum(now_s - window_s < at_s <= now_s for at_s, _ in self._seen)

    def _p95_ms(self, now_s: float) -> float:
        since_s = max(now_s - _WINDOW_S, self._changed_s)
        return bucketed_p95_ms([ms for at_s, ms in self._seen if since_s < at_s <= now_s])

    def _change(self, now_s: float, reason: str) -> Change:
        left, p95_ms = self._label, self._p95_ms(now_s)
        self._remembered[left] = max(self._remembered.get(left, 0.0), p95_ms)
        self._label = other_of(left)
        self._pinned = self._label == "gpu" and self._remembered.get("cpu", 0.0) >= _PIN_MS
        self._changed_s = now_s
        self._follows_at_s = now_s + (self._cold_s if self._label == "gpu" else _CPU_START_S)
        return Change(now_s, None, self._label, reason, 0.0)
