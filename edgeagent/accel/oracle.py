"""The best that one choice per size class and drift segment could have done, known only afterwards."""

from __future__ import annotations

from collections import defaultdict

from edgeagent.accel.segments import drift_segments
from edgeagent.accel.settings import Backend
from edgeagent.accel.size_classes import size_class
from edgeagent.accel.traces import Traces

__all__ = ["failure_ms", "oracle_choices"]


def failure_ms(traces: Traces, slo_ms: float) -> float:
    """What a request without an answer counts as where means are compared: as long as the longest, or the limit."""
    return max(*traces.cpu_ms, *traces.gpu_ms, slo_ms)


def oracle_choices(traces: Traces, slo_ms: float) -> list[Backend]:
    """The backend of the lower mean for each request; requests that failed are asked of the other backend."""
    lost_ms = failure_ms(traces, slo_ms)
    choices: list[Backend] = ["cpu"] * len(traces)
    for start, end in drift_segments(traces):
        cells: dict[int, list[int]] = defaultdict(list)
        for number in range(start, end):
            cells[size_class(traces.sizes[number])].append(number)
        for numbers in cells.values():
            totals = dict.fromkeys(("cpu", "gpu"), 0.0)
            for number in numbers:
                cpu, gpu = traces.cpu_ms[number], traces.gpu_ms[number]
                totals["cpu"] += cpu if cpu >= 0.0 else gpu if gpu >= 0.0 else lost_ms
                totals["gpu"] += gpu if gpu >= 0.0 else cpu if cpu >= 0.0 else lost_ms
            if totals["gpu"] < totals["cpu"]:
                for number in numbers:
                    choices[number] = "gpu"
    return choices
