"""The demo's daemons never outlive the demo, whatever ends it; waited for by pidfd, not by sleeping.

The fleet of eight is started once: what it found, then that nothing is left of it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def _said(process: subprocess.Popen[str], log: Path) -> Any:
    """The demo's JSON, once it has found its fires and serves on."""
    assert process.stdout is not None
    document = json.loads(process.stdout.readline())
    assert document["ok"] is True, log.read_text(encoding="utf-8")
    return document


def _daemons_of(process: subprocess.Popen[str]) -> list[int]:
    """A pidfd of each daemon."""
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
    _said(demo, tmp_path / "log")
    _stopped_by(demo, tmp_path, number, code, daemons=1)


@pytest.mark.serial
@pytest.mark.parametrize("nodes", ["8"])
def test_the_fleet(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    """Eight daemons; every run finds the fires, and one outlives the node that executed a step of it.

    The one that was killed is a child still, for nobody has waited for it: it has ended, too.
    """
    document = _said(demo, tmp_path / "log")
    assert document["detections"] == {"planted": 5, "found": 5, "missed": 0, "false": 0}
    kinds = sorted(one["kind"] for one in document["nodes"].values())
    assert kinds == ["cloud", "edge", "edge", "ground", *["satellite"] * 4]
    assert len(document["runs"]) >= 3
    for run in document["runs"]:
        assert run["ok"] is True
        assert {step["node"] for step in run["steps"]} <= document["nodes"].keys()
        assert all(step["why"] and step["predicted_ms"] is not None for step in run["steps"])
    _killed_and_replaced(document)
    for name in ("picture", "map"):
        assert Path(document[name]).read_bytes().startswith(b"\x89PNG")
    _stopped_by(demo, tmp_path, signal.SIGINT, 0, daemons=8)
    text = (tmp_path / "log").read_text(encoding="utf-8")
    assert "sat-1" in text
    assert "Traceback" not in text


def _killed_and_replaced(document: Any) -> None:
    last = document["runs"][-1]
    assert document["steps"] == last["steps"]
    assert last["killed_step"] == "vet"
    vet = next(step for step in last["steps"] if step["name"] == "vet")
    assert vet["node"] == last["rerun_on"] != document["killed_node"]
    assert document["nodes"][document["killed_node"]]["kind"] == "satellite"


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
