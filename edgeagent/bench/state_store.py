"""Durable puts and gets at a node's state, as its functions reach it: callers at once, operations a second.

ours: the node's own state service over its store on this disk. Baselines: ``per-put`` is SQLite with one transaction
and one fsync a put, values in the row, what one writes first; ``redis`` is a Redis or Valkey server that syncs its log
at every write (``appendfsync always``), over a Unix socket, where one is installed. Values are random bytes; keys are
new for puts. Gets read keys that were just written, from memory where the contestant keeps some.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from edgeagent.bench.harness import Bench, Case, CaseSkipped, Sample, Sampler
from edgeagent.bench.hose_rig import size_name

__all__ = ["cases"]

SIZES = (1 << 10, 64 << 10, 1 << 20, 16 << 20)
CALLERS = (1, 64, 256)
_ROUND_S = 0.25  # so that all sizes and callers fit the default run
_BYTES_MAX = 96 << 20  # of one round
_START_S = 20.0

Put = Callable[[str, bytes], Awaitable[Any]]
Get = Callable[[str], Awaitable[Any]]


class _Loop:
    """An event loop on a thread of its own, as a daemon has one."""

    def __init__(self) -> None:
        self.loop = _new_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class _PerPut:
    """One transaction a put; readers read what is committed."""

    def __init__(self, folder: Path) -> None:
        self._writer = sqlite3.connect(folder / "per-put.db", isolation_level=None, check_same_thread=False)
        self._writer.execute("PRAGMA journal_mode=WAL")
        self._writer.execute("PRAGMA synchronous=FULL")
        self._writer.execute("CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
        self._lock = threading.Lock()

    async def put(self, key: str, value: bytes) -> None:
        await asyncio.to_thread(self._put, key, value)

    def _put(self, key: str, value: bytes) -> None:
        with self._lock:
            self._writer.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (key, value))

    async def get(self, key: str) -> bytes:
        return await asyncio.to_thread(self._get, key)

    def _get(self, key: str) -> bytes:
        with self._lock:
            row = self._writer.execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchone()
        value: bytes = row[0]
        return value

    def close(self) -> None:
        self._writer.close()


class _Ours:
    def __init__(self, folder: Path, loop: _Loop) -> None:
        from edgeagent.node.state_alone import state_alone

        self._state = state_alone(folder / "state", bytes_max=64 << 30)
        loop.run(self._state.open())
        self._loop = loop

    async def put(self, key: str, value: bytes) -> None:
        from edgeagent.state.calls import Group, Op

        await self._state.group(Group(ops=[Op(op="put", key=key, value=value)]))

    async def get(self, key: str) -> bytes:
        from edgeagent.state.calls import Group, Op

        value = (await self._state.group(Group(ops=[Op(op="get", key=key)]))).results[0].value
        assert value is not None
        return value

    def close(self) -> None:
        self._loop.run(self._state.close())


class _Redis:
    def __init__(self, folder: Path, loop: _Loop) -> None:
        program = next((p for n in ("valkey-server", "redis-server") if (p := shutil.which(n))), None)
        try:
            from redis.asyncio import Redis
        except ImportError:
            program = None
        if program is None:
            raise FileNotFoundError("needs redis-server or valkey-server, and redis-py")
        sock = folder / "redis.sock"
        words = ["--port", "0", "--unixsocket", str(sock), "--dir", str(folder), "--save", ""]
        words += ["--appendonly", "yes", "--appendfsync", "always"]
        self._process = subprocess.Popen([program, *words], stdout=subprocess.DEVNULL)
        until = time.monotonic() + _START_S
        while not sock.exists() and time.monotonic() < until:
            time.sleep(0.01)
        self._loop = loop

        async def client() -> Any:
            return Redis.from_url(f"unix://{sock}", max_connections=512)

        self._client = loop.run(client())

    async def put(self, key: str, value: bytes) -> None:
        await self._client.set(key, value)

    async def get(self, key: str) -> bytes:
        value: bytes = await self._client.get(key)
        return value

    def close(self) -> None:
        self._loop.run(self._client.aclose())
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def _contestants(bench: Bench) -> Iterator[tuple[_Loop, dict[str, Any]]]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeagent-bench-")))
        loop = _Loop()
        stack.callback(loop.close)
        found: dict[str, Any] = {"ours": _Ours(folder, loop), "per-put": _PerPut(folder)}
        try:
            found["redis"] = _Redis(folder, loop)
        except FileNotFoundError as error:
            bench.skip("redis", str(error))
        for one in found.values():
            stack.callback(one.close)
        yield loop, found


class _Traffic:
    """Rounds of one contestant: as many callers as told, each with one operation at a time."""

    def __init__(self, loop: _Loop, one: Any, size: int, callers: int) -> None:
        self._loop = loop
        self._one = one
        self._callers = callers
        self._data = random.Random(size).randbytes(size + 4096)
        self._size = size
        self._count = max(callers, min(2000 * min(callers, 16), _BYTES_MAX // size))
        self._number = 0
        self._written: list[int] = []

    def put(self) -> Sample:
        first, self._number = self._number, self._number + self._count

        async def work(number: int) -> None:
            at = number % 4096
            await self._one.put(f"bench/{self._size}/{number}", self._data[at : at + self._size])
            self._written.append(number)

        return self._loop.run(self._timed(first, work)), {}

    def get(self) -> Sample:
        if not self._written:
            self.put()
        known = self._written

        async def work(number: int) -> None:
            value = await self._one.get(f"bench/{self._size}/{known[number % len(known)]}")
            assert len(value) == self._size

        return self._loop.run(self._timed(0, work)), {}

    async def _timed(self, first: int, work: Callable[[int], Awaitable[None]]) -> float:
        numbers = iter(range(first, first + self._count))
        until = time.perf_counter() + _ROUND_S
        done = 0

        async def caller() -> None:
            nonlocal done
            for number in numbers:
                await work(number)
                done += 1
                if time.perf_counter() > until:
                    return

        begun = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(self._callers)))
        return done / (time.perf_counter() - begun)


def _opener(verb: str, size: int, callers: int) -> Any:
    @contextlib.contextmanager
    def opened(bench: Bench) -> Iterator[dict[str, Sampler]]:
        if size * callers > _BYTES_MAX * 4:
            raise CaseSkipped(f"{callers} values of {size_name(size)} at once are too many bytes")
        loop, found = bench.share("state-store", lambda: _contestants(bench))
        yield {name: getattr(_Traffic(loop, one, size, callers), verb) for name, one in found.items()}

    return opened


def cases() -> list[Case]:
    return [
        Case(
            name=f"{verb}-{size_name(size)}-c{callers}",
            unit="ops/s",
            better="higher",
            open=_opener(verb, size, callers),
            params={"size_bytes": size, "callers": callers, "durability": "local"},
            rounds=5,
            rounds_full=21,
            memory_bytes=(256 << 20) + 4 * size * callers,
            group="state-store",
        )
        for verb in ("put", "get")
        for size in SIZES
        for callers in CALLERS
    ]
