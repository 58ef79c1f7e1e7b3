"""What a node counts of its GPUs, and of what it does with kernels, as Prometheus asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from edgeagent.accel.broker_state import State
from edgeagent.node.accel_gpus import Gpus
from edgeagent.node.accel_routing import Routing
from edgeagent.node.meters import PREFIX

__all__ = ["AccelMeters", "CpuMeters"]


class CpuMeters(Collector):
    """Of a node without a GPU: the same of functions, as far as there is anything to tell. ``modes`` gives those that
    ask for kernels with their modes, ``calls`` counts these.
    """

    def __init__(self, modes: Callable[[], Iterable[tuple[str, str]]], calls: Counter[str]) -> None:
        self._modes, self._calls = modes, calls

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        modes, last, calls = _families()
        for name, mode in self._modes():
            modes.add_metric((name, mode), 1.0)
            last.add_metric((name,), 0.0)
            calls.add_metric((name, "cpu"), self._calls[name])
        yield from (modes, last, calls)


class AccelMeters(Collector):
    """Of brokers by device, of functions by name. ``alone`` counts calls of functions that are pinned to the CPU."""

    def __init__(self, gpus: Gpus, routing: Routing, alone: Counter[str]) -> None:
        self._gpus, self._routing, self._alone = gpus, routing, alone

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        yield from self._brokers()
        yield from self._functions()

    def _brokers(self) -> Iterator[Metric]:
        states = GaugeMetricFamily(
            PREFIX + "accel_broker_state",
            "1 for the state that a GPU's broker is in",
            labels=("device", "state"),
        )
        load = GaugeMetricFamily(
            PREFIX + "accel_broker_calls", "calls that wait for a GPU or run there", labels=("device",)
        )
        arena = GaugeMetricFamily(
            PREFIX + "accel_arena_used_bytes", "operands that lie in the arena", labels=("device",)
        )
        starts = CounterMetricFamily(
            PREFIX + "accel_broker_starts", "times that a GPU's broker was started", labels=("device",)
        )
        falls = CounterMetricFamily(
            PREFIX + "accel_broker_falls",
            "times that it was lost, each with all its calls",
            labels=("device",),
        )
        for one in self._gpus.brokers:
            device = (str(one.device),)
            for state in State:
                states.add_metric((*device, str(state)), float(one.life.state is state))
            load.add_metric(device, one.load)
            arena.add_metric(device, one.arena_used_bytes)
            starts.add_metric(device, one.life.starts)
            falls.add_metric(device, one.life.falls)
        yield from (states, load, arena, starts, falls)

    def _functions(self) -> Iterator[Metric]:
        modes, last, calls = _families()
        replays = CounterMetricFamily(
            PREFIX + "accel_function_replays",
            "kernel calls that a GPU did not answer and the CPU did again",
            labels=("function",),
        )
        worked = CounterMetricFamily(
            PREFIX + "accel_gpu_seconds",
            "what GPUs have worked for a function, probes and failures included",
            labels=("function",),
        )
        kernels = CounterMetricFamily(
            PREFIX + "accel_kernel_seconds",
            "what cores and GPUs have worked for kernel calls that were answered",
            labels=("function", "backend"),
        )
        changes = GaugeMetricFamily(
            PREFIX + "accel_last_change",
            "when a function last went to another backend, and why: UTC, seconds since 1970",
            labels=("function", "backend", "reason"),
        )
        for one in self._routing.all():
            name = one.deployed.name
            worked.add_metric((name,), self._gpus.worked_s(name))
            for backend, seconds in one.worked_s.items():
                kernels.add_metric((name, backend), seconds)
            if one.change is not None:
                changes.add_metric((name, one.change.backend, one.change.reason), one.change.at_utc_s)
            modes.add_metric((name, one.mode), 1.0)
            last.add_metric((name,), float(one.last == "gpu"))
            calls.add_metric((name, "cpu"), one.calls["cpu"] + self._alone[name])
            calls.add_metric((name, "gpu"), one.calls["gpu"])
            replays.add_metric((name,), one.replays)
        yield from (modes, last, calls, replays, worked, kernels, changes)


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, CounterMetricFamily]:
    modes = GaugeMetricFamily(
        PREFIX + "accel_mode", "1 for a function's execution mode", labels=("function", "mode")
    )
    last = GaugeMetricFamily(
        PREFIX + "accel_on_gpu", "1 where a function's last kernel was run by a GPU", labels=("function",)
    )
    calls = CounterMetricFamily(
        PREFIX + "accel_backend_calls", "kernel calls by what answered them", labels=("function", "backend")
    )
    return modes, last, calls
