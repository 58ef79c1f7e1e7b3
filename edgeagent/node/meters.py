"""What a node counts: plain integers on the hot path, turned into Prometheus metrics only when somebody asks.

prometheus-client's own counters take a lock and several microseconds; an invocation here costs a
bisection and a few additions. Everything is written on the event loop's thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from edgeagent.hose.settings import TIERS
from edgeagent.runtime.port import Handover

__all__ = ["CONTENT_TYPE", "PREFIX", "FunctionMeter", "Gauge", "Histogram", "Meters"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "edgeagent_"

_UNITS_US = (10, 100, 1000, 10_000, 100_000, 1_000_000)
DURATION_BOUNDS_US = (*(step * unit for unit in _UNITS_US for step in (1, 2, 5)), 10_000_000, 60_000_000)
WAIT_BOUNDS_US = (100, 1000, 10_000, 100_000, 1_000_000, 10_000_000)
LAG_BOUNDS_US = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 1_000_000)

# A name, its meaning and how to read it now.
Gauge = tuple[str, str, Callable[[], float]]


class Histogram:
    """Counts in fixed buckets; values and bounds in microseconds, exported in seconds."""

    __slots__ = ("bounds_us", "counts", "sum_us")

    def __init__(self, bounds_us: Sequence[int]) -> None:
        self.bounds_us = tuple(bounds_us)
        self.counts = [0] * (len(bounds_us) + 1)
        self.sum_us = 0

    def add(self, value_us: int) -> None:
        self.counts[bisect_left(self.bounds_us, value_us)] += 1
        self.sum_us += value_us

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile_us(self, share: float) -> float | None:
        """Which value so large a share of all is at most, between the bounds of its bucket; None: there is none."""
        wanted, below, total = share * self.count, 0, 0
        if not self.count:
            return None
        for bound_us, count in zip((*self.bounds_us, self.bounds_us[-1]), self.counts, strict=True):
            total += count
            if total >= wanted and count:
                return below + (bound_us - below) * (1.0 - (total - wanted) / count)
            below = bound_us
        return float(below)

    def exported(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative buckets by their upper bound in seconds, and the sum in seconds."""
        names = [repr(bound / 1e6) for bound in self.bounds_us] + ["+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True)), self.sum_us / 1e6


class FunctionMeter:
    """One function's counters since it was first deployed in this process."""

    __slots__ = ("bytes_in", "bytes_out", "cold", "durations", "failures", "inline", "replayed", "waits")

    def __init__(self) -> None:
        self.durations = Histogram(DURATION_BOUNDS_US)
        self.waits = Histogram(WAIT_BOUNDS_US)
        self.failures: dict[str, int] = {}
        self.bytes_in = 0
        self.bytes_out = 0
        self.inline = 0
        self.cold = 0
        self.replayed = 0

    def succeeded(self, duration_us: int, bytes_in: int, bytes_out: int) -> None:
        durations = self.durations
        durations.counts[bisect_left(DURATION_BOUNDS_US, duration_us)] += 1
        durations.sum_us += duration_us
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out

    def failed(self, slug: str) -> None:
        """A run or a call that ended with an error, by the error's stable name."""
        self.failures[slug] = self.failures.get(slug, 0) + 1


class Meters(Collector):
    """All counters of a node, and the registry that ``/metrics`` prints."""

    def __init__(self) -> None:
        self.functions: dict[str, FunctionMeter] = {}
        self.loop_lag = Histogram(LAG_BOUNDS_US)
        self.counters: dict[str, int] = {}
        self.handovers: dict[str, tuple[int, int, int]] = {}  # tier: how many, bytes copied, bytes mapped
        self.gauges: list[Gauge] = []
        self.counter_gauges: list[Gauge] = []
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def function(self, name: str) -> FunctionMeter:
        """The meter of a function, made when it is new."""
        meter = self.functions.get(name)
        if meter is None:
            meter = self.functions[name] = FunctionMeter()
        return meter

    def forget(self, name: str) -> None:
        """A function is gone, and with it its series: their number stays bounded."""
        self.functions.pop(name, None)

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter of the node, for instance ``deploys``; exported as ``edgeagent_deploys_total``."""
        self.counters[name] = self.counters.get(name, 0) + by

    def handed_over(self, tier: str, copied_bytes: int, mapped_bytes: int) -> None:
        """A function's input came by a hose of this tier."""
        count, copied, mapped = self.handovers.get(tier, (0, 0, 0))
        self.handovers[tier] = (count + 1, copied + copied_bytes, mapped + mapped_bytes)

    def received(self, over: Handover) -> None:
        """What a function outside of a chain got beside its body: messages, and values of state, that were mapped."""
        if over.mapped_bytes:
            self.handed_over(TIERS[over.tier], over.copied_bytes, over.mapped_bytes)

    def gauge(self, name: str, doc: str, read: Callable[[], float]) -> None:
        """A value of the node that is read when asked for."""
        self.gauges.append((name, doc, read))

    def counter(self, name: str, doc: str, read: Callable[[], float]) -> None:
        """A counter that somebody else keeps."""
        self.counter_gauges.append((name, doc, read))

    def render(self) -> bytes:
        """The text exposition of everything (type CONTENT_TYPE)."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        yield from self._invocations()
        yield from self._bytes_and_kinds()
        yield from self._hoses()
        lag = HistogramMetricFamily(PREFIX + "loop_lag_seconds", "how late the event loop ran its timers")
        lag.add_metric([], *self.loop_lag.exported())
        yield lag
        for name, doc, read in self.gauges:
            yield GaugeMetricFamily(PREFIX + name, doc, value=read())
        for name, doc, read in self.counter_gauges:
            yield CounterMetricFamily(PREFIX + name, doc, value=read())
        for name, value in sorted(self.counters.items()):
            yield CounterMetricFamily(PREFIX + name, name.replace("_", " "), value=value)

    def _invocations(self) -> Iterator[Metric]:
        outcomes = CounterMetricFamily(
            PREFIX + "invocations", "invocations by how they ended", labels=("function", "outcome")
        )
        durations = HistogramMetricFamily(
            PREFIX + "invocation_duration_seconds",
            "instantiation to copy-out of successes",
            labels=("function",),
        )
        waits = HistogramMetricFamily(
            PREFIX + "invocation_wait_seconds", "time in the queue of those that waited", labels=("function",)
        )
        for name, meter in sorted(self.functions.items()):
            outcomes.add_metric((name, "success"), meter.durations.count)
            for slug, count in sorted(meter.failures.items()):
                outcomes.add_metric((name, slug), count)
            durations.add_metric((name,), *meter.durations.exported())
            waits.add_metric((name,), *meter.waits.exported())
        yield outcomes
        yield durations
        yield waits

    def _hoses(self) -> Iterator[Metric]:
        kinds = (
            (
                "hose_handovers",
                "inputs by how they came from another function; wire: what went to another host",
            ),
            ("hose_copied_bytes", "their bytes that were copied"),
            ("hose_mapped_bytes", "their bytes whose pages were mapped or moved instead"),
        )
        for i, (name, doc) in enumerate(kinds):
            family = CounterMetricFamily(PREFIX + name, doc, labels=("tier",))
            for tier, values in sorted(self.handovers.items()):
                family.add_metric((tier,), values[i])
            yield family

    def _bytes_and_kinds(self) -> Iterator[Metric]:
        kinds = (
            ("input_bytes", "bytes given to functions", "bytes_in"),
            ("output_bytes", "bytes that functions gave back", "bytes_out"),
            ("invocations_inline", "invocations that ran on the event loop's thread", "inline"),
            ("invocations_cold", "invocations that had to load their function", "cold"),
            ("invocations_replayed", "answers of an earlier run with the same Idempotency-Key", "replayed"),
        )
        for name, doc, attribute in kinds:
            family = CounterMetricFamily(PREFIX + name, doc, labels=("function",))
            for function, meter in sorted(self.functions.items()):
                family.add_metric((function,), getattr(meter, attribute))
            yield family
