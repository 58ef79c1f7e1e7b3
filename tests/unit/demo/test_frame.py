"""Frames: the bytes of version 1, and what is not one."""

from __future__ import annotations

import numpy as np
import pytest

from edgeagent.demo.frame import BANDS, encode_scene, read_clusters, read_planes
from edgeagent.demo.scene import NORTH_CAROLINA, generate_scene
from edgeagent.model.errors import BadRequest

GOLDEN = (
    "4546524d010001000200000001000000060000000000000000000000"
    "5b0000000000000000c04940"
)  # fmt: skip


def test_golden_header() -> None:
    frame = encode_scene(
        np.arange(12, dtype=np.uint8).reshape(6, 1, 2), NORTH_CAROLINA, day_of_year=91, sun_elevation_deg=51.5
    )
    assert frame[:40].hex() == GOLDEN
    assert np.frombuffer(frame[40:128], "<f8").tolist() == [
        630534.0,
        228114.0,
        28.5,
        33.75,
        -79.0,
        36.16666666666666,
        34.33333333333334,
        609601.22,
        0.0,
        6378137.0,
        298.257222101,
    ]
    assert frame[128:160] == bytes(32)
    assert frame[160:] == bytes(range(12))
    assert read_planes(frame).tolist() == np.arange(12).reshape(6, 1, 2).tolist()
    assert len(BANDS) == 6


def test_what_is_not_a_frame() -> None:
    good = generate_scene(32).encode()
    for bad in (b"", good[:159], b"x" + good[1:], good[:4] + b"\2" + good[5:]):
        with pytest.raises(BadRequest):
            read_planes(bad)
    for bad in (good[:-1], good + b"x"):
        with pytest.raises(BadRequest, match="cut off or too long"):
            read_planes(bad)
    with pytest.raises(BadRequest, match="not a frame of clusters"):
        read_clusters(good)
