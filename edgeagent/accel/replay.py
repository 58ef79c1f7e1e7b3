"""One client sends the recorded requests, one after the other, and a chooser says where each runs.

Request k takes row k of its backend's file; the next starts ``think_s`` after its answer. The GPU is ready
``gpu_cold_s`` after it is first wanted; requests sent to it before wait. A probe runs beside its request and does not
delay the answer, but its seconds count and cost; where the request failed, there is none.

A request that fails is asked once more of the other backend, where the chooser may do so and it is there: it then takes
the other's row (how long a failure took is not recorded). One that fails for good counts as a violation of the limit
and is left out of the means, as is usual with published latencies; only ``regret_pct`` counts it, as the longest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from edgeagent.accel.controller import Change, Controller
from edgeagent.accel.probing import ProbePlan
from edgeagent.accel.settings import Backend, other_of
from edgeagent.accel.traces import Traces

__all__ = ["Chooser", "Fixed", "Ours", "Play", "ReplayOptions", "Served", "play"]


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """Prices are US dollars for a second of one core and of the GPU; ``slo_ms`` 0: no limit."""

    slo_ms: float = 1000.0
    think_s: float = 0.0
    gpu_cold_s: float = 0.0
    cpu_usd_s: float = 0.000034
    gpu_usd_s: float = 0.000095
    seed: int = 1


@dataclass(frozen=True)
class Served:
    """``ms`` is -1 where nothing answered; ``gpu_s`` and ``cpu_s`` were used, probes included."""

    at_s: float
    backend: Backend
    ms: float
    cpu_s: float
    gpu_s: float
    probed: bool


@dataclass
class Play:
    """What happened to each request, and the changes with the number of the request before which each held."""

    served: list[Served] = field(default_factory=list)
    changes: list[tuple[int, Change]] = field(default_factory=list)
    ends_s: float = 0.0


class Chooser(Protocol):
    """What a contestant answers. Times are seconds of the replay."""

    reruns: bool

    def wants_gpu(self, now_s: float) -> bool: ...

    def choose(self, now_s: float, size: float, *, gpu_ready: bool) -> tuple[Backend, ProbePlan | None]: ...

    def seen(self, now_s: float, size: float, backend: Backend, ms: float) -> Sequence[Change]: ...

    def probed(
        self, now_s: float, size: float, plan: ProbePlan, served_ms: float, ms: float
    ) -> Sequence[Change]: ...


class Fixed:
    """Each request where it was said beforehand: the static choices, and the oracle, which may ask again.

    ``waits``: for a GPU that is not ready; else the CPU serves until it is.
    """

    def __init__(self, backends: Sequence[Backend], *, reruns: bool, waits: bool = True) -> None:
        self._backends, self.reruns, self._number, self._waits = backends, reruns, -1, waits
        self._wants = "gpu" in backends

    def wants_gpu(self, now_s: float) -> bool:
        del now_s
        return self._wants

    def choose(self, now_s: float, size: float, *, gpu_ready: bool) -> tuple[Backend, ProbePlan | None]:
        del now_s, size
        self._number += 1
        return self._backends[self._number] if gpu_ready or self._waits else "cpu", None

    def seen(self, now_s: float, size: float, backend: Backend, ms: float) -> Sequence[Change]:
        del now_s, size, backend, ms
        return ()

    def probed(
        self, now_s: float, size: float, plan: ProbePlan, served_ms: float, ms: float
    ) -> Sequence[Change]:
        del now_s, size, plan, served_ms, ms
        return ()


class Ours:
    """The controller."""

    reruns = True

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def wants_gpu(self, now_s: float) -> bool:
        del now_s
        return self._controller.wants_gpu

    def choose(self, now_s: float, size: float, *, gpu_ready: bool) -> tuple[Backend, ProbePlan | None]:
        self._controller.gpu_is(ready=gpu_ready)
        route = self._controller.route(now_s, size)
        return route.backend, route.probe

    def seen(self, now_s: float, size: float, backend: Backend, ms: float) -> Sequence[Change]:
        change = self._controller.served(now_s, size, backend, max(ms, 0.0), failed=ms < 0.0)
        return () if change is None else (change,)

    def probed(
        self, now_s: float, size: float, plan: ProbePlan, served_ms: float, ms: float
    ) -> Sequence[Change]:
        change = self._controller.probed(now_s, size, plan, served_ms, max(ms, 0.0), failed=ms < 0.0)
        return () if change is None else (change,)


class _Gpu:
    """When it is there."""

    def __init__(self, cold_s: float) -> None:
        self._cold_s, self.ready_at_s = cold_s, math.inf

    def wanted(self, now_s: float) -> None:
        self.ready_at_s = min(self.ready_at_s, now_s + self._cold_s)

    def ready(self, now_s: float) -> bool:
        return now_s >= self.ready_at_s


def play(traces: Traces, chooser: Chooser, options: ReplayOptions) -> Play:
    """Replay all the requests."""
    played, now_s, gpu = Play(), 0.0, _Gpu(options.gpu_cold_s)
    for number in range(len(traces)):
        size = traces.sizes[number]
        if chooser.wants_gpu(now_s):
            gpu.wanted(now_s)
        backend, plan = chooser.choose(now_s, size, gpu_ready=gpu.ready(now_s))
        waited_ms = 0.0
        if backend == "gpu" and not gpu.ready(now_s):
            gpu.wanted(now_s)
            waited_ms = (gpu.ready_at_s - now_s) * 1000.0
        ms = traces.ms(backend)[number]
        used = dict.fromkeys(("cpu", "gpu"), 0.0)
        used[backend] += max(ms, 0.0)
        other = other_of(backend)
        answer_ms = ms
        if ms < 0.0 and chooser.reruns and (other == "cpu" or gpu.ready(now_s)):
            answer_ms = traces.ms(other)[number]
            used[other] += max(answer_ms, 0.0)
        end_s = now_s + (max(answer_ms, 0.0) + waited_ms) / 1000.0
        changes = list(chooser.seen(end_s, size, backend, ms + waited_ms if ms >= 0.0 else ms))
        if ms < 0.0 <= answer_ms:
            changes += chooser.seen(end_s, size, other, answer_ms)
        if plan is not None and ms >= 0.0:  # after a failure the other one has answered, as in a node
            probe_ms = traces.ms(plan.backend)[number]
            limit_ms = plan.limit_ms(answer_ms)
            used[plan.backend] += min(max(probe_ms, 0.0), limit_ms)
            changes += chooser.probed(end_s, size, plan, answer_ms, min(probe_ms, limit_ms))
        played.changes += [(number + 1, change) for change in changes]
        total_ms = answer_ms + waited_ms if answer_ms >= 0.0 else -1.0
        played.served.append(
            Served(now_s, backend, total_ms, used["cpu"] / 1000.0, used["gpu"] / 1000.0, plan is not None)
        )
        now_s = end_s + options.think_s
    played.ends_s = now_s
    return played
