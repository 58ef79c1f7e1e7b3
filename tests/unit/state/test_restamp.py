"""A node whose clock was ahead, and is right again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from edgeagent.state import restamp as module
from edgeagent.state.calls import Op
from edgeagent.state.hlc import SKEW_MS_MAX
from edgeagent.state.keystore import KeyStore
from tests.unit.state.keystore_rig import NOW_MS, Clock, foreign, mode_of, put, with_store

AHEAD_MS = 74 * 365 * 86_400_000
LARGE = bytes(range(256)) * 400


def test_what_was_written_ahead_gets_versions_of_now_in_its_order(tmp_path: Path) -> None:
    clock = Clock()

    async def scenario(store: KeyStore) -> None:
        before = await put(store, "before", b"1")
        clock.utc_ms += AHEAD_MS
        await put(store, "z", b"first", ttl_ms=5000)
        clock.utc_ms += 1
        await store.write([Op(op="put", key=key, value=b"both") for key in ("g/1", "g/2")], mode_of)
        clock.utc_ms += 1
        await put(store, "a", LARGE)
        clock.utc_ms += 1
        await store.write([Op(op="delete", key="before")], mode_of)
        clock.utc_ms = NOW_MS + 10_000
        stamped, seq = await store.restamp()
        assert [one.key for one in stamped] == ["z", "g/1", "g/2", "a", "before"]
        assert seq == store.seq
        versions = [one.version for one in stamped]
        assert versions == sorted(versions)
        assert all(NOW_MS <= one.wall_ms <= clock.utc_ms + 5 for one in versions)
        assert len({one.moment for one in versions}) == 4, "what was written together stays together"
        assert before.entry is not None
        assert versions[-1] > before.entry.version
        assert stamped[0].expires_ms == stamped[0].version.wall_ms + 5000
        found = await store.get("a")
        assert found is not None
        assert found == (stamped[3], LARGE)
        assert await store.get("before") is None
        assert [one.key for _, one in await store.entries_since(0, 10)] == [one.key for one in stamped]
        after = await put(store, "a", b"now")
        assert after.entry is not None
        assert versions[-1] < after.entry.version
        assert after.entry.version.wall_ms < clock.utc_ms + SKEW_MS_MAX
        assert (await store.restamp())[0] == []

    with_store(tmp_path, scenario, clock)


def test_it_takes_a_clock_that_is_set_and_is_behind_and_leaves_what_others_wrote(tmp_path: Path) -> None:
    clock = Clock()

    async def scenario(store: KeyStore) -> None:
        await put(store, "a", b"1")
        assert (await store.restamp())[0] == [], "nothing is ahead"
        clock.utc_ms = 5_000  # it has lost its time, and takes others'
        far, _ = foreign("theirs", b"1", wall_ms=NOW_MS + AHEAD_MS)
        await store.accept([far], custody=False)
        assert (await store.restamp())[0] == []
        await put(store, "b", b"1")
        clock.utc_ms = NOW_MS
        assert [one.key for one in (await store.restamp())[0]] == ["b"]
        held = await store.look("theirs")
        assert held is not None
        assert held.version == far.version
        over = await put(store, "theirs", b"2")
        assert over.entry is not None
        assert over.entry.version > far.version, "a write stands above what it has overwritten"

    with_store(tmp_path, scenario, clock)


def test_so_much_at_once_that_it_is_not_ahead_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOMENTS_MAX", 2)
    clock = Clock()

    async def scenario(store: KeyStore) -> None:
        clock.utc_ms += AHEAD_MS
        for key in "abc":
            clock.utc_ms += 1
            await put(store, key, b"1")
        clock.utc_ms = NOW_MS
        assert [one.key for one in (await store.restamp())[0]] == ["a", "b"]
        await put(store, "c", b"2")  # above what it had: still ahead
        assert [one.key for one in (await store.restamp())[0]] == ["c"]
        found = await store.get("c")
        assert found is not None
        assert found[1] == b"2"

    with_store(tmp_path, scenario, clock)


def test_a_damaged_row_is_left_to_the_scrub(tmp_path: Path) -> None:
    clock = Clock()

    async def written(store: KeyStore) -> None:
        clock.utc_ms += AHEAD_MS
        for key in "ab":
            await put(store, key, b"1")

    with_store(tmp_path, written, clock)
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("UPDATE entries SET crc = crc + 1 WHERE key = 'a'")
    connection.close()
    clock.utc_ms = NOW_MS

    async def scenario(store: KeyStore) -> None:
        assert [one.key for one in (await store.restamp())[0]] == ["b"]

    with_store(tmp_path, scenario, clock)
