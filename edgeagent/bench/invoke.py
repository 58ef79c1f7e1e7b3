"""The benchmark ``invoke``: what one invocation costs, in process, over HTTP, cold, and in memory."""

from __future__ import annotations

from edgeagent.bench.awaited import awaited_case
from edgeagent.bench.footprint import footprint_cases
from edgeagent.bench.footprint_mesh import idle_mesh_case
from edgeagent.bench.harness import Case
from edgeagent.bench.http_cases import http_cases
from edgeagent.bench.inprocess import inprocess_case
from edgeagent.bench.lag_case import lag_case

__all__ = ["cases"]


def cases() -> list[Case]:
    """In the order in which they run: what is most easily disturbed comes first, while no other process is
    up.
    """
    return [inprocess_case(), awaited_case(), *footprint_cases(), idle_mesh_case(), lag_case(), *http_cases()]
