"""The benchmark ``accel``: CPU or GPU, and what the choice is worth."""

from __future__ import annotations

from edgeagent.bench.accel_replay import replay_cases
from edgeagent.bench.harness import Case

__all__ = ["cases"]


def cases() -> list[Case]:
    """Of the controller over synthetic traces."""
    return [*replay_cases()]
