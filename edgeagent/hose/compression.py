"""Whether to compress on the way to another host, and how; the decision is arithmetic on measured rates.

One thread compresses and then sends, so a byte costs ``1/compressor + ratio/link`` seconds instead of ``1/link``.
That pays only on links much slower than the compressor; on loopback it is never asked.
"""

from __future__ import annotations

import zstandard

from edgeagent.hose.errors import FrameRefused

__all__ = ["CompressionGate", "pays", "unpack"]

LEVEL = 1
_GAIN_MIN = 0.9  # of the time without; less is not worth the heat
_PRIOR_RATE = 300e6  # bytes/s, until the compressor has been measured
_PRIOR_RATIO = 0.5
_WEIGHT = 0.3  # of a new sample
_PROBE_EVERY = 32  # chunks between tries on data that did not shrink


def pays(link_rate: float, compressor_rate: float, ratio: float) -> bool:
    """True when compressing is faster; rates in bytes/s of raw data in, ``ratio`` is stored to raw (0 to 1)."""
    if link_rate <= 0 or compressor_rate <= link_rate:
        return False
    return 1 / compressor_rate + ratio / link_rate < _GAIN_MIN / link_rate


def _mixed(old: float | None, new: float) -> float:
    return new if old is None else old + _WEIGHT * (new - old)


class CompressionGate:
    """The measured rates of one connection. ``allowed`` is False on loopback and where the peer has no zstd."""

    def __init__(self, *, allowed: bool, always: bool = False) -> None:
        self.allowed = allowed
        self._always = always
        self._link_rate: float | None = None
        self._rate: float | None = None
        self._ratio: float | None = None
        self._skipped = 0
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)

    def on_link(self, stored_bytes: float, seconds: float) -> None:
        """So many bytes went over the link in that time."""
        if seconds > 0 and stored_bytes > 0:
            self._link_rate = _mixed(self._link_rate, stored_bytes / seconds)

    def on_compressed(self, raw_bytes: int, stored_bytes: int, seconds: float) -> None:
        """One chunk was compressed."""
        self._rate = _mixed(self._rate, raw_bytes / max(seconds, 1e-9))
        self._ratio = _mixed(self._ratio, stored_bytes / raw_bytes)

    def wanted(self) -> bool:
        """True if the next chunk is to be compressed."""
        if not self.allowed:
            return False
        if self._always:
            return True
        if self._link_rate is None:
            return False
        rate = _PRIOR_RATE if self._rate is None else self._rate
        if pays(self._link_rate, rate, _PRIOR_RATIO if self._ratio is None else self._ratio):
            return True
        self._skipped += 1  # data change: what did not shrink before may do so now
        return self._skipped % _PROBE_EVERY == 0 and pays(self._link_rate, rate, _PRIOR_RATIO)

    def pack(self, chunk: memoryview) -> bytes | None:
        """The chunk as one zstd frame, or None where it would not get smaller."""
        packed = self._compressor.compress(chunk)
        return packed if len(packed) < len(chunk) else None


def unpack(stored: memoryview, length: int) -> bytes:
    """The ``length`` bytes of one zstd frame. Raises FrameRefused for all else, before memory is taken."""
    try:
        # Without this check the library would take as much memory as the frame says.
        declared = zstandard.frame_content_size(stored)
        if declared != length:
            raise FrameRefused(f"a compressed payload of {declared} bytes, and {length} were announced")
        raw = zstandard.ZstdDecompressor(max_window_size=1 << 23).decompress(
            stored, max_output_size=length, read_across_frames=False, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise FrameRefused(f"a compressed payload does not unpack: {error}") from None
    if len(raw) != length:
        raise FrameRefused("a compressed payload is shorter than announced")
    return raw
