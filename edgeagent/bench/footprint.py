"""What the daemon needs before it is asked anything: time to a first answer, and memory.

- ``cold-start``: the first call of a function that the running daemon has not loaded yet, its machine code
  in the artifact cache: from the request's send to the reply's first byte, over a connection that is
  already open.
- ``cold-start-daemon``: from the start of the daemon's process to the first byte of a function's reply,
  artifact and code in the cache.
- ``idle-rss``: resident memory of a daemon that has just started with nothing deployed, 3 s later.
- ``rss-per-warm-function``: by how much resident memory grows for each function that is deployed and has
  been called.
"""

from __future__ import annotations

import http.client
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeagent.bench import guests
from edgeagent.bench.daemon import daemon, deploy
from edgeagent.bench.harness import Bench, Case, Sample, Sampler
from edgeagent.bench.processes import ServerFailed, memory_kib, post

__all__ = ["footprint_cases"]

COLD_ROUNDS, COLD_ROUNDS_FULL = 21, 51
IDLE_S = 3.0
BATCH = 8
CALLS_TO_WARM = 40


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="edgeagent-bench-") as name:
        yield Path(name)


def _first_byte_ms(connection: http.client.HTTPConnection, path: str) -> float:
    start = time.perf_counter()
    connection.request("POST", path, guests.INPUT, {"Content-Type": "application/octet-stream"})
    reply = connection.getresponse()
    spent_ms = (time.perf_counter() - start) * 1000
    if reply.status != 200 or reply.read() != guests.EXPECTED:
        raise ServerFailed(f"POST {path}: status {reply.status}, or a wrong answer")
    return spent_ms


@contextmanager
def _open_cold(bench: Bench) -> Iterator[dict[str, Sampler]]:
    rounds = (COLD_ROUNDS_FULL if bench.options.full else COLD_ROUNDS) + 1
    with _folder() as folder:
        with daemon(folder) as first:
            for number in range(rounds + 1):
                deploy(first.port, f"cold-{number}", guests.add1(number + 1))
        # A second life of the daemon: all artifacts cached, none loaded.
        with daemon(folder) as second:
            connection = http.client.HTTPConnection("127.0.0.1", second.port, timeout=30)
            numbers = iter(range(rounds + 1))
            _first_byte_ms(connection, f"/functions/cold-{next(numbers)}")

            def sampler() -> Sample:
                path = f"/functions/cold-{next(numbers)}"
                cold_ms = _first_byte_ms(connection, path)
                return cold_ms, {"next_call_ms": _first_byte_ms(connection, path)}

            yield {"ours": sampler}
            connection.close()


@contextmanager
def _open_restart(_bench: Bench) -> Iterator[dict[str, Sampler]]:
    with _folder() as folder:
        with daemon(folder) as first:
            deploy(first.port, "add1", guests.add1())
            post(first.port, first.path, guests.INPUT)

        def sampler() -> Sample:
            start = time.perf_counter()
            with daemon(folder) as again:
                listening_ms = (time.perf_counter() - start) * 1000
                connection = http.client.HTTPConnection("127.0.0.1", again.port, timeout=30)
                try:
                    _first_byte_ms(connection, again.path)
                    answered_ms = (time.perf_counter() - start) * 1000
                finally:
                    connection.close()
            return answered_ms, {"listening_ms": listening_ms}

        yield {"ours": sampler}


@contextmanager
def _open_idle(_bench: Bench) -> Iterator[dict[str, Sampler]]:
    def sampler() -> Sample:
        with _folder() as folder, daemon(folder) as process:
            time.sleep(IDLE_S)
            memory = memory_kib(process.pid)
        return memory["Rss"] / 1024, {
            "pss_mib": memory["Pss"] / 1024,
            "private_mib": memory["Private"] / 1024,
        }

    yield {"ours": sampler}


@contextmanager
def _open_warm(_bench: Bench) -> Iterator[dict[str, Sampler]]:
    with _folder() as folder, daemon(folder) as process:
        numbers = iter(range(1 << 16))

        def sampler() -> Sample:
            before = memory_kib(process.pid)
            for _ in range(BATCH):
                number = next(numbers)
                deploy(process.port, f"warm-{number}", guests.add1(number + 1))
                for _ in range(CALLS_TO_WARM):
                    post(process.port, f"/functions/warm-{number}", guests.INPUT)
            after = memory_kib(process.pid)
            return (after["Rss"] - before["Rss"]) / BATCH, {
                "private_kib": (after["Private"] - before["Private"]) / BATCH
            }

        yield {"ours": sampler}


def footprint_cases() -> list[Case]:
    return [
        Case(
            name="cold-start",
            unit="ms",
            better="lower",
            open=_open_cold,
            params={"body_bytes": guests.BODY_BYTES, "from": "artifact cache, function not loaded"},
            rounds=COLD_ROUNDS,
            rounds_full=COLD_ROUNDS_FULL,
            memory_bytes=512 << 20,
        ),
        Case(
            name="cold-start-daemon",
            unit="ms",
            better="lower",
            open=_open_restart,
            params={"from": "start of the process, artifact cache filled"},
            rounds=7,
            rounds_full=21,
            memory_bytes=512 << 20,
        ),
        Case(
            name="idle-rss",
            unit="MiB",
            better="lower",
            open=_open_idle,
            params={"idle_s": IDLE_S},
            rounds=3,
            rounds_full=7,
            warm_up_rounds=0,
            memory_bytes=512 << 20,
        ),
        Case(
            name="rss-per-warm-function",
            unit="KiB",
            better="lower",
            open=_open_warm,
            params={"functions_per_round": BATCH, "calls_each": CALLS_TO_WARM},
            rounds=5,
            rounds_full=7,
            memory_bytes=512 << 20,
        ),
    ]
