"""A daemon of the demo's own: a subprocess that ends with the demo, however the demo ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeagent.model.errors import PeerFailed

__all__ = ["begin_daemon", "daemon", "end_daemon", "is_ready"]

_STOP_S = 15


@contextmanager
def daemon(state: Path, listen: str = "127.0.0.1:0") -> Iterator[dict[str, Any]]:
    """What the daemon said when it was ready: ``url``, ``node``, ``pid``. Stopped on every way out.

    Raises PeerFailed when it does not start.
    """
    process = begin_daemon(state, {}, listen=listen)
    try:
        yield is_ready(process)
    finally:
        end_daemon(process)


def begin_daemon(
    state: Path,
    settings: Mapping[str, str],
    *,
    listen: str = "127.0.0.1:0",
    config: Path | None = None,
    log_level: str = "warning",
) -> subprocess.Popen[str]:
    """Started, not yet ready.

    ``--exit-with-parent`` has the kernel stop it when the demo is killed; the session of its own keeps Ctrl-C from
    reaching it before the demo has said goodbye.
    """
    command = [
        sys.executable,
        "-m",
        "edgeagent",
        "run",
        "--json",
        "--exit-with-parent",
        "--log-level",
        log_level,
    ]
    command += ["--listen", listen, "--state-dir", str(state), "--set", f"node.cache_dir={state}/cache"]
    if config is not None:
        command += ["--config", str(config)]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    package = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": package + os.pathsep + os.environ.get("PYTHONPATH", "")}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment, text=True, start_new_session=True
    )


def is_ready(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What it said when it was. Raises PeerFailed."""
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


def end_daemon(process: subprocess.Popen[str]) -> None:
    """Idempotent."""
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
