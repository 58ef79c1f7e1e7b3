"""Server processes under test: start on a free loopback port, wait until they answer right, stop for
certain.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgeagent.bench.guests import EXPECTED, INPUT

__all__ = [
    "ServerFailed",
    "ServerProcess",
    "cpu_seconds",
    "free_port",
    "memory_kib",
    "post",
    "server",
]

START_S = 20.0
STOP_S = 5.0
_POLL_S = 0.01
_TICKS = os.sysconf("SC_CLK_TCK")


class ServerFailed(Exception):
    """A server did not start or answered wrongly; the message ends with the tail of its log."""


@dataclass(frozen=True)
class ServerProcess:
    """A running server: where to POST, and which process to look at."""

    pid: int
    port: int
    path: str
    fate: Callable[[], str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    def check(self) -> None:
        """Raise ServerFailed unless the server adds 1 to every byte of 1 KiB; says so when it has died."""
        try:
            answer = post(self.port, self.path, INPUT)
        except (OSError, http.client.HTTPException) as error:
            raise ServerFailed(f"POST {self.path}: {error!r}; {self.fate()}") from error
        if answer != EXPECTED:
            raise ServerFailed(f"POST {self.path}: wrong answer")


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def post(port: int, path: str, body: bytes, timeout_s: float = 30.0) -> bytes:
    """POST on a connection of its own; raises ServerFailed unless the status is 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/octet-stream"})
        reply = connection.getresponse()
        answer = reply.read()
    finally:
        connection.close()
    if reply.status != 200:
        raise ServerFailed(f"POST {path}: status {reply.status}: {answer[:200]!r}")
    return answer


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-800:].strip()


def _fate(process: subprocess.Popen[bytes], log: Path) -> str:
    code = process.poll()
    return f"{'still running' if code is None else f'exited with {code}'}: {_tail(log)}"


def _await_start(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerFailed(_fate(process, log))
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(_POLL_S)
    raise ServerFailed(f"did not listen within {START_S:.0f} s: {_tail(log)}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL for the whole process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
            return


@contextmanager
def server(
    argv: Sequence[str],
    *,
    port: int,
    path: str = "/",
    folder: Path,
    env: Mapping[str, str] | None = None,
    check: bool = True,
) -> Iterator[ServerProcess]:
    """Run a server in ``folder`` (its log goes there) until the block ends; raises ServerFailed."""
    log = folder / f"server-{port}.log"
    with log.open("wb") as sink:
        # A session of its own: Ctrl-C reaches us alone, and we end our servers in order.
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    try:
        _await_start(process, port, log)
        running = ServerProcess(process.pid, port, path, lambda: _fate(process, log))
        if check:
            running.check()
        yield running
    finally:
        _stop(process)


def _stat(pid: int) -> list[str]:
    # The name in parentheses may hold blanks: fields are counted from the last parenthesis.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far; resolution 10 ms on most kernels."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_kib(pid: int) -> dict[str, int]:
    """``Rss``, ``Pss`` and ``Private`` of a process in KiB, from smaps_rollup."""
    values: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        key, _, rest = line.partition(":")
        values[key] = int(rest.split()[0])
    private = values["Private_Clean"] + values["Private_Dirty"]
    return {"Rss": values["Rss"], "Pss": values["Pss"], "Private": private}
