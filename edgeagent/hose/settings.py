"""Where one way of handing bytes over becomes better than another, and how much memory hoses may take.

The defaults were measured on a 2-core x86-64 virtual machine; ``edgeagent bench hose --calibrate`` writes a node's own
into its state directory. What the tiers are: docs/hoses.md; who chooses: native/hose/tier.hpp.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import BadConfig

__all__ = ["CALIBRATION", "TIERS", "Crossovers", "HoseSettings", "load_crossovers", "save_crossovers"]

CALIBRATION = "hose.json"
_MIB = 1 << 20

# In the order of ``Tier`` in native/hose/tier.hpp; these are also the values of the header Edgeagent-Hose.
TIERS = ("none", "copy", "flip", "share", "exchange")


class Crossovers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Smallest sizes, in bytes, from which a tier is used; ``max`` is a largest one.

    ``flip``: pages of the producer move. ``exchange``: they swap with the consumer's, where both slots stay resident;
    ``resident`` is the largest payload for which functions of a chain get such slots. ``window``: bytes that lie in a
    hose already are mapped. ``share``: bytes for several consumers are copied into a hose and mapped. ``loan``: a lent
    buffer is a hose. ``huge``: 2 MiB pages are asked for where a buffer is about to be written.
    """

    flip_bytes_min: int = 256 << 10
    exchange_bytes_min: int = _MIB
    resident_bytes_max: int = 4 * _MIB
    window_bytes_min: int = 512 << 10
    share_bytes_min: int = 512 << 10
    loan_bytes_min: int = 1536 << 10
    huge_bytes_min: int = 4 * _MIB


class HoseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine is told: crossovers, the most bytes of all hoses together, and how long an idle one is kept."""

    crossovers: Crossovers = Crossovers()
    pool_bytes_max: int = 1 << 30
    idle_ms: int = 30_000


def load_crossovers(state_dir: Path) -> Crossovers:
    """The node's calibration, or the defaults where there is none; raises BadConfig where the file is damaged."""
    path = state_dir / CALIBRATION
    try:
        return msgspec.json.decode(path.read_bytes(), type=Crossovers)
    except FileNotFoundError:
        return Crossovers()
    except (*UNDECODABLE, OSError) as error:
        raise BadConfig(
            f"{path} is not a calibration: {error}",
            hint="remove it, or write it anew with: edgeagent bench hose --calibrate",
        ) from None


def save_crossovers(state_dir: Path, crossovers: Crossovers) -> Path:
    """Write the calibration, whole or not at all; returns its path. Raises OSError."""
    path = state_dir / CALIBRATION
    partial = path.with_suffix(".tmp")
    with partial.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(crossovers)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return path
