"""The key store on a disk that is really full, and on a file system that has gone read-only."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from edgeagent.model.errors import EdgeError, StorageFull, StoreFailed
from edgeagent.state.calls import Op
from edgeagent.state.entry import Mode
from edgeagent.state.keystore import KeyStore
from edgeagent.state.keystore_types import KeyBounds
from tests.integration.small_disk import play_on_a_small_disk


def test_a_disk_that_is_full_then_read_only(tmp_path: Path) -> None:
    play_on_a_small_disk(__name__, tmp_path, size="12m")


def _make(disk: Path) -> KeyStore:
    bounds = KeyBounds(bytes_max=1 << 30, inbound_bytes=0, segment_bytes=1 << 20)
    return KeyStore(disk / "state", bounds, node="n1", utc_ms=lambda: 1_800_000_000_000)


async def _put(store: KeyStore, key: str, value: bytes) -> None:
    await store.write([Op(op="put", key=key, value=value)], lambda _: Mode.LWW)


async def _fill(store: KeyStore, name: str, size_bytes: int) -> dict[str, bytes]:
    """Put until the disk is full; what was acknowledged."""
    kept: dict[str, bytes] = {}
    for number in range(10_000):
        key, value = f"{name}/{number}", os.urandom(size_bytes)
        try:
            await _put(store, key, value)
        except StorageFull:
            assert await store.get(key) is None
            return kept
        kept[key] = value
    raise AssertionError("the disk never filled")


async def _check(store: KeyStore, kept: dict[str, bytes]) -> None:
    for key, value in kept.items():
        got = await store.get(key)
        assert got is not None, key
        assert got[1] == value
    assert sorted(kept) == [one.key for one in await store.list("", limit=100_000)]
    assert (await store.scrub(1 << 40)).damaged == []


def _remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", "none", str(disk)], check=True)


async def _play(disk: Path) -> None:
    store = _make(disk)
    await store.open()
    kept = await _fill(store, "large", 300_000)
    assert kept
    kept |= await _fill(store, "small", 5_000)
    assert (await store.usage()).keys == len(kept)
    await store.close()
    store = _make(disk)
    await store.open()  # on a full disk
    await _check(store, kept)
    for key in [one for one in kept if one.startswith("large/")][
        1:
    ]:  # what makes room is done with what was kept back
        await store.write([Op(op="delete", key=key)], lambda _: Mode.LWW)
        del kept[key]
    while not (await store.sweep()).is_done:
        pass
    await _put(store, "after", b"1")
    await _put(store, "after/large", bytes(200_000))
    kept |= {"after": b"1", "after/large": bytes(200_000)}
    await _check(store, kept)
    await store.close()
    await asyncio.to_thread(_remount, disk, "ro")
    try:
        await _make(disk).open()
    except StoreFailed:
        pass
    else:
        raise AssertionError("it opened")
    await asyncio.to_thread(_remount, disk, "rw")
    store = _make(disk)
    await store.open()
    await _check(store, kept)
    await store.close()


if __name__ == "__main__":
    try:
        asyncio.run(_play(Path(sys.argv[1])))
    except EdgeError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    print("ok")  # noqa: T201 - the answer
