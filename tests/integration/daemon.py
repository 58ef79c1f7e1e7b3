"""A real daemon in a process of its own, for tests that go through its doors."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.integration.nursery import Born, nursery

__all__ = ["Daemon", "Reply", "cli", "patience"]

ROOT = Path(__file__).resolve().parents[2]
LOOK_EVERY_S = 0.01
PROGRAM = ("-m", "edgeagent")
WASM = {"Content-Type": "application/wasm"}


class Reply:
    """Status, headers (lower-case names) and body of a reply."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def slug(self) -> str:
        """The last part of a problem's type."""
        assert self.headers["content-type"] == "application/problem+json"
        problem = self.json()
        assert problem["status"] == self.status
        return str(problem["type"]).removeprefix("urn:edgeagent:problem:")


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("EDGEAGENT_") or k == "EDGEAGENT_NATIVE"}
    return {**kept, "PYTHONPATH": str(ROOT)}


def patience(seconds: float = 60.0) -> Iterator[None]:
    """For loops that ask again until what they ask for has come; it ends after a time, however fast a look is.

    Looks are a moment apart: one after the other they would take a processor from those who are waited for.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield
        time.sleep(LOOK_EVERY_S)


class Daemon:
    """``edgeagent run`` on a free port; ``settings`` are --set KEY=VALUE; it logs beside its state or to ``log``."""

    def __init__(self, state: Path, *settings: str, start: bool = True, log: Path | None = None) -> None:
        self.state = state
        self.log_path = log or state.parent / f"{state.name}.log"
        self.settings = settings
        self.listen = "127.0.0.1:0"
        self.program: tuple[str, ...] = PROGRAM
        self.process: Born | subprocess.Popen[str]
        if start:
            self.start()

    def start(self) -> None:
        self.spawn()
        self.wait_ready()

    def spawn(self) -> None:
        """The process alone: several that are spawned before the first is waited for start at once."""
        words = ["run", "--json", "--listen", self.listen, "--state-dir", str(self.state)]
        words.append("--exit-with-parent")
        for item in (f"node.cache_dir={self.state}/cache", *self.settings):
            words += ["--set", item]
        self.log = self.log_path.open("ab")
        around = environment()
        if self.program == PROGRAM and nursery().is_for(around):
            self.process = nursery().born(words, around, self.log)
        else:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, *words],
                stdout=subprocess.PIPE,
                stderr=self.log,
                env=around,
                text=True,
            )

    def wait_ready(self) -> None:
        """Until it serves."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log_text()
        self.ready = json.loads(line)
        assert self.ready["ok"], self.ready
        self.url = str(self.ready.get("url", ""))
        self.port = int(self.url.rpartition(":")[2]) if self.url else 0

    def log_text(self) -> str:
        return self.log_path.read_text(encoding="utf-8")

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def deploy(self, guest: str, name: str = "", manifest: str = "") -> Reply:
        from tests.guests import wasm

        name = name or guest.replace("_", "-")
        if not manifest:
            return self.request("PUT", f"/v1/functions/{name}", wasm(guest), WASM)
        boundary = "edge"
        parts = [("wasm", wasm(guest)), ("manifest", f'[function]\nname = "{name}"\n{manifest}'.encode())]
        body = b"".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{part}"\r\n\r\n'.encode() + data + b"\r\n"
            for part, data in parts
        )
        body += f"--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self.request("PUT", f"/v1/functions/{name}", body, headers)

    def invoke(self, name: str, body: bytes = b"", **headers: str) -> Reply:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.request("POST", f"/functions/{name}", body, named)

    def metric(self, name: str) -> float:
        """The sum of all series of a metric."""
        text = self.request("GET", "/metrics").body.decode()
        return sum(
            float(v) for v in re.findall(rf"^{name}(?:\{{[^}}]*\}})? ([0-9.e+-]+)$", text, re.MULTILINE)
        )

    def wait_metric(self, name: str, value: float) -> None:
        """Ask until the metric has the value."""
        for _ in patience():
            if self.metric(name) == value:
                return
        raise AssertionError(f"{name} is {self.metric(name)}, not {value}")

    def open_fds(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)
        self._close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        self._close()
        return code

    def _close(self) -> None:
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()


def cli(*words: str, node: str = "", stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run ``edgeagent`` as a user does."""
    extra = {"EDGEAGENT_NODE": node} if node else {}
    return subprocess.run(
        [sys.executable, "-m", "edgeagent", *words],
        input=stdin,
        capture_output=True,
        env={**environment(), **extra},
        timeout=120,
        check=False,
    )
