"""Disks that fail: damage is found, said, and healed; nothing half-written stays; space is given back."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from edgeagent.model.errors import StorageFull, StoreFailed
from edgeagent.state.calls import Op
from edgeagent.state.database import DamagedStore, SyncLost
from edgeagent.state.errors import DamagedValue, MissingChunks, WrongHash
from edgeagent.state.keystore import KeyStore
from edgeagent.state.segments import HEADER_BYTES, Place, Segments, record_bytes, scan
from tests.unit.state.keystore_rig import Clock, foreign, make, mode_of, put, with_store

BIG = random.Random(1).randbytes(700_000)
PIECES = foreign("x", BIG)[1]


def damage_chunk(directory: Path, number: int) -> bytes:
    """Flip a bit of the chunk with this number on the disk; its digest."""
    sha256 = PIECES[number][0]
    for path in (directory / "segments").iterdir():
        for found in scan(path):
            if found.sha256 == sha256:
                with path.open("r+b") as file:
                    file.seek(found.place.offset + HEADER_BYTES + 1000)
                    byte = file.read(1)[0]
                    file.seek(-1, os.SEEK_CUR)
                    file.write(bytes([byte ^ 1]))
    return sha256


def spoil(directory: Path, statement: str) -> None:
    connection = sqlite3.connect(directory / "state.db")
    connection.execute(statement)
    connection.commit()
    connection.close()


async def _prepared(store: KeyStore) -> None:
    await put(store, "big", BIG)
    await put(store, "small", b"value")


def test_a_damaged_chunk_is_reported_and_healed_while_the_store_works(tmp_path: Path) -> None:
    with_store(tmp_path, _prepared)
    sha256 = damage_chunk(tmp_path, 1)

    async def scenario(store: KeyStore) -> None:
        with pytest.raises(DamagedValue) as caught:
            await store.get("big")
        assert caught.value.details == {"key": "big", "chunk": sha256.hex()}
        with pytest.raises(DamagedValue):
            await store.read_chunk(sha256)
        damaged = []
        rounds = 0
        while not rounds:
            report = await store.scrub(1)
            damaged += report.damaged
            rounds += report.is_round
        assert damaged == [("big", sha256)]
        assert await store.missing([one for one, _ in PIECES]) == [sha256]
        with pytest.raises(WrongHash):
            await store.heal(sha256, PIECES[0][1])
        assert await store.heal(sha256, PIECES[1][1])
        assert not await store.heal(*foreign("y", bytes(70_000))[1][0])
        got = await store.get("big")
        assert got is not None
        assert got[1] == BIG
        assert (await store.scrub(1 << 30)).damaged == []

    with_store(tmp_path, scenario)


def test_a_chunk_that_comes_again_heals_what_is_damaged(tmp_path: Path) -> None:
    with_store(tmp_path, _prepared)
    damage_chunk(tmp_path, 0)

    async def scenario(store: KeyStore) -> None:
        await put(store, "other", BIG)  # the same chunks: what is there is not trusted unread
        got = await store.get("big")
        assert got is not None
        assert got[1] == BIG

    with_store(tmp_path, scenario)
    sha256 = damage_chunk(tmp_path, 2)

    async def handed_over(store: KeyStore) -> None:
        entry, _ = foreign("third", BIG)
        with pytest.raises(MissingChunks) as caught:
            await store.accept([entry], custody=True)
        assert caught.value.details["chunks"] == [sha256.hex()]
        assert await store.missing([sha256]) == [sha256]
        await store.put_chunks(PIECES[2:])
        await store.accept([entry], custody=True)
        assert (await store.scrub(1 << 30)).damaged == []

    with_store(tmp_path, handed_over)


def test_segments_that_are_gone_or_cut_short_do_not_stop_the_start(tmp_path: Path) -> None:
    with_store(tmp_path, _prepared)
    (path,) = (tmp_path / "segments").iterdir()
    os.truncate(path, 300_000)

    async def cut_short(store: KeyStore) -> None:
        with pytest.raises(DamagedValue):
            await store.get("big")
        await put(store, "more", random.Random(2).randbytes(100_000))
        assert await store.heal(*PIECES[1])

    with_store(tmp_path, cut_short)
    path.unlink()

    async def gone(store: KeyStore) -> None:
        assert len((await store.scrub(1 << 30)).damaged) == 2
        assert await store.heal(*PIECES[0])
        assert await store.heal(*PIECES[2])
        got = await store.get("big")
        assert got is not None
        assert got[1] == BIG
        assert await store.get("more") is not None

    with_store(tmp_path, gone)


def test_a_small_value_is_healed_too(tmp_path: Path) -> None:
    with_store(tmp_path, _prepared)
    spoil(tmp_path, "UPDATE entries SET value = x'00' || substr(value, 2) WHERE key = 'small'")

    async def scenario(store: KeyStore) -> None:
        with pytest.raises(DamagedValue) as caught:
            await store.get("small")
        sha256 = bytes.fromhex(caught.value.details["chunk"])
        with pytest.raises(DamagedValue):
            await store.get_many(["small"])
        assert [entry.key for _, entry in await store.entries_since(0, 10)] == ["big"]
        assert (await store.scrub(1 << 30)).damaged == [("small", sha256)]
        assert await store.heal(sha256, b"value")
        assert (await store.scrub(1 << 30)).damaged == []
        got = await store.get("small")
        assert got is not None
        assert got[1] == b"value"

    with_store(tmp_path, scenario)
    spoil(tmp_path, "UPDATE entries SET value = x'00' || substr(value, 2) WHERE key = 'small'")

    async def by_a_replica(store: KeyStore) -> None:
        (found,) = [one for one in await store.list("") if one.key == "small"]
        entry, _ = foreign("small", b"value", wall_ms=found.version.wall_ms, node="n1")
        entry = type(entry)(
            **{**{f: getattr(entry, f) for f in entry.__struct_fields__}, "version": found.version}
        )
        (merged,) = await store.accept([entry], custody=False)
        assert not merged.changed
        got = await store.get("small")
        assert got is not None
        assert got[1] == b"value"

    with_store(tmp_path, by_a_replica)


@pytest.mark.parametrize("value", ["x'00'", "'text'", "x'93010203'"])
def test_a_damaged_row_is_never_taken_for_a_value(tmp_path: Path, value: str) -> None:
    clock = Clock()

    async def prepared(store: KeyStore) -> None:
        await _prepared(store)
        await put(store, "short", b"1", ttl_ms=10)

    with_store(tmp_path, prepared, clock)
    spoil(tmp_path, f"UPDATE entries SET record = {value} WHERE key <> 'big'")

    async def scenario(store: KeyStore) -> None:
        for call in (store.get("small"), store.look("small"), put(store, "small", b"new")):
            with pytest.raises(DamagedValue):
                await call
        assert [one.key for one in await store.list("")] == ["big"]
        assert (await store.scrub(1 << 30)).damaged == [("small", b""), ("short", b"")]
        clock.utc_ms += 100_000
        assert (await store.sweep()).expired == 0
        entry, _ = foreign("small", b"theirs", wall_ms=clock.utc_ms)
        (merged,) = await store.accept([entry], custody=False)  # a replica's entry takes its place
        assert merged.changed
        assert await store.get("small") == (entry, b"theirs")
        assert (await store.usage()).keys == 3

    with_store(tmp_path, scenario, clock)


def test_damaged_notes_and_asides(tmp_path: Path) -> None:
    async def prepared(store: KeyStore) -> None:
        await store.put_notes("a", {"1": b"x"})
        await store.write([Op(op="put", key="once/a", value=b"1")], mode_of, owner_epoch=1)
        await store.write([Op(op="put", key="once/a", value=b"2")], mode_of, owner_epoch=2)

    with_store(tmp_path, prepared)
    spoil(tmp_path, "UPDATE notes SET value = x'00'")
    spoil(tmp_path, "UPDATE asides SET record = x'00'")

    async def scenario(store: KeyStore) -> None:
        with pytest.raises(DamagedValue):
            await store.notes("a")
        assert await store.list_aside("once/a") == []
        assert (await store.scrub(1 << 30)).damaged == [("once/a", b"")]

    with_store(tmp_path, scenario)


def test_a_damaged_aside_goes_with_its_key(tmp_path: Path) -> None:
    clock = Clock()

    async def prepared(store: KeyStore) -> None:
        await store.write([Op(op="put", key="once/a", value=BIG)], mode_of, owner_epoch=1)
        await store.write([Op(op="put", key="once/a", value=b"2")], mode_of, owner_epoch=2)
        await store.write([Op(op="delete", key="once/a")], mode_of, owner_epoch=2)

    with_store(tmp_path, prepared, clock)
    damage_chunk(tmp_path, 1)

    async def scrubbed(store: KeyStore) -> None:
        assert (await store.scrub(1 << 30)).damaged == [("once/a", PIECES[1][0])]

    with_store(tmp_path, scrubbed, clock)
    spoil(tmp_path, "UPDATE asides SET crc = 0")

    async def scenario(store: KeyStore) -> None:
        report = await store.scrub(1 << 30)
        assert report.damaged == [("once/a", b""), ("", PIECES[1][0])]
        clock.utc_ms += 86_400_000
        assert (await store.sweep()).forgotten == 1
        usage = await store.usage()
        assert (usage.keys, usage.chunks) == (
            0,
            3,
        )  # whose they were nobody can say: a repair lets go of them

    with_store(tmp_path, scenario, clock)


def test_a_damaged_index_stops_the_start_and_says_what_mends_it(tmp_path: Path) -> None:
    async def many(store: KeyStore) -> None:
        for number in range(50):
            await put(store, f"k{number}", bytes(1000))

    with_store(tmp_path, many)
    with (tmp_path / "state.db").open("r+b") as file:
        file.seek(4096 * 15)
        file.write(b"\xff" * 4096)
    with pytest.raises(DamagedStore) as caught:
        with_store(tmp_path, many)
    assert f"edgeagent state repair {tmp_path}" in caught.value.hint


@pytest.mark.parametrize("spoiled", ["index gone", "totals gone", "repair interrupted"])
def test_a_store_in_pieces_is_not_taken_for_a_new_one(tmp_path: Path, spoiled: str) -> None:
    with_store(tmp_path, _prepared)
    if spoiled == "totals gone":
        spoil(tmp_path, "DELETE FROM totals")
    else:
        (tmp_path / "state.db").rename(
            tmp_path / ("state.db.complete" if "repair" in spoiled else "elsewhere")
        )
    with pytest.raises(DamagedStore) as caught:
        with_store(tmp_path, _prepared)
    assert "edgeagent state repair" in caught.value.hint


def test_segments_are_emptied_and_their_space_given_back(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        chance = random.Random(3)
        await put(store, "kept", BIG)
        for _ in range(20):
            await put(store, "changing", chance.randbytes(600_000))
        files = len(list((tmp_path / "segments").iterdir()))
        assert files > 10
        removed = 0
        while not (swept := await store.sweep()).is_done:
            removed += swept.segments
        assert removed >= files - 4
        assert len(list((tmp_path / "segments").iterdir())) == files - removed
        got = await store.get("kept")
        assert got is not None
        assert got[1] == BIG

    with_store(tmp_path, scenario)

    async def again(store: KeyStore) -> None:
        assert (await store.scrub(1 << 30)).damaged == []

    with_store(tmp_path, again)


def test_a_damaged_chunk_keeps_its_segment(tmp_path: Path) -> None:
    async def prepared(store: KeyStore) -> None:
        await put(store, "big", BIG)
        await put(store, "more", random.Random(2).randbytes(600_000))
        await put(store, "big", BIG[: 1 << 18])
        await put(store, "more", b"")

    with_store(tmp_path, prepared)
    sha256 = damage_chunk(tmp_path, 0)
    (first, *_) = sorted((tmp_path / "segments").iterdir())

    async def scenario(store: KeyStore) -> None:
        while not (await store.sweep()).is_done:
            pass
        assert first.exists()
        assert await store.missing([sha256]) == [sha256]
        await store.heal(*PIECES[0])
        while not (await store.sweep()).is_done:
            pass
        assert not first.exists()

    with_store(tmp_path, scenario)


def _failing(name: str, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(f"edgeagent.state.segments.os.{name}", fail)


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        ("posix_fallocate", errno.ENOSPC, StorageFull),
        ("posix_fallocate", errno.EROFS, StoreFailed),
        ("pwritev", errno.EDQUOT, StorageFull),
        ("pwritev", errno.EIO, StoreFailed),
        ("fdatasync", errno.EIO, SyncLost),
    ],
)
def test_what_the_disk_refuses_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, expected: type[StoreFailed]
) -> None:
    async def scenario(store: KeyStore) -> None:
        await put(store, "small", b"1")
        before = await store.usage()
        with monkeypatch.context() as patched:
            _failing(name, number, patched)
            ops = [Op(op="put", key="a", value=b"x"), Op(op="put", key="b", value=BIG)]
            with pytest.raises(expected):
                await store.write(ops, mode_of)
            with pytest.raises(expected):
                await store.put_chunks(PIECES)
        assert await store.usage() == before
        assert await store.get("a") is None
        if expected is SyncLost:  # nobody knows what the disk holds
            assert store.failed is not None
            with pytest.raises(SyncLost):
                await put(store, "b", BIG)
        else:
            await put(store, "b", BIG)

    with_store(tmp_path, scenario)

    async def again(store: KeyStore) -> None:
        await put(store, "b", BIG)
        assert (await store.scrub(1 << 30)).damaged == []

    with_store(tmp_path, again)


def test_a_segment_is_as_large_as_the_disk_lets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.posix_fallocate

    def small(fd: int, at: int, size: int) -> None:
        if size > 300_000:
            raise OSError(errno.ENOSPC, "full")
        really(fd, at, size)

    monkeypatch.setattr("edgeagent.state.segments.os.posix_fallocate", small)
    (tmp_path / "segments").mkdir()
    segments = Segments(tmp_path / "segments", segment_bytes=1 << 20)
    segments.open({})
    (place,) = segments.append([PIECES[0]])
    assert segments.read(place, PIECES[0][0]) == PIECES[0][1]
    assert (tmp_path / "segments" / "00000001.seg").stat().st_size == record_bytes(1 << 18)
    segments.close()


def test_segments_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "segments").write_text("a file")
    with pytest.raises(StoreFailed):
        Segments(tmp_path / "segments").open({})
    (tmp_path / "segments").unlink()
    segments = Segments(tmp_path / "segments", segment_bytes=1 << 18)
    segments.open({})
    (place,) = segments.append([PIECES[0]])
    segments.unpin([place])
    segments.append([PIECES[1]])
    assert list(segments.sealed()) == [1]
    _failing("pread", errno.EIO, monkeypatch)
    assert segments.read(place, PIECES[0][0]) is None
    assert segments.read(Place(9, 0, 1), PIECES[0][0]) is None
    monkeypatch.undo()
    (tmp_path / "segments" / "00000001.seg").unlink()
    (tmp_path / "segments" / "00000001.seg").mkdir()
    with pytest.raises(StoreFailed):
        segments.remove(1)
    segments.close()


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed):
        asyncio.run(make(tmp_path / "file" / "state").open())


def test_on_a_full_disk_only_empty_segments_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(store: KeyStore) -> None:
        chance = random.Random(5)
        await put(store, "kept", chance.randbytes(300_000))
        for _ in range(5):
            await put(store, "changing", chance.randbytes(700_000))
        with monkeypatch.context() as patched:
            _failing("posix_fallocate", errno.ENOSPC, patched)
            patched.setattr(store._segments, "_active", 0)
            removed = 0
            while not (swept := await store.sweep()).is_done:
                removed += swept.segments
            assert removed
        moved = (await store.sweep()).moved_bytes
        assert moved == 300_000

    with_store(tmp_path, scenario)
