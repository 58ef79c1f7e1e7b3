"""Frames as Python sees them; ``examples/wildfire/frame.h`` is the other end and says what each field means."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import msgspec

from edgeagent.model.errors import BadRequest

if TYPE_CHECKING:
    import numpy as np

__all__ = ["BANDS", "Georeference", "encode_scene", "read_clusters", "read_planes"]

BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
_MAGIC, _VERSION = 0x4D524645, 1
_DN, _CLUSTERS = 1, 5
_U8, _F32 = 0, 1
_HEADER = struct.Struct("<IHHIIIIII 12d 4d")
_CLUSTER = struct.Struct("<ddIf")


class Georeference(msgspec.Struct, frozen=True, kw_only=True):
    """Where pixel (0, 0) is, and the Lambert conformal conic projection (EPSG method 9802); degrees and metres."""

    origin_x_m: float
    origin_y_m: float
    pixel_m: float
    latitude_0_deg: float
    longitude_0_deg: float
    parallel_1_deg: float
    parallel_2_deg: float
    easting_0_m: float
    northing_0_m: float
    semi_major_m: float = 6378137.0
    inverse_flattening: float = 298.257222101


def encode_scene(
    planes: np.ndarray, georeference: Georeference, *, day_of_year: int, sun_elevation_deg: float
) -> bytes:
    """A frame of digital numbers: ``planes`` is uint8 of shape (bands, height, width)."""
    bands, height, width = planes.shape
    header = _HEADER.pack(
        _MAGIC,
        _VERSION,
        _DN,
        width,
        height,
        bands,
        _U8,
        0,
        day_of_year,
        sun_elevation_deg,
        *msgspec.structs.astuple(georeference),
        *(0.0,) * 4,
    )
    return header + planes.tobytes()


def _header(frame: bytes) -> tuple[int, int, int, int, int, int]:
    """(kind, width, height, bands, dtype, count)."""
    if len(frame) < _HEADER.size:
        raise BadRequest(f"a frame of {len(frame)} bytes is too short")
    magic, version, kind, width, height, bands, dtype, count, *_ = _HEADER.unpack_from(frame)
    if (magic, version) != (_MAGIC, _VERSION):
        raise BadRequest("not a frame of version 1")
    return kind, width, height, bands, dtype, count


def read_planes(frame: bytes) -> np.ndarray:
    """The planes of a frame, shape (bands, height, width), uint8 or float32."""
    import numpy as np

    _, width, height, bands, dtype, _ = _header(frame)
    kind = np.dtype(np.float32 if dtype == _F32 else np.uint8)
    if len(frame) - _HEADER.size != width * height * bands * kind.itemsize:
        raise BadRequest("the frame is cut off or too long")
    return np.frombuffer(frame, kind, offset=_HEADER.size).reshape(bands, height, width)


def read_clusters(frame: bytes) -> list[tuple[float, float, int, float]]:
    """(x, y, pixels, hottest SWIR2) of each cluster."""
    kind, *_, count = _header(frame)
    if kind != _CLUSTERS or len(frame) != _HEADER.size + count * _CLUSTER.size:
        raise BadRequest("not a frame of clusters")
    return list(_CLUSTER.iter_unpack(frame[_HEADER.size :]))
