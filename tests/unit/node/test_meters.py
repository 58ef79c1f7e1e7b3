"""Counters, histograms and their exposition; the loop's lag."""

from __future__ import annotations

import asyncio
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgeagent.node.loop_lag import LoopLag
from edgeagent.node.meters import DURATION_BOUNDS_US, Histogram, Meters


def samples(meters: Meters) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(meters.render().decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_values_fall_into_the_bucket_that_ends_at_or_above_them() -> None:
    histogram = Histogram((10, 100))
    for value_us in (0, 10, 11, 100, 101, 10_000):
        histogram.add(value_us)
    assert histogram.counts == [2, 2, 2]
    assert histogram.count == 6
    buckets, total_s = histogram.exported()
    assert buckets == [("1e-05", 2), ("0.0001", 4), ("+Inf", 6)]
    assert total_s == 0.010222


def test_bounds_rise() -> None:
    assert list(DURATION_BOUNDS_US) == sorted(set(DURATION_BOUNDS_US))


def test_everything_is_exported_in_base_units() -> None:
    meters = Meters()
    meter = meters.function("f")
    assert meters.function("f") is meter
    meter.succeeded(1500, 10, 20)
    meter.failed("guest-trap")
    meter.failed("guest-trap")
    meter.waits.add(50)
    meters.count("deploys")
    meters.count("deploys", 2)
    meters.gauge("functions", "deployed", lambda: 7)
    meters.counter("store_commits", "commits", lambda: 5)
    found = samples(meters)
    assert found["edgeagent_invocations_total{function=f,outcome=success}"] == 1
    assert found["edgeagent_invocations_total{function=f,outcome=guest-trap}"] == 2
    assert found["edgeagent_invocation_duration_seconds_sum{function=f}"] == 0.0015
    assert found["edgeagent_invocation_duration_seconds_bucket{function=f,le=0.001}"] == 0
    assert found["edgeagent_invocation_duration_seconds_bucket{function=f,le=0.002}"] == 1
    assert found["edgeagent_invocation_wait_seconds_count{function=f}"] == 1
    assert found["edgeagent_input_bytes_total{function=f}"] == 10
    assert found["edgeagent_output_bytes_total{function=f}"] == 20
    assert found["edgeagent_deploys_total{}"] == 3
    assert found["edgeagent_functions{}"] == 7
    assert found["edgeagent_store_commits_total{}"] == 5
    assert found["process_resident_memory_bytes{}"] > 0


def test_a_forgotten_function_has_no_series() -> None:
    meters = Meters()
    meters.function("f").succeeded(1, 0, 0)
    meters.forget("f")
    meters.forget("f")
    assert not [name for name in samples(meters) if "function=f" in name]


def test_the_lag_of_a_loop_that_is_held_up_is_seen() -> None:
    async def main() -> None:
        histogram = Histogram((1000,))
        lag = LoopLag(histogram, period_s=0.001)
        lag.start(asyncio.get_running_loop())
        await asyncio.sleep(0.005)
        threading.Event().wait(0.03)  # whatever blocks the loop
        await asyncio.sleep(0.005)
        assert lag.worst_us >= 20_000
        assert lag.last_us <= lag.worst_us
        lag.stop()
        lag.stop()
        count = histogram.count
        await asyncio.sleep(0.005)
        assert histogram.count == count > 1

    asyncio.run(main())


def test_a_quantile_lies_in_its_bucket() -> None:
    histogram = Histogram((10, 100, 1000))
    assert histogram.quantile_us(0.5) is None
    for value in (5, 50, 50, 50, 5000):
        histogram.add(value)
    assert histogram.quantile_us(0.5) == pytest.approx(10 + 90 * 0.5)
    assert histogram.quantile_us(0.2) == 10
    assert histogram.quantile_us(1.0) == 1000
