"""Plain writes of many callers share statements: each answered as if it were alone, in the order of asking."""

from __future__ import annotations

import asyncio
import hashlib
import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgeagent.state.calls import Op
from edgeagent.state.entry import Entry, Mode, chunks_of, entry_of
from edgeagent.state.errors import BadKey, DamagedValue, ModeConflict, VersionMismatch
from edgeagent.state.keystore import KeyStore
from edgeagent.state.keystore_bulk import BulkChange
from edgeagent.state.keystore_types import Usage, Written
from tests.unit.state.keystore_rig import mode_of, put, with_store

LARGE = [random.Random(seed).randbytes(size) for seed, size in enumerate((70_000, 262_144, 700_000, 900_001))]


@pytest.mark.parametrize("count", [1, 2, 3, 127, 128, 129, 300])
def test_rows_of_any_number_are_put_and_found(tmp_path: Path, count: int) -> None:
    async def scenario(store: KeyStore) -> None:
        for turn in (b"first", b"second, and longer"):
            written = await asyncio.gather(*(put(store, f"k{n}", turn + b"%d" % n) for n in range(count)))
            versions = [one.entry.version for one in written if one.entry is not None]
            assert versions == sorted(set(versions))
            seqs = [one.seq for one in written]
            assert seqs == sorted(set(seqs))
        assert [entry.key for _, entry in await store.entries_since(0, 1000)] == [
            f"k{n}" for n in range(count)
        ]
        for n in range(count):
            got = await store.get(f"k{n}")
            assert got is not None
            assert got[1] == b"second, and longer%d" % n
        size = sum(len(b"second, and longer%d" % n) for n in range(count))
        assert await store.usage() == Usage(bytes=size, keys=count, chunks=0, inbound_bytes=0)

    with_store(tmp_path, scenario)


def test_writers_of_one_key_at_once_see_each_other(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        results: Sequence[Any] = await asyncio.gather(
            put(store, "a", b"1", expect=""),
            put(store, "a", b"2", expect=""),
            put(store, "a", b"3"),
            store.write([Op(op="delete", key="a")], mode_of),
            store.write([Op(op="delete", key="a")], mode_of),
            put(store, "a", b"4", expect=""),
            return_exceptions=True,
        )
        assert [isinstance(one, VersionMismatch) for one in results] == [False, True, *[False] * 4]
        flat = [one[0] if isinstance(one, list) else one for one in results]
        assert [one.found for one in flat if isinstance(one, Written)] == [True, True, True, False, True]
        got = await store.get("a")
        assert got is not None
        assert got[1] == b"4"
        assert await store.usage() == Usage(bytes=1, keys=1, chunks=0, inbound_bytes=0)

    with_store(tmp_path, scenario)


def test_plain_writes_and_others_keep_their_order(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        results: Sequence[Any] = await asyncio.gather(
            put(store, "a", b"1"),
            store.write([Op(op="put", key="b", value=b"1"), Op(op="get", key="a")], mode_of),
            put(store, "a", b"2"),
            put(store, "o", b"once", mode=Mode.ONCE),
            put(store, "o", b"again"),
            put(store, "o", b"lww", mode=Mode.LWW),
            store.write([Op(op="get", key="a")], mode_of),
            return_exceptions=True,
        )
        assert results[1][1].entry.inline == b"1"
        assert results[6][0].entry.inline == b"2"
        assert isinstance(results[5], ModeConflict)
        seqs = [results[0].seq, results[1][0].seq, results[2].seq, results[3].seq]
        assert seqs == sorted(set(seqs))

    with_store(tmp_path, scenario)


def test_a_damaged_row_and_a_bad_key_are_their_own_writers_affair(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        await put(store, "b", b"old")
        await store._store.write(
            lambda c: c.execute("UPDATE entries SET crc = crc + 1 WHERE key = 'b'").rowcount
        )
        results = await asyncio.gather(
            *(put(store, key, b"new") for key in ("a", "b", "c", "..")), return_exceptions=True
        )
        assert [type(one) for one in results] == [Written, DamagedValue, Written, BadKey]
        assert [entry.key for entry in await store.list("")] == ["a", "c"]

    with_store(tmp_path, scenario)


def test_a_row_that_is_kept_back_is_in_its_table_before_it_is_read_there(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        setting = store._opened()

        def work(connection: sqlite3.Connection) -> Entry | None:
            change = BulkChange(connection, setting.ledger, setting.bounds, 1)
            change.look_up(["a"])
            change.put(entry_of("a", b"v", setting.ledger.clock.next(1)), None)
            read = change.row("a")
            change.put_rows()
            assert change.held("a") is not None
            change.put(entry_of("b", b"v", setting.ledger.clock.next(1)), None)  # at once again
            assert change.row("b") is not None
            return read

        read = await store._store.write(work)
        assert read is not None
        assert read.inline == b"v"

    with_store(tmp_path, scenario)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_large_values_are_named_by_their_hashes(tmp_path: Path, count: int) -> None:
    async def scenario(store: KeyStore) -> None:
        small = Op(op="put", key="small", value=b"s")
        ops = [Op(op="put", key=f"k{n}", value=LARGE[n]) for n in range(count)]
        written = await store.write([small, *ops], mode_of)
        for one, value in zip(written[1:], LARGE, strict=False):
            assert one.entry is not None
            assert one.entry == entry_of(one.op.key, value, one.entry.version)
            assert one.entry.sha256 == hashlib.sha256(value).digest()
            assert len(one.entry.chunks) == len(chunks_of(value))

    with_store(tmp_path, scenario)


def test_a_large_value_that_was_written_is_read_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(store: KeyStore) -> None:
        await put(store, "k", LARGE[2])
        await put(store, "gone", LARGE[3])
        await store.write([Op(op="delete", key="gone")], mode_of)

        def refuse(*_: object) -> None:
            raise AssertionError("it was read from the disk")

        with monkeypatch.context() as patched:
            patched.setattr(store._segments, "read", refuse)
            got = await store.get("k")
            assert got is not None
            assert got[1] == LARGE[2]
            assert await store.get("gone") is None

    with_store(tmp_path, scenario, cache_bytes=16 << 20)
