"""The benchmark ``accel``: the execution-mode identifier against labelled cases."""

from __future__ import annotations

from edgeagent.bench.harness import Case

__all__ = ["cases"]


def cases() -> list[Case]:
    from edgeagent.bench import accel_emi

    return [*accel_emi.cases()]
