"""What is known of a GPU, metric by metric: where each value came from, or why it is absent.

Unknown is not zero. No source is taken as a whole: some stacks answer for temperature and not for power, some say
SUCCESS with zeros or garbage (notes of glances #3580 and nv-monitor #17), so each value must be one that can be, and
the next source is asked where it cannot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

__all__ = ["METRICS", "GpuReading", "Look", "Metric", "absent", "first_of", "measured", "merged"]

Source = Literal["", "nvml", "sysfs", "meminfo"]

# Each metric with its unit and the range of what can be. Zero degrees, watts or hertz are what broken stacks say.
METRICS: Mapping[str, tuple[str, float, float]] = {
    "utilisation": ("share from 0 to 1", 0.0, 1.0),
    "memory_used_bytes": ("bytes", 0.0, 2.0**50),
    "memory_total_bytes": ("bytes", 1.0, 2.0**50),
    "temperature_c": ("degrees Celsius", -60.0, 150.0),
    "temperature_limit_c": ("degrees Celsius at which the clocks are held back", 20.0, 150.0),
    "power_w": ("watts of the GPU, or of the rail that it shares", 0.001, 5000.0),
    "power_limit_w": ("watts", 0.001, 5000.0),
    "board_power_w": ("watts of the whole board", 0.001, 5000.0),
    "clock_mhz": ("MHz", 0.001, 20000.0),
    "clock_max_mhz": ("MHz", 0.001, 20000.0),
    "throttle_reasons": ("bits as NVML has them", 0.0, 2.0**53),
    "ecc_uncorrected": ("errors since the driver was loaded", 0.0, 2.0**53),
    "reset_needed": ("1: rows of the memory wait for a reset to be remapped, or could not be", 0.0, 1.0),
    "xid": ("the last critical error's number", 0.0, 2.0**32),
}


class Metric(msgspec.Struct, frozen=True):
    """``value`` None: absent, and ``why`` says why; else ``why`` names the call or the file that gave it."""

    value: float | None = None
    source: Source = ""
    why: str = ""


class GpuReading(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU at one look. ``metrics`` has every name of METRICS; ``xids`` came since the look before.

    ``lost``: the driver says that it is gone, in ``lost_why``.
    """

    index: int
    name: str = ""
    uuid: str = ""
    integrated: bool = False
    metrics: dict[str, Metric] = {}
    xids: tuple[int, ...] = ()
    lost: bool = False
    lost_why: str = ""

    def value(self, metric: str) -> float | None:
        """None where it is absent."""
        found = self.metrics.get(metric)
        return None if found is None else found.value


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """All GPUs; ``nvml`` is empty while NVML answers, else says why it does not."""

    gpus: tuple[GpuReading, ...] = ()
    nvml: str = ""


def absent(why: str) -> Metric:
    """A metric that a source does not have."""
    return Metric(why=why[:200])


def measured(metric: str, value: float, source: Source, where: str) -> Metric:
    """What a source said, or an absence where that cannot be."""
    _, least, most = METRICS[metric]
    if not math.isfinite(value) or not least <= value <= most:
        return absent(f"{where} says {value:g}, which cannot be")
    if metric == "temperature_c" and value == 0.0:
        return absent(f"{where} says 0 degrees, as sensors do that are none")
    return Metric(value, source, where[:200])


def first_of(chain: Sequence[Metric]) -> Metric:
    """The first that has a value; without one an absence with the reasons of all."""
    for one in chain:
        if one.value is not None:
            return one
    return absent("; ".join(dict.fromkeys(one.why for one in chain if one.why)) or "no source has it")


def merged(by_nvml: Sequence[GpuReading], jetson: GpuReading | None) -> tuple[GpuReading, ...]:
    """The GPUs, where a Jetson's own has what its files say first and NVML's values for the rest."""
    if jetson is None:
        return tuple(by_nvml)
    for place, one in enumerate(by_nvml):
        if one.integrated:
            both = {
                name: first_of([jetson.metrics[name], one.metrics.get(name, absent("nvml: not asked"))])
                for name in METRICS
            }
            whole = msgspec.structs.replace(one, metrics=both, name=one.name or jetson.name)
            return (*by_nvml[:place], whole, *by_nvml[place + 1 :])
    return (*by_nvml, msgspec.structs.replace(jetson, index=len(by_nvml)))
