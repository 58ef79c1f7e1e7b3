"""Sizes, rates and times as types, so that bytes are not taken for bits nor seconds for milliseconds. Pure."""

from __future__ import annotations

import math
from typing import NewType

from edgeagent.state.errors import ElectionRefused

__all__ = [
    "SIZE_BYTES_MAX",
    "BitPerS",
    "Bytes",
    "Ms",
    "UtcS",
    "checked_rate",
    "checked_size",
    "mbit_s",
    "sending_ms",
    "sending_s",
]

Bytes = NewType("Bytes", int)
BitPerS = NewType("BitPerS", float)
Ms = NewType("Ms", float)  # a duration
UtcS = NewType("UtcS", float)  # a moment, seconds since 1970

SIZE_BYTES_MAX = 1 << 53  # beyond it a float does not count single bytes


def checked_size(size_bytes: int) -> Bytes:
    """Raises ElectionRefused for what is no size."""
    if not 0 <= size_bytes <= SIZE_BYTES_MAX:
        raise ElectionRefused(f"a size of {size_bytes} bytes", hint=f"give 0 to {SIZE_BYTES_MAX}")
    return Bytes(size_bytes)


def mbit_s(rate: float) -> BitPerS:
    """A rate that is given in Mbit/s; infinite: its links cost no time. Raises ElectionRefused."""
    return checked_rate(rate * 1e6)


def checked_rate(rate: float) -> BitPerS:
    """Raises ElectionRefused for what is no rate, or less than a bit a second."""
    if not rate >= 1.0:
        raise ElectionRefused(f"a rate of {rate} bit/s", hint="give at least 1")
    return BitPerS(rate)


def sending_s(size: Bytes, rate: BitPerS) -> float:
    """How long so many bytes take to leave, the way not counted."""
    return size * 8.0 / rate if math.isfinite(rate) else 0.0


def sending_ms(size: Bytes, rate: BitPerS) -> Ms:
    """The same in ms."""
    return Ms(sending_s(size, rate) * 1000.0)
