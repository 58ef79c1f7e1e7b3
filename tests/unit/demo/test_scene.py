"""The scenes: the generated one, the real one where it is in the cache, and files that lack something."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from edgeagent.demo.fetch import SCENE_FILES, cache_directory
from edgeagent.demo.scene import NORTH_CAROLINA, generate_scene, read_landsat
from edgeagent.model.errors import Unavailable


def test_generated_scene_is_the_same_each_time() -> None:
    one, other = generate_scene(), generate_scene()
    assert (one.planes == other.planes).all()
    assert one.source == "generated"
    assert one.planes.shape == (6, 320, 320)
    assert one.planes.dtype == np.uint8
    assert one.planes.min() > 0
    assert (generate_scene(seed=8).planes != one.planes).any()


def test_the_real_scene() -> None:
    paths = [cache_directory() / name for name in SCENE_FILES]
    if not all(path.exists() for path in paths):
        pytest.skip("the scene is not in the cache; make demo fetches it")
    scene = read_landsat(paths)
    assert scene.source == "landsat"
    assert scene.planes.shape == (6, 443, 489)
    assert scene.georeference == NORTH_CAROLINA
    assert 0.6 < (scene.planes > 0).all(axis=0).mean() < 0.7, "the rest has no data in some band"


def test_a_file_without_georeference(tmp_path: Path) -> None:
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, np.full((4, 4), -99999, np.float32))
    with pytest.raises(Unavailable, match="georeference lacks 'ModelTiepoint'"):
        read_landsat([path])


def test_without_tifffile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(Unavailable, match="tifffile is not installed") as raised:
        read_landsat([])
    assert raised.value.hint == "pip install 'edgeagent[demo]'"
