"""A daemon of the demo's own: a subprocess that ends with the demo, however the demo ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeagent.model.errors import PeerFailed

__all__ = ["daemon"]

_STOP_S = 15


@contextmanager
def daemon(state: Path, listen: str = "127.0.0.1:0") -> Iterator[dict[str, Any]]:
    """What the daemon said when it was ready: ``url``, ``node``, ``pid``. Stopped on every way out.

    ``--exit-with-parent`` has the kernel stop it when the demo is killed; the session of its own keeps Ctrl-C from
    reaching it before the demo has said goodbye. Raises PeerFailed when it does not start.
    """
    command = [
        sys.executable,
        "-m",
        "edgeagent",
        "run",
        "--json",
        "--exit-with-parent",
        "--log-level",
        "warning",
    ]
    command += ["--listen", listen, "--state-dir", str(state), "--set", f"node.cache_dir={state}/cache"]
    package = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": package + os.pathsep + os.environ.get("PYTHONPATH", "")}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment, text=True, start_new_session=True
    ) as process:
        try:
            yield _ready(process)
        finally:
            _stop(process)


def _ready(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        said: dict[str, Any] = json.loads(line)
    except ValueError:
        raise PeerFailed(
            "the demo's daemon did not start", hint="edgeagent doctor says what is missing"
        ) from None
    if "url" not in said:
        raise PeerFailed(f"the demo's daemon did not start: {said.get('problem', {}).get('detail', line)}")
    return said


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
