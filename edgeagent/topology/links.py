"""What a link is worth: latency and bandwidth by kind and length. Latencies are never rounded to whole milliseconds.

Latency is propagation plus the processing of one hop. The defaults and their sources:

- isl (laser): c in vacuum (SI). 100 Gbit/s, half of what SpaceX states as the most; Stardust takes 200.
- ground (radio): c. Shannon's bound for 240 MHz (Starlink's Ku channel; Humphreys et al., IEEE TAES 59, 2023) and 9 dB
  at 550 km, falling with the square of the range. The 9 dB are an assumption: 760 Mbit/s in the zenith and 370
  at 25 degrees, around the 500 that simulators take.
- fibre: 200 km/ms (ITU-T G.114: 5 us/km, repeaters included), 10 Gbit/s. The cable is longer than the crow flies by
  ITU-T Y.1541: 1.5 D up to 1,000 km, 1,500 km up to 1,200, 1.25 D beyond.
- lan: 200 km/ms, 1 Gbit/s (IEEE 802.3ab).

Processing is 0.01 ms a hop, for a forwarding plane in hardware, and 0.05 on a LAN, for a host's network stack: both
assumptions. A radio's scheduling, which adds 10 ms and more on consumer terminals, is a matter of ``processing_ms`` for
who needs it. Weather is not modelled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeagent.topology.errors import TopologyRefused

__all__ = [
    "DEFAULT_MODELS",
    "LIGHT_KM_MS",
    "LinkKind",
    "LinkModel",
    "LinkModels",
    "bandwidth_mbit_s",
    "fibre_route_km",
    "latency_ms",
]

Floats = NDArray[np.float64]

LIGHT_KM_MS = 299.792458
_FIBRE_KM_MS = 200.0


class LinkKind(IntEnum):
    """What carries a link; the value is its number in arrays."""

    ISL = 0
    GROUND = 1
    FIBRE = 2
    LAN = 3


class LinkModel(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of link. Construction raises TopologyRefused for values that cannot be.

    Where ``channel_mhz`` is given the bandwidth is ``channel log2(1 + snr (at / distance)^2)``, at most
    ``bandwidth_mbit_s``; else it is ``bandwidth_mbit_s``. ``terrestrial`` lengthens distances to those of cables.
    """

    speed_km_ms: float = LIGHT_KM_MS
    processing_ms: float = 0.01
    bandwidth_mbit_s: float = math.inf
    channel_mhz: float = 0.0
    snr_db: float = 0.0
    at_km: float = 1.0
    terrestrial: bool = False

    def __post_init__(self) -> None:
        bad = [name for name in ("speed_km_ms", "bandwidth_mbit_s", "at_km") if not getattr(self, name) > 0.0]
        bad += [
            name for name in ("processing_ms", "channel_mhz") if not 0.0 <= getattr(self, name) < math.inf
        ]
        bad += [] if math.isfinite(self.snr_db) else ["snr_db"]
        if bad:
            raise TopologyRefused(
                f"{bad[0]} of a link is {getattr(self, bad[0])!r}",
                hint="speeds are positive, times at least 0",
            )


LinkModels = Mapping[LinkKind, LinkModel]

DEFAULT_MODELS: LinkModels = MappingProxyType(
    {
        LinkKind.ISL: LinkModel(bandwidth_mbit_s=100_000.0),
        LinkKind.GROUND: LinkModel(channel_mhz=240.0, snr_db=9.0, at_km=550.0),
        LinkKind.FIBRE: LinkModel(speed_km_ms=_FIBRE_KM_MS, bandwidth_mbit_s=10_000.0, terrestrial=True),
        LinkKind.LAN: LinkModel(speed_km_ms=_FIBRE_KM_MS, bandwidth_mbit_s=1_000.0, processing_ms=0.05),
    }
)


def fibre_route_km(distance_km: ArrayLike) -> Floats:
    """The length of a cable between places that are ``distance_km`` apart, by ITU-T Y.1541."""
    distance = np.asarray(distance_km, dtype=np.float64)
    return np.select([distance <= 1000.0, distance <= 1200.0], [1.5 * distance, 1500.0], 1.25 * distance)


def latency_ms(distance_km: ArrayLike, kind: LinkKind, models: LinkModels = DEFAULT_MODELS) -> Floats:
    """One way over one link: propagation over ``distance_km`` and the processing of one hop; the distance's shape."""
    model = models[kind]
    length = fibre_route_km(distance_km) if model.terrestrial else np.asarray(distance_km, dtype=np.float64)
    return np.asarray(length / model.speed_km_ms + model.processing_ms)


def bandwidth_mbit_s(distance_km: ArrayLike, kind: LinkKind, models: LinkModels = DEFAULT_MODELS) -> Floats:
    """What one link carries at most; the distance's shape."""
    model = models[kind]
    distance = np.asarray(distance_km, dtype=np.float64)
    if model.channel_mhz <= 0.0:
        return np.full(distance.shape, model.bandwidth_mbit_s)
    # Closer than a metre nothing is gained, and zero would divide.
    snr = 10.0 ** (model.snr_db / 10.0) * (model.at_km / np.maximum(distance, 1e-3)) ** 2
    return np.asarray(np.minimum(model.channel_mhz * np.log2(1.0 + snr), model.bandwidth_mbit_s))
