"""``loop-lag-mixed``: how late the daemon's event loop is while functions of 4 us and of 20 ms run on it.

wrk drives both functions over HTTP at once; the stamps of ``lag_probe`` measure the loop from inside. The
value of a round is the 99th percentile of its stamps. The load competes with the daemon for the same cores,
so the figure holds what the operating system's scheduler adds.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from edgeagent.bench import guests
from edgeagent.bench.daemon import daemon_command, daemon_env, deploy
from edgeagent.bench.harness import Bench, Case, Rounds, Sample, Sampler
from edgeagent.bench.http_cases import wrk_program
from edgeagent.bench.inprocess import wasmtime_py
from edgeagent.bench.lag_probe import STAMP, LagFigures
from edgeagent.bench.processes import ServerFailed, ServerProcess, free_port, post, server
from edgeagent.bench.stats import significant
from edgeagent.bench.wrk import parse, start_wrk, write_script

__all__ = ["lag_case", "turns_for"]

SECONDS = 2
WARM_UP_SECONDS = 1
STAMP_EVERY_S = 0.002
SLOW_MS = 20.0
FAST_CONNECTIONS, SLOW_CONNECTIONS = 4, 2
ONE_SLOW = "_one-slow"
RESULT_S = 5.0


def turns_for(ms: float) -> int:
    """How many turns of the spinning guest take ``ms`` on this machine, at its best of 5 tries."""
    turns = 1_000_000
    with wasmtime_py(guests.spin()) as call:
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            call(guests.spin_body(turns))
            best = min(best, time.perf_counter() - start)
    return max(1, round(turns * ms / 1000 / best))


def _stamp(fifo: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        os.write(fifo, STAMP.pack(time.monotonic_ns()))
        time.sleep(STAMP_EVERY_S)


def _result(fifo: int, results: Path) -> LagFigures:
    os.write(fifo, STAMP.pack(0))
    deadline = time.monotonic() + RESULT_S
    while not results.exists():
        if time.monotonic() > deadline:
            raise ServerFailed("the probe gave no figures")
        time.sleep(0.01)
    figures = msgspec.json.decode(results.read_bytes(), type=LagFigures)
    results.unlink()
    return figures


@contextmanager
def _probed_daemon(folder: Path) -> Iterator[tuple[ServerProcess, int, Path]]:
    fifo, results = folder / "stamps", folder / "lag.json"
    os.mkfifo(fifo, 0o600)
    port = free_port()
    argv = daemon_command("edgeagent.bench.lag_daemon", str(fifo), str(results))
    env = daemon_env(folder, port)
    with server(argv, port=port, path="/functions/add1", folder=folder, env=env, check=False) as process:
        fd = os.open(fifo, os.O_WRONLY)
        try:
            yield process, fd, results
        finally:
            os.close(fd)


@contextmanager
def _open(_bench: Bench) -> Iterator[dict[str, Sampler]]:
    wrk = wrk_program()
    slow_body = guests.spin_body(turns_for(SLOW_MS))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeagent-bench-")))
        process, fifo, results = stack.enter_context(_probed_daemon(folder))
        deploy(process.port, "add1", guests.add1())
        deploy(process.port, "spin", guests.spin())
        process.check()
        post(process.port, "/functions/spin", slow_body)
        fast_script, slow_script = write_script(folder, guests.INPUT), write_script(folder, slow_body)
        slow_url = f"http://127.0.0.1:{process.port}/functions/spin"

        def load(seconds: int, fast: int, slow: int) -> Sample:
            with ExitStack() as loads:
                fast_wrk = loads.enter_context(start_wrk(wrk, fast_script, process.url, fast, seconds))
                slow_wrk = loads.enter_context(start_wrk(wrk, slow_script, slow_url, slow, seconds))
                # Stamps only while both run: wrk takes a moment to start and to count.
                time.sleep(0.2)
                _stamp(fifo, seconds - 0.4)
                figures = _result(fifo, results)
                fast_result, slow_result = (parse(one.communicate()[0]) for one in (fast_wrk, slow_wrk))
            return figures.p99_ms, {
                "p50_ms": figures.p50_ms,
                "max_ms": figures.max_ms,
                "stamps": figures.n,
                "fast_per_s": fast_result.per_second,
                "fast_p99_us": fast_result.p99_us,
                "slow_per_s": slow_result.per_second,
                "slow_p50_us": slow_result.p50_us,
            }

        load(WARM_UP_SECONDS, FAST_CONNECTIONS, SLOW_CONNECTIONS)
        yield {
            "ours": lambda: load(SECONDS, FAST_CONNECTIONS, SLOW_CONNECTIONS),
            ONE_SLOW: lambda: load(SECONDS, FAST_CONNECTIONS, 1),
        }


def _gentler(rounds: Rounds, _bench: Bench) -> dict[str, Any]:
    """The same with one slow connection, which leaves a core of two to the loop and its clients."""
    return {
        "one_slow_connection_p99_ms": significant(statistics.median(value for value, _ in rounds[ONE_SLOW]))
    }


def lag_case() -> Case:
    return Case(
        name="loop-lag-mixed",
        unit="ms p99",
        better="lower",
        open=_open,
        params={
            "fast": "add1, 1 KiB",
            "fast_connections": FAST_CONNECTIONS,
            "slow": f"spin, {SLOW_MS:.0f} ms",
            "slow_connections": SLOW_CONNECTIONS,
            "client": "wrk",
            "stamp_every_ms": STAMP_EVERY_S * 1000,
        },
        rounds=7,
        rounds_full=21,
        warm_up_rounds=0,
        fields=_gentler,
        memory_bytes=512 << 20,
    )
