"""``edgeagent demo`` as a user runs it, on the generated scene; on the real one where it is already cached."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeagent.demo.fetch import SCENE_FILES, cache_directory
from tests.integration.daemon import cli

STEPS = ["calibrate", "index", "detect", "cluster", "alert"]


def _demo(tmp_path: Path, *words: str) -> None:
    done = cli("demo", "--nodes", "1", "--once", "--json", "--out", str(tmp_path), *words)
    assert done.returncode == 0, done.stderr.decode()
    document = json.loads(done.stdout)
    assert document["ok"] is True
    found = document["detections"]
    assert found["planted"] == found["found"] > 0
    assert found["missed"] == found["false"] == 0
    assert [step["name"] for step in document["steps"]] == STEPS
    for step in document["steps"]:
        assert step["duration_ms"] > 0
        assert step["backend"] == "cpu"
    assert document["source"] == ("generated" if "--generated" in words else "landsat")
    assert Path(document["picture"]).read_bytes().startswith(b"\x89PNG")
    collection = json.loads((tmp_path / "fires.geojson").read_text())
    for feature in collection["features"]:
        longitude, latitude = feature["geometry"]["coordinates"]
        assert -79 < longitude < -78
        assert 35 < latitude < 36


@pytest.mark.parametrize("seed", ["1", "-77", "123456789012345678901"])
def test_generated_scene(tmp_path: Path, seed: str) -> None:
    _demo(tmp_path, "--generated", "--seed", seed)


def test_real_scene(tmp_path: Path) -> None:
    if not all((cache_directory() / name).exists() for name in SCENE_FILES):
        pytest.skip("the scene is not in the cache; make demo fetches it")
    _demo(tmp_path, "--seed", "5")


def test_a_table_for_people(tmp_path: Path) -> None:
    done = cli("demo", "--nodes", "1", "--generated", "--out", str(tmp_path))
    assert done.returncode == 0
    text = done.stdout.decode()
    assert "GENERATED" in text
    assert "ok: 5 planted, 5 found, 0 missed, 0 false" in text
    for step in STEPS:
        assert step in text
