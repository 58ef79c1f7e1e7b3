"""The picture: it is drawn, it marks what it should, and without matplotlib nothing breaks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgeagent.demo.picture import CLOSE_UPS_MAX, draw
from edgeagent.demo.plant import Fire, plant
from edgeagent.demo.scene import generate_scene


def _collection(fires: list[Fire]) -> dict[str, Any]:
    features = [
        {
            "geometry": {"coordinates": [-78.7, 35.7]},
            "properties": {"x_px": fire.x_px, "y_px": fire.y_px, "pixels": fire.side_px**2, "swir2_max": 0.5},
        }
        for fire in fires
    ]
    return {"features": features}


@pytest.mark.parametrize("count", [0, 1, CLOSE_UPS_MAX + 1])
def test_drawn(tmp_path: Path, count: int) -> None:
    pytest.importorskip("matplotlib")
    scene, fires = plant(generate_scene(160), 1, count)
    assert draw(tmp_path / "a.png", scene, _collection(fires), fires)
    image = _pixels(tmp_path / "a.png")
    assert 900 < image.shape[0] < 1400
    assert 1200 < image.shape[1] < 1400
    yellow = (image[..., :3] == (255, 212, 0)).all(axis=-1).sum()
    assert (yellow > 500) if count else (yellow < 500), "the legend has one mark, each alert a circle more"


def test_only_what_has_data_is_shown(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    scene = generate_scene(160)
    half = scene.planes.copy()
    half[3, 80:] = 0
    draw(tmp_path / "whole.png", scene, _collection([]), [])
    draw(tmp_path / "half.png", msgspec.structs.replace(scene, planes=half), _collection([]), [])
    assert _pixels(tmp_path / "half.png").shape[0] < 0.7 * _pixels(tmp_path / "whole.png").shape[0]


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not draw(tmp_path / "a.png", generate_scene(64), _collection([]), [])
    assert not (tmp_path / "a.png").exists()


def _pixels(path: Path) -> np.ndarray[Any, Any]:
    import matplotlib.image

    return np.asarray(np.round(matplotlib.image.imread(path) * 255), np.uint8)
