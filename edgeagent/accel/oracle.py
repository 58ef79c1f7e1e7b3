"""The best that one choice per size class and drift segment could have done, known only afterwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from edgeagent.accel.evidence import FAILED_TIMES
from edgeagent.accel.segments import drift_segments
from edgeagent.accel.settings import Backend
from edgeagent.accel.size_classes import size_class
from edgeagent.accel.traces import Traces

__all__ = ["failure_ms", "oracle_choices"]


def failure_ms(traces: Traces, slo_ms: float) -> float:
    """What a request without an answer counts as where means are compared: as long as the longest, or the limit."""
    return max(*traces.cpu_ms, *traces.gpu_ms, slo_ms)


def _mean_ms(times: Sequence[float], numbers: Sequence[int], failed_ms: float) -> float:
    return sum(times[one] if times[one] >= 0.0 else failed_ms for one in numbers) / len(numbers)


def _failed_ms(traces: Traces, numbers: Sequence[int], lost_ms: float) -> float:
    """What a failure counts as in the choice: as in the controller, ten times what is usual on the slower backend."""
    means = []
    for times in (traces.cpu_ms, traces.gpu_ms):
        answered = [times[one] for one in numbers if times[one] >= 0.0]
        means.append(sum(answered) / len(answered) if answered else 0.0)
    return FAILED_TIMES * max(means) or lost_ms


def oracle_choices(traces: Traces, slo_ms: float, first: int = 0) -> list[Backend]:
    """The backend of the lower mean for each request, by those from number ``first`` on where its cell has any."""
    choices: list[Backend] = ["cpu"] * len(traces)
    for start, end in drift_segments(traces):
        cells: dict[int, list[int]] = defaultdict(list)
        for number in range(start, end):
            cells[size_class(traces.sizes[number])].append(number)
        for numbers in cells.values():
            counted = [number for number in numbers if number >= first] or numbers
            failed_ms = _failed_ms(traces, counted, failure_ms(traces, slo_ms))
            if _mean_ms(traces.gpu_ms, counted, failed_ms) < _mean_ms(traces.cpu_ms, counted, failed_ms):
                for number in numbers:
                    choices[number] = "gpu"
    return choices
