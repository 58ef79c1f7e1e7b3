"""The benchmark ``accel``: what a function's code says of CPU and GPU, and what the controller's choice is worth."""

from __future__ import annotations

from edgeagent.bench.harness import Case

__all__ = ["cases"]


def cases() -> list[Case]:
    """The identifier against labelled code, the controller over synthetic traces, then whole calls of real guests."""
    from edgeagent.bench import (
        accel_auto,
        accel_broker,
        accel_emi,
        accel_promotion,
        accel_replay,
        accel_sharing,
        accel_zero_copy,
    )

    return [
        *accel_emi.cases(),
        *accel_replay.replay_cases(),
        *accel_promotion.promotion_cases(),
        *accel_auto.auto_cases(),
        *accel_broker.broker_cases(),
        *accel_zero_copy.zero_copy_cases(),
        *accel_sharing.sharing_cases(),
    ]
