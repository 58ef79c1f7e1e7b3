"""What a node shows of itself at /metrics, beside what its parts export themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeagent.node.node import Node
    from edgeagent.runtime.artifacts import ArtifactStore

__all__ = ["export_gauges"]


def export_gauges(node: Node, artifacts: ArtifactStore) -> None:
    """Of the engine, the functions, the journal and the state database."""
    meters, engine, functions = node.meters, node.engine, node.functions
    invoker, store = node.invoker, node.store
    for name, doc, read in (
        ("functions", "functions deployed", lambda: len(functions.list())),
        ("functions_loaded", "functions loaded", lambda: len(functions.entries)),
        ("active_calls", "callers being served", lambda: invoker.active),
        ("queue_waiting", "calls that wait for their turn", lambda: functions.queue.waiting),
        ("engine_live_instances", "instances that exist now", lambda: engine.stats().live_instances),
        ("engine_workers", "worker threads", lambda: engine.stats().workers),
        ("engine_workers_busy", "worker threads that run a guest", lambda: engine.stats().workers_busy),
        ("artifact_bytes", "disk used by modules", artifacts.usage_bytes),
        ("journal_records", "records of the journal", lambda: node.totals.records),
        ("journal_bytes", "inputs and results in the journal", lambda: node.totals.bytes),
        ("journal_waiting", "async invocations that wait", lambda: invoker.background.waiting),
        ("journal_running", "async invocations that run", lambda: invoker.background.running),
        ("hose_pool_bytes", "memory of all hoses", lambda: engine.hose_stats().bytes),
        ("hose_pool_idle_bytes", "of those not lent", lambda: engine.hose_stats().idle_bytes),
        ("draining", "1 while the node drains", lambda: node.draining),
    ):
        meters.gauge(name, doc, read)
    for name, doc, read in (
        (
            "engine_inline_overruns",
            "inline runs that were handed over",
            lambda: engine.stats().inline_overruns,
        ),
        (
            "hose_quarantined",
            "instances set aside, for the kernel would not take their windows away",
            lambda: engine.hose_stats().quarantined,
        ),
        ("hose_loans_refused", "loans that could not be had", lambda: engine.hose_stats().refused),
        ("queue_refused", "calls refused because a queue was full", lambda: functions.queue.refused),
        ("store_commits", "transactions of the state database", lambda: store.commits),
        ("store_writes", "callers served by them", lambda: store.writes),
        ("guest_lines_dropped", "guest log lines over the bounds", lambda: invoker.guest_log.dropped),
    ):
        meters.counter(name, doc, read)
