"""The ground tier against a real server that the test starts."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Self

import pytest

from edgeagent.model.errors import BadConfig, StorageFull, StoreFailed, Unavailable
from edgeagent.state import ground as module
from edgeagent.state.entry import Entry, Mode, entry_of
from edgeagent.state.ground import GroundStore
from edgeagent.state.hlc import Version

SERVER = next((found for name in ("valkey-server", "redis-server") if (found := shutil.which(name))), None)
needs_server = pytest.mark.skipif(SERVER is None, reason="no redis-server or valkey-server on PATH")

pytest.importorskip("redis")

Held = dict[str, tuple[Entry, bytes | None]]


def version(wall_ms: int) -> Version:
    return Version(wall_ms, 0, "n1")


def entry(key: str, value: bytes | None, at: int, mode: Mode = Mode.LWW) -> tuple[Entry, bytes | None]:
    return entry_of(key, value, version(at), mode=mode), value


@contextlib.asynccontextmanager
async def server(tmp_path: Path, *options: str) -> AsyncIterator[str]:
    """A server of its own on a Unix socket; its URL."""
    assert SERVER is not None
    sock = tmp_path / "r.sock"
    words = ["--port", "0", "--unixsocket", str(sock), "--dir", str(tmp_path), "--save", ""]
    words += ["--appendonly", "yes", "--appendfsync", "always", *options]
    process = subprocess.Popen([SERVER, *words], stdout=subprocess.DEVNULL)  # noqa: ASYNC220
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_unix_connection(str(sock))
                except OSError:
                    await asyncio.sleep(0.01)
                    continue
                writer.close()
                break
        yield f"unix://{sock}"
    finally:
        process.kill()
        process.wait()


class Ground:
    """A store, what is held here, and what came to be settled."""

    def __init__(self, url: str, held: Held, queue_bytes: int = 1 << 20) -> None:
        self.settled: dict[str, Version] = {}
        self.changed = asyncio.Event()
        self.held = held

        async def read(key: str) -> tuple[Entry, bytes | None] | None:
            found = self.held.get(key)
            if found is not None and found[1] == b"damaged":
                raise StoreFailed("damaged")
            return found

        self.store = GroundStore(url, queue_bytes=queue_bytes, held=read, settled=self._settled)

    def _settled(self, key: str, at: Version) -> None:
        self.settled[key] = at
        self.changed.set()

    async def until(self, *keys: str) -> None:
        async with asyncio.timeout(20):
            while not set(keys) <= set(self.settled):
                self.changed.clear()
                await self.changed.wait()

    async def __aenter__(self) -> Self:
        await self.store.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.store.close()
        await self.store.close()


@needs_server
def test_what_is_written_is_there_for_another_node_the_newest_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with server(tmp_path) as url:
            one, two = entry("a/x", b"new", 20), entry("a/y", bytes(300_000), 10)
            async with Ground(url, {"a/x": one, "a/y": two}) as ground:
                ground.store.put([one[0], two[0]])
                await ground.until("a/x", "a/y")
            old = entry("a/x", b"old", 5)
            async with Ground(url, {"a/x": old}) as other:
                other.store.put([old[0]])
                await other.until("a/x")
                found = await other.store.get("a/x")
                assert found is not None
                assert found[1] == b"new"
                assert found[0].version == version(20)
                large = await other.store.get("a/y")
                assert large is not None
                assert large[1] == bytes(300_000)
                assert len(large[0].chunks) == 2
                assert await other.store.get("a/z") is None
                gone = entry("a/x", None, 30)
                other.held["a/x"] = gone
                other.store.put([gone[0]])
                other.settled.clear()
                await other.until("a/x")
                found = await other.store.get("a/x")
                assert found is not None
                assert found[0].deleted
                assert found[1] is None

    asyncio.run(main())


@needs_server
def test_once_stays_the_first_of_two_nodes_that_write_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with server(tmp_path) as url:
            values = {at: entry("runs/r/out", b"by %d" % at, at, Mode.ONCE) for at in range(1, 9)}
            grounds = [Ground(url, {"runs/r/out": one}) for one in values.values()]
            async with contextlib.AsyncExitStack() as stack:
                for one in grounds:
                    await stack.enter_async_context(one)
                for one in grounds:
                    one.store.put([one.held["runs/r/out"][0]])
                await asyncio.gather(*(one.until("runs/r/out") for one in grounds))
                found = await grounds[0].store.get("runs/r/out")
            assert found is not None
            assert found[1] == b"by 1"

    asyncio.run(main())


@needs_server
def test_writes_wait_while_the_server_is_away_bounded_and_go_on_when_it_is_back(tmp_path: Path) -> None:
    async def main() -> None:
        url = f"unix://{tmp_path}/r.sock"
        one, two = entry("k1", b"x" * 600, 1), entry("k2", b"y" * 600, 2)
        async with Ground(url, {"k1": one, "k2": two}, queue_bytes=1000) as ground:
            ground.store.put([one[0]])
            with pytest.raises(StorageFull, match="wait for the ground store"):
                ground.store.put([two[0]])
            with pytest.raises(Unavailable, match="does not answer"):
                await ground.store.get("k1")
            assert (ground.store.waiting, ground.store.refused) == (1, 1)
            async with server(tmp_path):
                await ground.until("k1")
                ground.store.put([two[0]])
                await ground.until("k2")
                assert ground.store.is_away == ""
                assert ground.store.waiting_bytes == 0

    asyncio.run(main())


@needs_server
def test_what_is_damaged_here_does_not_spread_and_what_is_foreign_there_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        from redis.asyncio import Redis

        async with server(tmp_path) as url:
            bad, good = entry("bad", b"damaged", 1), entry("good", b"v", 1)
            async with Ground(url, {"bad": bad, "good": good}) as ground:
                ground.store.put([bad[0], good[0]])
                await ground.until("good")
                assert await ground.store.get("bad") is None
                client = Redis.from_url(url, protocol=2)
                await client.hset("edgeagent:foreign", mapping={"entry": b"\xc1"})
                await client.set("edgeagent:text", b"no hash")
                await client.aclose()
                with pytest.raises(StoreFailed, match="something else"):
                    await ground.store.get("foreign")
                with pytest.raises(StoreFailed, match="refused"):
                    await ground.store.get("text")

    asyncio.run(main())


@needs_server
def test_a_value_that_the_server_does_not_take_holds_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with server(tmp_path, "--proto-max-bulk-len", "1mb") as url:
            held = {"big": entry("big", bytes(2 << 20), 1)}
            held |= {f"a/{number}": entry(f"a/{number}", b"v", 1) for number in range(5)}
            async with Ground(url, held, queue_bytes=8 << 20) as ground:
                ground.store.put([one for one, _ in held.values()])
                await ground.until(*(key for key in held if key != "big"))
                for number in range(5, 40):  # one after the other: none waits for it to be refused again
                    held[f"a/{number}"] = entry(f"a/{number}", b"v", 1)
                    ground.store.put([held[f"a/{number}"][0]])
                    await ground.until(f"a/{number}")
                assert ground.store.waiting == 1
                assert not ground.store.is_silent
                held["big"] = entry("big", b"shorter", 2)
                ground.store.put([held["big"][0]])
                await ground.until("big")
                assert (ground.store.waiting, ground.store.waiting_bytes) == (0, 0)

    asyncio.run(main())


@needs_server
def test_a_server_that_forgets_is_no_ground(tmp_path: Path) -> None:
    async def main() -> None:
        async with server(tmp_path, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as url:
            one = entry("a", b"v", 1)
            async with Ground(url, {"a": one}) as ground:
                ground.store.put([one[0]])
                async with asyncio.timeout(20):
                    while "maxmemory-policy" not in ground.store.is_away:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                assert not ground.settled
                assert await ground.store.get("a") is None
                await ground.store._open().config_set("maxmemory-policy", "noeviction")
                await ground.until("a")

    asyncio.run(main())


@needs_server
def test_a_server_that_may_not_be_asked_what_it_keeps_is_believed(tmp_path: Path) -> None:
    async def main() -> None:
        async with server(tmp_path, "--rename-command", "INFO", "") as url:
            one = entry("a", b"v", 1)
            async with Ground(url, {"a": one}) as ground:
                ground.store.put([one[0]])
                await ground.until("a")

    asyncio.run(main())


def test_it_ends_whatever_the_client_makes_of_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CANCEL_S", 0.01)

    async def main() -> None:
        begun = asyncio.Event()

        async def stubborn(keys: Sequence[str]) -> dict[str, Version]:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise Unavailable("the connection ended") from None
            return {}

        one = entry("a", b"v", 1)
        async with Ground("unix:///nowhere", {"a": one}) as ground:
            monkeypatch.setattr(ground.store, "_write", stubborn)
            ground.store.put([one[0]])
            await begun.wait()
            async with asyncio.timeout(10):
                await ground.store.close()

    asyncio.run(main())


@needs_server
def test_a_deadline_that_was_written_in_1970_is_counted_from_now(tmp_path: Path) -> None:
    async def main() -> None:
        async with server(tmp_path) as url:
            made = entry_of("a", b"v", version(5_000), expires_ms=3_605_000)
            async with Ground(url, {"a": (made, b"v")}) as ground:
                ground.store.put([made])
                await ground.until("a")
                assert await ground.store.get("a") is not None
                assert await ground.store._open().pttl(b"edgeagent:a") > 3_500_000

    asyncio.run(main())


def test_a_url_that_is_none_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(BadConfig, match=r"state\.ground\.url"):
            await Ground("ftp://nowhere", {}).store.start()
        closed = Ground("redis://127.0.0.1:1/0", {})
        with pytest.raises(Unavailable, match="closed"):
            await closed.store.get("k")

    asyncio.run(main())


def test_the_client_missing_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)

    async def main() -> None:
        with pytest.raises(BadConfig, match="client of Redis") as caught:
            await Ground("redis://127.0.0.1:1/0", {}).store.start()
        assert "edgeagent[ground]" in caught.value.hint

    asyncio.run(main())
