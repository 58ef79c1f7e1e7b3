"""The demo's daemons never outlive the demo, whatever ends it; waited for by pidfd, not by sleeping."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.daemon import environment


@pytest.fixture
def nodes() -> str:
    return "1"


@pytest.fixture
def demo(tmp_path: Path, nodes: str) -> Iterator[subprocess.Popen[str]]:
    """A demo that serves on, and hears Ctrl-C also where the tests themselves run in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "edgeagent",
                "demo",
                "--keep",
                "--nodes",
                nodes,
                "--json",
                "--generated",
                "--out",
                str(tmp_path),
            ],
            stdout=subprocess.PIPE,
            stderr=log,
            env={**environment(), "TMPDIR": str(tmp_path)},
            text=True,
        ) as process,
    ):
        signal.signal(signal.SIGINT, before)
        yield process
        process.kill()


def _daemons_of(process: subprocess.Popen[str]) -> list[int]:
    """A pidfd of each daemon, once the demo has said its JSON."""
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["ok"] is True
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [os.pidfd_open(int(child)) for child in children]


def _ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(30_000))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_nothing_is_left(demo: subprocess.Popen[str], tmp_path: Path, number: int, code: int) -> None:
    _stopped_by(demo, tmp_path, number, code, daemons=1)


@pytest.mark.serial
@pytest.mark.parametrize("nodes", ["8"])
def test_nothing_is_left_of_the_fleet(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    """The one that was killed is a child still, for nobody has waited for it: it has ended, too."""
    _stopped_by(demo, tmp_path, signal.SIGINT, 0, daemons=8)


def _stopped_by(
    process: subprocess.Popen[str], tmp_path: Path, number: int, code: int, *, daemons: int
) -> None:
    pidfds = _daemons_of(process)
    try:
        assert len(pidfds) == daemons
        process.send_signal(number)
        assert process.wait(60) == code
        assert all(_ended(pidfd) for pidfd in pidfds)
    finally:
        for pidfd in pidfds:
            os.close(pidfd)
    if number != signal.SIGKILL:
        assert not list(tmp_path.glob("edgeagent-demo-*")), "the state directory goes too"
