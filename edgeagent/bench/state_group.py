"""Groups of eight keys against one key after the other, at a node that is some round-trip time away.

The client's requests go to a daemon of ours, a process of its own, over one kept connection; the distance is emulated
at the client, which waits half the round-trip time before it sends and after it has the reply. A round writes eight new
keys and reads them again: ``ours`` as one group each, ``per-key`` by eight requests each, as functions do that know
nothing of groups. Milliseconds for both together; ``put`` and ``get`` apart are in ``parts``. Each key has bytes of its
own that do not compress, made before the clock starts, so that all of them reach the disk.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from edgeagent.bench.daemon import daemon
from edgeagent.bench.harness import Bench, Case, Rounds, Sample, Sampler
from edgeagent.bench.hose_rig import size_name

__all__ = ["cases"]

KEYS = 8
SIZES = (1 << 10, 64 << 10, 1 << 20)
RTTS_MS = (0, 20, 100)
_MSGPACK = {"Content-Type": "application/msgpack"}


class _Client:
    """One connection to the daemon."""

    def __init__(self, port: int) -> None:
        self.link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._number = 0
        self._chance = random.Random(KEYS)

    def fresh(self, size_bytes: int) -> dict[str, bytes]:
        """New keys with their values."""
        self._number += 1
        return {f"group/{self._number}/{n}": self._chance.randbytes(size_bytes) for n in range(KEYS)}

    def request(self, rtt_s: float, method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        if rtt_s:
            time.sleep(rtt_s / 2)
        self.link.request(method, path, body, headers)
        reply = self.link.getresponse()
        data = reply.read()
        if reply.status >= 300:
            raise RuntimeError(f"{method} {path}: {reply.status} {data[:200]!r}")
        if rtt_s:
            time.sleep(rtt_s / 2)
        return data

    def group(self, rtt_s: float, ops: list[dict[str, Any]]) -> list[Any]:
        body = msgspec.msgpack.encode({"ops": ops})
        answer = msgspec.msgpack.decode(self.request(rtt_s, "POST", "/v1/state:group", body, _MSGPACK))
        results: list[Any] = answer["results"]
        return results


@contextlib.contextmanager
def _served() -> Iterator[_Client]:
    with (
        tempfile.TemporaryDirectory(prefix="edgeagent-bench-") as folder,
        daemon(Path(folder), "/livez") as one,
    ):
        client = _Client(one.port)
        try:
            yield client
        finally:
            client.link.close()


def _ours(client: _Client, rtt_s: float, size_bytes: int) -> Sample:
    fresh = client.fresh(size_bytes)
    begun = time.perf_counter()
    client.group(rtt_s, [{"op": "put", "key": name, "value": value} for name, value in fresh.items()])
    wrote = time.perf_counter()
    read = client.group(rtt_s, [{"op": "get", "key": name} for name in fresh])
    ended = time.perf_counter()
    assert [one["value"] for one in read] == list(fresh.values())
    return (ended - begun) * 1e3, {"put": (wrote - begun) * 1e3, "get": (ended - wrote) * 1e3}


def _per_key(client: _Client, rtt_s: float, size_bytes: int) -> Sample:
    fresh = client.fresh(size_bytes)
    begun = time.perf_counter()
    for name, value in fresh.items():
        client.request(rtt_s, "PUT", f"/v1/state/{name}", value, {})
    wrote = time.perf_counter()
    read = [client.request(rtt_s, "GET", f"/v1/state/{name}", b"", {}) for name in fresh]
    ended = time.perf_counter()
    assert read == list(fresh.values())
    return (ended - begun) * 1e3, {"put": (wrote - begun) * 1e3, "get": (ended - wrote) * 1e3}


def _opener(size: int, rtt_ms: int) -> Any:
    @contextlib.contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        client = bench.share("state-group", _served)

        def sampler(work: Callable[[_Client, float, int], Sample]) -> Sampler:
            return lambda: work(client, rtt_ms / 1000, size)

        yield {"ours": sampler(_ours), "per-key": sampler(_per_key)}

    return opened


def _parts(rounds: Rounds, _bench: Bench) -> dict[str, Any]:
    return {
        "parts": {
            name: {part: round(median(one[1][part] for one in taken), 3) for part in ("put", "get")}
            for name, taken in rounds.items()
        }
    }


def cases() -> list[Case]:
    return [
        Case(
            name=f"group{KEYS}-{size_name(size)}-rtt{rtt_ms}",
            unit="ms",
            better="lower",
            open=_opener(size, rtt_ms),
            params={"keys": KEYS, "size_bytes": size, "rtt_ms": rtt_ms},
            rounds=5 if rtt_ms else 15,
            rounds_full=21,
            memory_bytes=256 << 20,
            group="state-group",
            fields=_parts,
        )
        for size in SIZES
        for rtt_ms in RTTS_MS
    ]
