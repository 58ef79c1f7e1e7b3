"""The benchmark ``hose``: what it costs to hand a function's output to the next one."""

from __future__ import annotations

from edgeagent.bench.harness import Case
from edgeagent.bench.hose_cycle import cycle_cases
from edgeagent.bench.hose_fanout import fanout_cases
from edgeagent.bench.hose_handover import handover_cases, publish_cases
from edgeagent.bench.hose_process import process_cases
from edgeagent.bench.hose_remote import remote_cases

__all__ = ["cases"]


def cases() -> list[Case]:
    """Whole cycles first: the hand-over alone flatters."""
    return [
        *cycle_cases(),
        *handover_cases(),
        *fanout_cases(),
        *publish_cases(),
        *process_cases(),
        *remote_cases(),
    ]
