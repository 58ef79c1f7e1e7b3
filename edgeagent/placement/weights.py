"""What the scores weigh, per SLO class. The unit of all scores is one millisecond of waiting.

The conversions are choices, not measurements: they say how long one would rather wait than spend a unit more.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

__all__ = ["WEIGHTS", "Weights", "unknown_class", "weights_of"]


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds that a unit is worth.

    ``ms_per_usd``: 1e5 would rather wait 1 ms than spend 0.00001 dollars. ``ms_per_wh``: 1e4 would rather wait 10 ms
    than take a milliwatt-hour from a battery or a socket. ``ms_per_place``: each call that waits in front, beside the
    time that it takes. ``ms_per_c``: each degree over the recommended temperature.
    """

    ms_per_usd: float = 1e5
    ms_per_wh: float = 1e4
    ms_per_place: float = 1.0
    ms_per_c: float = 5.0


WEIGHTS: Mapping[str, Weights] = MappingProxyType(
    {
        "default": Weights(),
        # Money and energy count only between nodes that are about as near, and a queue is shunned.
        "latency": Weights(ms_per_usd=1e3, ms_per_wh=1e2, ms_per_place=5.0, ms_per_c=1.0),
        # Nobody waits: ten times the default for what is spent, and queues are where such work belongs.
        "batch": Weights(ms_per_usd=1e6, ms_per_wh=1e5, ms_per_place=0.1, ms_per_c=20.0),
        "cost": Weights(ms_per_usd=1e8, ms_per_wh=1e4),
        "energy": Weights(ms_per_usd=1e5, ms_per_wh=1e7, ms_per_c=50.0),
    }
)


def unknown_class(slo_class: str) -> str:
    """What is to be said of a class that has no weights of its own; empty: it has. Names are free (a later version may
    know more of them), so that none is refused.
    """
    if slo_class in WEIGHTS:
        return ""
    known = ", ".join(WEIGHTS)
    return f"slo.class = {slo_class[:63]!r} is not known here, and counts as 'default'; known are {known}"


def weights_of(slo_class: str) -> Weights:
    """The weights of a class; those of "default" for one that is not known."""
    return WEIGHTS.get(slo_class, WEIGHTS["default"])
