"""When compressing pays, and that nothing unpacks to more than was announced."""

from __future__ import annotations

import pytest
import zstandard

from edgeagent.hose.compression import CompressionGate, pays, unpack
from edgeagent.hose.errors import FrameRefused

MB = 1e6


@pytest.mark.parametrize(
    ("link", "compressor", "ratio", "expected"),
    [
        (1 * MB, 300 * MB, 0.5, True),
        (117 * MB, 300 * MB, 0.2, True),  # 1 GbE
        (117 * MB, 300 * MB, 0.9, False),  # hardly smaller
        (1200 * MB, 300 * MB, 0.1, False),  # 10 GbE outruns it
        (300 * MB, 300 * MB, 0.1, False),
        (0, 300 * MB, 0.1, False),  # not measured
        (1 * MB, 300 * MB, 0.95, False),
    ],
)
def test_compressing_pays_on_slow_links(
    link: float, compressor: float, ratio: float, *, expected: bool
) -> None:
    assert pays(link, compressor, ratio) is expected


def test_the_gate_follows_what_is_measured() -> None:
    gate = CompressionGate(allowed=True)
    assert not gate.wanted()  # nothing is known yet
    gate.on_link(10 * MB, 1.0)
    assert gate.wanted()
    for _ in range(30):
        gate.on_compressed(1000, 1000, 1e-6)  # does not shrink
    assert [gate.wanted() for _ in range(64)].count(True) == 2  # tries again now and then
    for _ in range(30):
        gate.on_compressed(1000, 300, 1e-6)
    assert gate.wanted()
    for _ in range(60):
        gate.on_link(10_000 * MB, 1.0)
    assert not gate.wanted()


def test_a_gate_that_is_not_allowed_stays_shut() -> None:
    gate = CompressionGate(allowed=False, always=True)
    gate.on_link(1.0, 1.0)
    assert not gate.wanted()
    assert CompressionGate(allowed=True, always=True).wanted()


def test_packing_returns_nothing_where_nothing_is_gained() -> None:
    gate = CompressionGate(allowed=True)
    packed = gate.pack(memoryview(b"a" * 10_000))
    assert packed is not None
    assert unpack(memoryview(packed), 10_000) == b"a" * 10_000
    assert gate.pack(memoryview(bytes(range(50)))) is None


def test_what_is_not_what_was_announced_does_not_unpack() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 24))
    sizeless = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 16))
    wide = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=27)
    ).compressobj()
    streamed = wide.compress(bytes(100)) + wide.flush()
    good = zstandard.ZstdCompressor().compress(b"x" * 1000)
    for stored in (bomb, sizeless, streamed, b"", b"nonsense", good + b"x", good + good, good[:-1]):
        with pytest.raises(FrameRefused):
            unpack(memoryview(stored), 1000)
    assert unpack(memoryview(good), 1000) == b"x" * 1000
