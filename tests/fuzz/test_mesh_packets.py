"""A short run of the packet fuzzer; ``make fuzz`` plays a million."""

from __future__ import annotations

import pytest

from tests.fuzz.mesh_packets import fuzz


@pytest.mark.parametrize("seed", [1, 2])
def test_any_packet_is_taken_or_refused(seed: int) -> None:
    tally = fuzz(20_000, seed)
    assert tally.refused_by_seal > 2000
    assert tally.refused_by_codec > 2000
    assert tally.members >= 4
