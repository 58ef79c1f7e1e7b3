"""``http-post-1KiB-c1`` and ``-c16``: requests/s of a POST of 1 KiB, wrk as the client, all servers up at
once.

Every server is a process of its own on loopback; a sample is one short run of wrk against one of them, and
the order within a round is drawn. Before each run the server must give the right answer once more.
``cpu_us_per_request`` is the server's CPU time (all its threads) over the requests of the run: on a small
machine, where wrk and the server share the cores, it tells more than the rate.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from edgeagent.bench import guests
from edgeagent.bench.daemon import daemon, deploy
from edgeagent.bench.harness import Bench, Case, CaseSkipped, Rounds, Sample, Sampler, no_more_fields
from edgeagent.bench.peers import PEERS, PeerAbsent, floor
from edgeagent.bench.processes import ServerFailed, ServerProcess, cpu_seconds
from edgeagent.bench.stats import significant
from edgeagent.bench.wrk import find_program, run_wrk, write_script

__all__ = ["http_cases", "wrk_program"]

SECONDS = 1
WARM_UP_SECONDS = 1
ROUNDS, ROUNDS_FULL = 11, 31
FLOOR = "_floor"


def wrk_program() -> str:
    """Where wrk is; raises CaseSkipped when it is nowhere."""
    found = find_program("wrk", "WRK")
    if found is None:
        raise CaseSkipped("the client wrk is neither on PATH nor in EDGEAGENT_BENCH_WRK (Debian package wrk)")
    return found


class _Field:
    """All servers of the comparison, running; ``servers["ours"]`` is the daemon with add1 deployed."""

    def __init__(self, servers: Mapping[str, ServerProcess], script: Path, wrk: str) -> None:
        self.servers = servers
        self.script = script
        self.wrk = wrk
        self.warm: set[tuple[str, int]] = set()

    def sampler(self, name: str, connections: int) -> Sampler:
        process = self.servers[name]

        def sample() -> Sample:
            process.check()
            if (name, connections) not in self.warm:
                self.warm.add((name, connections))
                run_wrk(self.wrk, self.script, process.url, connections, WARM_UP_SECONDS)
            before = cpu_seconds(process.pid)
            result = run_wrk(self.wrk, self.script, process.url, connections, SECONDS)
            cpu_us = (cpu_seconds(process.pid) - before) * 1e6 / result.requests
            return result.per_second, {
                "p50_us": result.p50_us,
                "p99_us": result.p99_us,
                "cpu_us_per_request": cpu_us,
            }

        return sample


def _open_field(bench: Bench) -> Callable[[], AbstractContextManager[_Field]]:
    @contextmanager
    def opened() -> Iterator[_Field]:
        wrk = wrk_program()
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeagent-bench-")))
            ours = stack.enter_context(daemon(folder))
            deploy(ours.port, "add1", guests.add1())
            ours.check()
            servers = {"ours": ours}
            for name, opener in PEERS.items():
                try:
                    servers[name] = stack.enter_context(opener(folder))
                except (PeerAbsent, ServerFailed, OSError) as error:
                    bench.skip(name, str(error))
            servers[FLOOR] = stack.enter_context(floor(folder))
            yield _Field(servers, write_script(folder, guests.INPUT), wrk)

    return opened


def _opener(connections: int) -> Callable[[Bench], AbstractContextManager[dict[str, Sampler]]]:
    @contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        field: _Field = bench.share("http", _open_field(bench))
        names = [name for name in field.servers if name != FLOOR or connections == 1]
        yield {name: field.sampler(name, connections) for name in names}

    return opened


def _median(rounds: Rounds, name: str, key: str) -> float:
    return float(statistics.median(more[key] for _, more in rounds[name]))


def _parts(rounds: Rounds, bench: Bench) -> dict[str, Any]:
    """Where a request's time goes at one connection: the median latency, less what is known of its parts."""
    if not rounds.get(FLOOR):
        return {}
    ours, under = _median(rounds, "ours", "p50_us"), _median(rounds, FLOOR, "p50_us")
    parts = {"client_kernel_loop_us": under}
    awaited = bench.results.get("inprocess-1KiB-awaited")
    if awaited is None:
        parts["http_node_engine_us"] = significant(ours - under)
    else:
        engine = awaited["ours"]["median"]
        parts |= {"engine_us": engine, "http_and_node_us": significant(ours - under - engine, 3)}
    if rounds.get("aiohttp-bare"):
        bare = _median(rounds, "aiohttp-bare", "p50_us")
        parts["for_comparison_aiohttp_bare_us"] = significant(bare - under)
    return {"breakdown": parts}


def http_cases() -> list[Case]:
    return [
        Case(
            name=f"http-post-1KiB-c{connections}",
            unit="requests/s",
            better="higher",
            open=_opener(connections),
            params={
                "body_bytes": guests.BODY_BYTES,
                "connections": connections,
                "client": "wrk",
                "client_threads": 1,
                "seconds_per_round": SECONDS,
            },
            rounds=ROUNDS,
            rounds_full=ROUNDS_FULL,
            memory_bytes=1 << 30,
            group="http",
            warm_up_rounds=0,  # each sampler warms its server up before its first sample
            fields=_parts if connections == 1 else no_more_fields,
        )
        for connections in (1, 16)
    ]
