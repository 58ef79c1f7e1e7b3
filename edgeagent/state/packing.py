"""Pieces of state on a link: zstd by how fast the link is, or as they are.

Level 1 packs 140 MiB/s of mixed data on one slow core and level 3 about 50 (shared notes on state): below 100 Mbit/s
the link is the slower one either way, and level 3 saves more of it. Data whose beginning does not shrink travels raw,
for the price of that beginning. Pure; the time it takes belongs on a thread.
"""

from __future__ import annotations

import zstandard

from edgeagent.hose.compression import unpack as unpack_frame
from edgeagent.hose.errors import FrameRefused
from edgeagent.state.errors import BadTransfer

__all__ = ["RAW", "level_for", "pack", "unpack"]

RAW = 0
_SLOW_BIT_S = 100e6
_SAMPLE_BYTES = 16 << 10
_RATIO_MIN = 1.05


def level_for(rate_bit_s: float) -> int:
    """The zstd level for a link; ``rate_bit_s`` 0: unknown."""
    return 3 if 0 < rate_bit_s < _SLOW_BIT_S else 1


def pack(data: bytes, level: int) -> bytes | None:
    """One zstd frame that is smaller by a twentieth or more, or None: as it is."""
    if level == RAW or not data:
        return None
    compressor = zstandard.ZstdCompressor(level=level, write_content_size=True)
    if len(data) > 2 * _SAMPLE_BYTES:
        sample = compressor.compress(data[:_SAMPLE_BYTES])
        if len(sample) * _RATIO_MIN > _SAMPLE_BYTES:
            return None
    packed = compressor.compress(data)
    return packed if len(packed) * _RATIO_MIN < len(data) else None


def unpack(packed: bytes, size_bytes: int) -> bytes:
    """Raises BadTransfer for what is not one frame of ``size_bytes`` bytes, before memory is taken for it."""
    try:
        return unpack_frame(memoryview(packed), size_bytes)
    except FrameRefused as error:
        raise BadTransfer(str(error)) from None
