"""The benchmark ``invoke``: what one invocation costs, in process, over HTTP, cold, and in memory."""

from __future__ import annotations

from edgeagent.bench.harness import Case
from edgeagent.bench.http_cases import http_cases
from edgeagent.bench.inprocess import awaited_case, inprocess_case

__all__ = ["cases"]


def cases() -> list[Case]:
    """In the order in which they run: what is most easily disturbed comes first, on a quiet process."""
    return [inprocess_case(), awaited_case(), *http_cases()]
