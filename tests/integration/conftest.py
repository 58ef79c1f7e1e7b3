"""One daemon serves all tests of a module; tests that break daemons start their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.daemon import Daemon


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    started = Daemon(tmp_path_factory.mktemp("node") / "state", "http.body_bytes_max=1000000")
    yield started
    assert started.stop() == 0, started.log_text()


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """``start_daemon(*settings, state="name")``; stopped at the end of the test."""
    started: list[Daemon] = []

    def start(*settings: str, state: str = "state") -> Daemon:
        started.append(Daemon(tmp_path / state, *settings))
        return started[-1]

    yield start
    for daemon in started:
        daemon.stop()
