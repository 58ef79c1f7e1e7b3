"""How many replies of each status: plain integers on the hot path, a Prometheus family when asked for."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

__all__ = ["ReplyMeter"]


class ReplyMeter(Collector):
    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}

    def replied(self, status: int) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily("edgeagent_http_replies", "HTTP replies by status", labels=("status",))
        for status, count in sorted(self.statuses.items()):
            family.add_metric((str(status),), count)
        yield family
