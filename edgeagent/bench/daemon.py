"""Our daemon as a process of its own, the way a user runs it: default configuration, own state directory."""

from __future__ import annotations

import http.client
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edgeagent.bench.processes import ServerFailed, ServerProcess, free_port, server

__all__ = ["daemon", "daemon_command", "daemon_env", "deploy"]


def daemon_command(module: str = "edgeagent", *args: str) -> list[str]:
    return [sys.executable, "-m", module, *(args or ("run", "--exit-with-parent"))]


def daemon_env(folder: Path, port: int) -> dict[str, str]:
    """The environment of a daemon whose state and cache lie in ``folder``, with all else at its default."""
    package = str(Path(__file__).resolve().parents[2])
    return {
        "EDGEAGENT_HTTP_LISTEN": f"127.0.0.1:{port}",
        "EDGEAGENT_NODE_STATE_DIR": str(folder / "state"),
        "EDGEAGENT_NODE_CACHE_DIR": str(folder / "cache"),
        # The same package as this process runs, installed or not; and what it needs may lie on a path too.
        "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", "")))),
    }


@contextmanager
def daemon(
    folder: Path, path: str = "/functions/add1", more: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    """A daemon that listens, nothing deployed yet; ``more`` is environment."""
    port = free_port()
    env = {**daemon_env(folder, port), **(more or {})}
    with server(daemon_command(), port=port, path=path, folder=folder, env=env, check=False) as process:
        yield process


def deploy(port: int, name: str, wasm: bytes, manifest: str = "") -> None:
    """PUT a function, with a manifest (TOML) where one is given; raises ServerFailed unless the daemon takes it."""
    body, kind = wasm, "application/wasm"
    if manifest:
        parts = {b"wasm": wasm, b"manifest": manifest.encode()}
        pieces = [
            b'--part\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % part
            for part in parts.items()
        ]
        body, kind = b"".join([*pieces, b"--part--\r\n"]), "multipart/form-data; boundary=part"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("PUT", f"/v1/functions/{name}", body, {"Content-Type": kind})
        reply = connection.getresponse()
        answer = reply.read()
    finally:
        connection.close()
    if reply.status not in (200, 201):
        raise ServerFailed(f"deploy of {name}: status {reply.status}: {answer[:300]!r}")
