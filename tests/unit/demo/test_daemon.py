"""The demo's daemon: what happens when it does not start, and when it does not stop."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edgeagent.demo import daemon as module
from edgeagent.demo.daemon import daemon
from edgeagent.model.errors import PeerFailed


def _instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Another program takes the daemon's place."""
    program = tmp_path / "program"
    program.write_text(f"#!{sys.executable}\n{text}\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(PeerFailed, match=r"did not start: .*192\.0\.2\.1"), daemon(tmp_path, "192.0.2.1:1"):
        pass


def test_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _instead(tmp_path, monkeypatch, "")
    with pytest.raises(PeerFailed, match="did not start") as raised, daemon(tmp_path):
        pass
    assert "doctor" in raised.value.hint


def test_deaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = (
        "import json, os, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(json.dumps({'url': 'http://x', 'pid': os.getpid()}), flush=True)\n"
        "while True: signal.pause()"
    )
    _instead(tmp_path, monkeypatch, deaf)
    monkeypatch.setattr(module, "_STOP_S", 0.05)
    with daemon(tmp_path) as ready:
        os.kill(ready["pid"], 0)
    with pytest.raises(ProcessLookupError):
        os.kill(ready["pid"], 0)
