"""Damage that SQLite passes over in silence: in the write-ahead log, in indexes, in the text of a key."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from edgeagent.state import database, keystore
from edgeagent.state.calls import Op
from edgeagent.state.database import DamagedStore
from edgeagent.state.keystore import KeyStore
from edgeagent.state.repair import repair
from edgeagent.state.salvage import log_is_damaged
from tests.unit.state.keystore_rig import Clock, make, mode_of, put, with_store

FRAME_BYTES = 24 + 4096


async def _fill(store: KeyStore) -> None:
    for number in range(12):
        await put(store, f"lww/{number}", b"%d" % number * 600)
    await store.write([Op(op="delete", key="lww/3")], mode_of)


def crashed(tmp_path: Path) -> Path:
    """A store as the death of its process leaves it: all of it in the log."""
    folder = tmp_path / "crashed"

    async def main(store: KeyStore) -> None:
        await _fill(store)
        shutil.copytree(tmp_path / "alive", folder)

    with_store(tmp_path / "alive", main)
    return folder


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0x20
    path.write_bytes(raw)


def values(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}

    async def read(store: KeyStore) -> None:
        for entry in await store.list("", limit=100):
            held = await store.get(entry.key)
            assert held is not None
            found[entry.key] = held[1]

    with_store(folder, read)
    return found


SOUND = {f"lww/{number}": b"%d" % number * 600 for number in range(12) if number != 3}


@pytest.mark.parametrize("where", ["page", "sum", "salt", "header", "commit"])
def test_a_damaged_log_stops_the_start_and_what_is_behind_the_damage_is_kept(
    tmp_path: Path, where: str
) -> None:
    folder = crashed(tmp_path)
    log = folder / "state.db-wal"
    frames = (log.stat().st_size - 32) // FRAME_BYTES
    assert not log_is_damaged(folder / "state.db")
    raw = log.read_bytes()
    commits = [n for n in range(frames) if struct.unpack_from(">I", raw, 32 + n * FRAME_BYTES + 4) != (0,)]
    hit = 32 + (commits[-6]) * FRAME_BYTES
    flip(log, {"page": hit + 3000, "sum": hit + 17, "salt": hit + 9, "header": 25, "commit": hit + 2}[where])

    async def main() -> None:
        with pytest.raises(DamagedStore, match="write-ahead log") as refused:
            await make(folder).open()
        assert "edgeagent state repair" in str(refused.value.hint)

    asyncio.run(main())
    assert log.exists(), "a start that is refused leaves it as it is"
    repair(folder)
    found = values(folder)
    assert found.items() <= SOUND.items(), "nothing old, and nothing that was deleted"
    assert len(found) >= len(SOUND) - 4


def test_what_a_crash_leaves_unfinished_at_the_end_of_the_log_is_no_damage(tmp_path: Path) -> None:
    folder = crashed(tmp_path)
    log = folder / "state.db-wal"
    raw = bytearray(log.read_bytes())
    raw[-2000:] = bytes(2000)
    log.write_bytes(raw)
    assert not log_is_damaged(folder / "state.db")
    log.write_bytes(raw[:-1000])
    assert not log_is_damaged(folder / "state.db")
    assert "lww/3" in values(folder), "the deletion was the last, and is not whole"
    assert not log_is_damaged(folder / "none.db")


def _spoil(folder: Path, change: Callable[[bytearray], None]) -> None:
    with sqlite3.connect(folder / "state.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    raw = bytearray((folder / "state.db").read_bytes())
    change(raw)
    (folder / "state.db").write_bytes(raw)


def _found(raw: bytearray, text: bytes, *, index: bool) -> int:
    """Where a text stands in a page of an index (kind 10), or of a table (13)."""
    at = -1
    while (at := raw.find(text, at + 1)) >= 0:
        if raw[at // 4096 * 4096] == (10 if index else 13):
            return at
    raise AssertionError(text)


def test_an_index_that_is_damaged_hides_nothing(tmp_path: Path) -> None:
    folder = crashed(tmp_path)

    def change(raw: bytearray) -> None:
        raw[_found(raw, b"lww/5", index=True)] ^= 0x08

    _spoil(folder, change)
    assert values(folder) == SOUND


@pytest.mark.parametrize("how", ["bits", "blob", "end"])
def test_a_key_that_is_no_text_any_more_takes_no_other_with_it(tmp_path: Path, how: str) -> None:
    folder = crashed(tmp_path)

    def change(raw: bytearray) -> None:
        raw[_found(raw, b"lww/5", index=False) + 4] ^= 0x80

    if how == "bits":
        _spoil(folder, change)
    else:
        end = "x'6c77772fff'" if how == "blob" else "CAST(x'ff6c77772f' AS TEXT)"
        with sqlite3.connect(folder / "state.db") as connection:
            connection.execute(f"UPDATE entries SET key = {end} WHERE key = 'lww/5'")
        connection.close()

    async def main(store: KeyStore) -> None:
        assert {one.key for one in await store.list("", limit=100)} == set(SOUND) - {"lww/5"}
        # The deletion is one, the damaged is none.
        assert len(await store.entries_since(0, 100)) == len(SOUND)
        assert len(await store.get_many([], "lww/")) == len(SOUND) - 1
        assert await store.get("lww/5") is None
        report = await store.scrub(1 << 20)
        assert [chunk for _, chunk in report.damaged] == [b""]
        report.damaged[0][0].encode()  # others are asked for it by a name that travels

    with_store(folder, main)


@pytest.mark.parametrize("end", ["x'6c77772fff'", "CAST(x'ff6c77772f' AS TEXT)"])
def test_a_key_that_is_no_text_any_more_does_not_end_the_sweep(tmp_path: Path, end: str) -> None:
    folder, clock = crashed(tmp_path), Clock()
    with sqlite3.connect(folder / "state.db") as connection:
        connection.execute(f"UPDATE entries SET due_ms = 1, key = {end} WHERE key = 'lww/5'")
    connection.close()

    async def main(store: KeyStore) -> None:
        await store.write([Op(op="put", key="lww/old", value=b"v", ttl_ms=1000)], mode_of)
        clock.utc_ms += 2000
        assert (await store.sweep()).expired == 1
        assert (await store.sweep()).expired == 0

    with_store(folder, main, clock)


def test_two_rows_of_one_key_are_for_the_repair(tmp_path: Path) -> None:
    folder = crashed(tmp_path)

    def change(raw: bytearray) -> None:
        raw[_found(raw, b"lww/5", index=False) + 4] ^= ord("5") ^ ord("6")

    _spoil(folder, change)

    async def main() -> None:
        with pytest.raises(DamagedStore):
            await make(folder).open()

    asyncio.run(main())
    repair(folder)
    assert values(folder) == {key: value for key, value in SOUND.items() if key != "lww/5"}


class Refusing:
    """A connection whose log cannot be emptied."""

    def __init__(self, code: int) -> None:
        self._code = code

    def execute(self, words: str) -> None:
        error = sqlite3.OperationalError("refused")
        error.sqlite_errorcode = self._code
        raise error


def test_a_log_that_cannot_be_emptied_stays_but_where_the_disk_is_not_to_be_believed() -> None:
    database._empty_log(cast("Any", Refusing(sqlite3.SQLITE_FULL)))
    with pytest.raises(sqlite3.OperationalError):
        database._empty_log(cast("Any", Refusing(sqlite3.SQLITE_IOERR_FSYNC)))


def test_a_log_that_cannot_be_read_is_for_sqlite_to_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: Path) -> bool:
        raise OSError("no")

    monkeypatch.setattr(keystore, "log_is_damaged", unreadable)
    assert values(crashed(tmp_path)) == SOUND
