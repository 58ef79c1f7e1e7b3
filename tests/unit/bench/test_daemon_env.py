"""The environment of the benchmark's daemons."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import edgeagent
from edgeagent.accel.gpu_driver import LIBRARY_ENV
from edgeagent.bench.daemon import daemon_env
from edgeagent.node.config import RESERVED_ENV

PACKAGE = str(Path(edgeagent.__file__).parents[1])


@pytest.mark.parametrize("given", ["", "/some/site"])
def test_a_daemon_finds_this_package_first_and_what_else_lies_on_our_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", given)
    places = daemon_env(tmp_path, 1)["PYTHONPATH"].split(os.pathsep)
    assert places == [PACKAGE, *([given] if given else [])]


def test_a_daemon_may_be_given_another_library_of_the_driver() -> None:
    assert LIBRARY_ENV in RESERVED_ENV
