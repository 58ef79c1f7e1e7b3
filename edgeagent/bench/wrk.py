"""wrk as the HTTP client: one run of a few seconds, its figures as numbers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

__all__ = [
    "PEER_PREFIX",
    "WrkFailed",
    "WrkResult",
    "find_program",
    "parse",
    "run_wrk",
    "start_wrk",
    "write_script",
]

PEER_PREFIX = "EDGEAGENT_BENCH_"

# ``string.char`` with numbers keeps any byte of the body out of Lua's quoting rules.
_SCRIPT = """
wrk.method = "POST"
wrk.body = %(body)s
wrk.headers["Content-Type"] = "application/octet-stream"
function done(summary, latency, requests)
  local e = summary.errors
  io.stdout:write(string.format(
    '\\n{"requests":%%d,"duration_us":%%d,"errors":%%d,"bad_status":%%d,"p50_us":%%d,"p90_us":%%d,"p99_us":%%d}\\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.timeout, e.status,
    latency:percentile(50), latency:percentile(90), latency:percentile(99)))
end
"""


class WrkFailed(Exception):
    """wrk could not run, or the server answered with errors."""


class WrkResult(msgspec.Struct, frozen=True, kw_only=True):
    """One run of wrk; latencies are whole microseconds, as wrk counts them."""

    requests: int
    duration_us: int
    errors: int
    bad_status: int
    p50_us: int
    p90_us: int
    p99_us: int

    @property
    def per_second(self) -> float:
        return self.requests / (self.duration_us / 1e6)


def find_program(name: str, variable: str) -> str | None:
    """The program that ``EDGEAGENT_BENCH_<variable>`` names, else ``name`` on PATH, else None."""
    named = os.environ.get(PEER_PREFIX + variable)
    return shutil.which(named or name)


def write_script(folder: Path, body: bytes) -> Path:
    """The Lua script that makes wrk POST ``body`` and print its figures as JSON."""
    path = folder / f"post-{len(body)}-{body[:4].hex()}.lua"
    chars = ",".join(str(value) for value in body[:64])
    lua = f'string.rep("{chr(body[0])}", {len(body)})' if len(set(body)) == 1 and body.isalnum() else None
    if lua is None and len(body) > 64:
        raise ValueError("a body of mixed bytes is limited to 64 bytes")
    path.write_text(_SCRIPT % {"body": lua or f"string.char({chars})"}, encoding="ascii")
    return path


def _argv(program: str, script: Path, url: str, connections: int, seconds: int) -> list[str]:
    return [program, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]


def parse(output: str) -> WrkResult:
    """The result from wrk's standard output; raises WrkFailed when there is none or it tells of errors."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise WrkFailed(f"wrk gave no result: {output[-300:].strip()}")
    result = msgspec.json.decode(lines[-1], type=WrkResult)
    if result.bad_status or result.errors:
        raise WrkFailed(f"{result.errors} broken connections, {result.bad_status} replies that are not 2xx")
    if result.requests == 0 or result.duration_us == 0:
        raise WrkFailed("no request was answered")
    return result


def run_wrk(program: str, script: Path, url: str, connections: int, seconds: int) -> WrkResult:
    """Run wrk to its end and return its figures."""
    argv = _argv(program, script, url, connections, seconds)
    ended = subprocess.run(
        argv, check=False, capture_output=True, text=True, timeout=seconds + 30, start_new_session=True
    )
    if ended.returncode:
        raise WrkFailed(f"wrk ended with {ended.returncode}: {ended.stderr[-300:].strip()}")
    return parse(ended.stdout)


@contextmanager
def start_wrk(
    program: str, script: Path, url: str, connections: int, seconds: int
) -> Iterator[subprocess.Popen[str]]:
    """Run wrk in the background; killed when the block ends before it does."""
    process = subprocess.Popen(
        _argv(program, script, url, connections, seconds),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
