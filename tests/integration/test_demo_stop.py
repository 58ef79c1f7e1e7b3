"""The demo's daemon never outlives the demo, whatever ends it; waited for by pidfd, not by sleeping."""

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
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo that serves on."""
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "edgeagent",
                "demo",
                "--keep",
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
        yield process
        process.kill()


def _daemon_of(process: subprocess.Popen[str]) -> int:
    """A pidfd of the daemon, once the demo has said its JSON."""
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["ok"] is True
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    return os.pidfd_open(int(children[0]))


def _ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(30_000))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_nothing_is_left(demo: subprocess.Popen[str], tmp_path: Path, number: int, code: int) -> None:
    pidfd = _daemon_of(demo)
    try:
        demo.send_signal(number)
        assert demo.wait(30) == code
        assert _ended(pidfd)
    finally:
        os.close(pidfd)
    if number != signal.SIGKILL:
        assert not list(tmp_path.glob("edgeagent-demo-*")), "the state directory goes too"
