"""The scene that the demo looks at: six bands of digital numbers with their georeference, real or generated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from edgeagent.demo.frame import Georeference, encode_scene
from edgeagent.demo.sensor import DAY_OF_YEAR, SUN_ELEVATION_DEG
from edgeagent.model.errors import Unavailable

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Scene", "generate_scene", "read_landsat"]

# North Carolina's state plane on GRS 80 (the files' own GeoKeys, read by read_landsat; also what is generated).
NORTH_CAROLINA = Georeference(
    origin_x_m=630534.0,
    origin_y_m=228114.0,
    pixel_m=28.5,
    latitude_0_deg=33.75,
    longitude_0_deg=-79.0,
    parallel_1_deg=36.16666666666666,
    parallel_2_deg=34.33333333333334,
    easting_0_m=609601.22,
    northing_0_m=0.0,
)


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """``planes`` is uint8 of shape (6, height, width), in the order of ``frame.BANDS``; 0 means no data."""

    source: Literal["landsat", "generated"]
    planes: Any
    georeference: Georeference

    def encode(self) -> bytes:
        return encode_scene(
            self.planes, self.georeference, day_of_year=DAY_OF_YEAR, sun_elevation_deg=SUN_ELEVATION_DEG
        )


def read_landsat(paths: list[Path]) -> Scene:
    """Read the six GeoTIFF files; raises Unavailable when tifffile or the georeference is missing."""
    import numpy as np

    try:
        import tifffile
    except ImportError:
        raise Unavailable("tifffile is not installed", hint="pip install 'edgeagent[demo]'") from None
    planes: list[Any] = []
    keys: dict[str, Any] = {}
    for path in paths:
        with tifffile.TiffFile(path) as tiff:
            values = np.asarray(tiff.pages[0].asarray(), np.float64)
            keys = tiff.geotiff_metadata or keys
        planes.append(np.where((values > 0) & (values <= 255), values, 0).astype(np.uint8))
    return Scene(source="landsat", planes=np.stack(planes), georeference=_georeference(keys))


def _georeference(keys: dict[str, Any]) -> Georeference:
    try:
        tie, scale = keys["ModelTiepoint"], keys["ModelPixelScale"]
        return Georeference(
            origin_x_m=tie[3] - tie[0] * scale[0],
            origin_y_m=tie[4] + tie[1] * scale[1],
            pixel_m=scale[0],
            latitude_0_deg=keys["ProjFalseOriginLatGeoKey"],
            longitude_0_deg=keys["ProjFalseOriginLongGeoKey"],
            parallel_1_deg=keys["ProjStdParallel1GeoKey"],
            parallel_2_deg=keys["ProjStdParallel2GeoKey"],
            easting_0_m=keys["ProjFalseOriginEastingGeoKey"],
            northing_0_m=keys["ProjFalseOriginNorthingGeoKey"],
            semi_major_m=keys["GeogSemiMajorAxisGeoKey"],
            inverse_flattening=keys["GeogInvFlatteningGeoKey"],
        )
    except (KeyError, IndexError) as error:
        raise Unavailable(f"the scene's georeference lacks {error}") from None


# Typical digital numbers (mean, spread) of the six bands in the real scene's land covers.
_COVERS = (
    ("forest", (72, 55, 45, 75, 75, 38), 4),
    ("field", (82, 70, 62, 95, 105, 62), 7),
    ("town", (105, 92, 92, 70, 100, 80), 12),
    ("soil", (98, 88, 98, 82, 130, 95), 8),
    ("water", (74, 52, 38, 18, 12, 9), 2),
)


def generate_scene(side: int = 320, seed: int = 7) -> Scene:
    """A small made-up scene: patches of five land covers with noise, nothing in it burns."""
    import numpy as np

    random = np.random.default_rng(seed)
    patches = _smooth(random.normal(size=(side, side)), 9)
    wet = _smooth(random.normal(size=(side, side)), 15)
    cover = np.digitize(patches, np.quantile(patches, (0.5, 0.8, 0.93)))
    cover[wet > np.quantile(wet, 0.94)] = 4
    planes = np.empty((6, side, side), np.uint8)
    for band in range(6):
        mean = np.array([numbers[band] for _, numbers, _ in _COVERS], np.float64)[cover]
        spread = np.array([noise for _, _, noise in _COVERS], np.float64)[cover]
        values = mean + spread * random.normal(size=(side, side)).clip(-2.5, 2.5)
        planes[band] = values.clip(1, 255).round()
    return Scene(source="generated", planes=planes, georeference=NORTH_CAROLINA)


def _smooth(field: np.ndarray, radius: int) -> np.ndarray:
    import numpy as np

    kernel = np.ones(2 * radius + 1) / (2 * radius + 1)
    for axis in (0, 1):
        for _ in range(2):
            field = np.apply_along_axis(lambda line: np.convolve(line, kernel, mode="same"), axis, field)
    return field
