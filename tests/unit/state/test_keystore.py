"""The key store: what is written is read, bounds hold, and other nodes' entries meet ours."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from edgeagent.model.errors import Conflict, NotFound, StorageFull, StoreFailed, TooLarge
from edgeagent.state.calls import Op
from edgeagent.state.entry import Entry, Mode
from edgeagent.state.errors import (
    BadKey,
    ClockAhead,
    Fenced,
    KeyTaken,
    MissingChunks,
    VersionMismatch,
    WrongHash,
)
from edgeagent.state.hlc import NONE, Version
from edgeagent.state.keystore import KeyStore
from edgeagent.state.keystore_types import Usage
from tests.unit.state.keystore_rig import NOW_MS, Clock, foreign, make, mode_of, put, with_store

BIG = random.Random(1).randbytes(700_000)  # three chunks


def test_what_is_written_is_read_also_after_a_reopening(tmp_path: Path) -> None:
    async def write(store: KeyStore) -> None:
        small = await put(store, "a/small", b"x")
        big = await put(store, "a/big", BIG)
        await put(store, "a/empty", b"")
        assert small.found
        assert small.changed
        assert big.entry is not None
        assert big.entry.version > (small.entry or big.entry).version
        await check(store)

    async def check(store: KeyStore) -> None:
        for key, value in (("a/small", b"x"), ("a/big", BIG), ("a/empty", b"")):
            for _ in range(2):  # from the disk, then from memory
                found = await store.get(key)
                assert found is not None
                assert found[1] == value
                assert found[0].size_bytes == len(value)
        assert await store.get("a/none") is None
        assert await store.usage() == Usage(bytes=len(BIG) + 1, keys=3, chunks=3, inbound_bytes=0)

    with_store(tmp_path, write)
    with_store(tmp_path, check)


def test_a_group_happens_whole_or_not_at_all(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        await put(store, "a", b"1")
        before = await store.usage()
        ops = [
            Op(op="put", key="b", value=b"2"),
            Op(op="put", key="big", value=BIG),
            Op(op="delete", key="a"),
            Op(op="put", key="a", text="3", expect="1.0.n1"),
        ]
        with pytest.raises(VersionMismatch) as caught:
            await store.write(ops, mode_of)
        assert caught.value.details["version"] == ""
        assert await store.usage() == before
        assert await store.get("b") is None
        assert await store.get("a") is not None
        ops[-1] = Op(op="put", key="a", text="3", expect="")
        written = await store.write([*ops, Op(op="get", key="a"), Op(op="get", key="no")], mode_of)
        assert [one.found for one in written] == [True, True, True, True, True, False]
        got = await store.get("a")
        assert got is not None
        assert got[1] == b"3"
        assert written[-2].entry == got[0]

    with_store(tmp_path, scenario)


def test_the_modes_meet_as_they_should(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        first = await put(store, "once/a", b"1")
        again = await put(store, "once/a", b"1")
        assert not again.changed
        assert again.entry == first.entry
        with pytest.raises(KeyTaken):
            await put(store, "once/a", b"2")
        with pytest.raises(KeyTaken):
            await put(store, "once/a", BIG)
        await store.write([Op(op="delete", key="once/a")], mode_of)
        with pytest.raises(KeyTaken, match="deleted"):  # everywhere else the deletion would win
            await put(store, "once/a", b"3")
        await put(store, "owner/a", b"1")
        theirs, _ = foreign("owner/b", b"1", mode=Mode.OWNER, epoch=3, owner="n2")
        await store.accept([theirs], custody=False)
        with pytest.raises(Fenced):
            await put(store, "owner/b", b"2")
        taken = await put(store, "owner/b", b"2", takeover=True)
        assert taken.entry is not None
        assert (taken.entry.owner, taken.entry.epoch) == ("n1", 4)
        assert [one.inline for one in await store.list_aside("owner/b")] == [b"1"]

    with_store(tmp_path, scenario)


def test_a_run_that_was_taken_over_keeps_the_former_value_aside(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        await store.write([Op(op="put", key="once/a", value=BIG)], mode_of, owner_epoch=1)
        await store.write([Op(op="put", key="once/a", value=b"new")], mode_of, owner_epoch=2)
        (aside,) = await store.list_aside("once/a")
        assert await store.value_of(aside) == BIG
        assert (await store.usage()).keys == 2
        assert await store.drop_aside("once/a", aside.version)
        assert not await store.drop_aside("once/a", aside.version)
        assert await store.usage() == Usage(bytes=3, keys=1, chunks=0, inbound_bytes=0)

    with_store(tmp_path, scenario)


def test_deletions_are_remembered_and_forgotten(tmp_path: Path) -> None:
    clock = Clock()

    async def scenario(store: KeyStore) -> None:
        await put(store, "a", b"1")
        deleted, nothing = await store.write([Op(op="delete", key=key) for key in "ab"], mode_of)
        assert deleted.found
        assert not nothing.found
        assert nothing.changed  # another node may have it: the deletion travels
        (again,) = await store.write([Op(op="delete", key="a")], mode_of)
        assert (again.found, again.changed, again.entry) == (False, False, deleted.entry)
        assert await store.get("a") is None
        looked = await store.look("a")
        assert looked is not None
        assert looked.deleted
        assert [entry.key for _, entry in await store.entries_since(0, 10)] == ["a", "b"]
        assert (await store.usage()).keys == 2
        clock.utc_ms += 86_400_000
        swept = await store.sweep()
        assert (swept.expired, swept.forgotten, swept.is_done) == (0, 2, True)
        assert await store.look("a") is None
        assert await store.usage() == Usage(bytes=0, keys=0, chunks=0, inbound_bytes=0)

    with_store(tmp_path, scenario, clock)


def test_values_expire(tmp_path: Path) -> None:
    clock = Clock()

    async def scenario(store: KeyStore) -> None:
        await put(store, "small", b"1", ttl_ms=1000)
        await put(store, "big", BIG, ttl_ms=1000)
        assert await store.get("small") is not None
        clock.utc_ms += 1000
        assert await store.get("small") is None
        assert await store.get_many(["small", "big"], "") == []
        assert await store.list("") == []
        swept = await store.sweep()
        assert swept.expired == 2
        assert await store.usage() == Usage(bytes=0, keys=2, chunks=0, inbound_bytes=0)
        older, _ = foreign("small", b"0", wall_ms=NOW_MS - 1)
        (merged,) = await store.accept([older], custody=False)
        assert not merged.changed  # what has expired is not brought back by what was before
        clock.utc_ms += 86_400_000
        assert (await store.sweep()).forgotten == 2

    with_store(tmp_path, scenario, clock)


def test_expiry_follows_the_clock_of_the_version_and_not_one_that_was_never_set(tmp_path: Path) -> None:
    clock = Clock()
    clock.utc_ms = 5_000  # of 1970
    other = make(tmp_path / "other")

    async def scenario(store: KeyStore) -> None:
        await put(store, "alone", b"1", ttl_ms=1000)
        seen, _ = foreign("seen", b"1")
        await store.accept([seen], custody=False)
        follows = await put(store, "after", b"1", ttl_ms=1000)
        assert follows.entry is not None
        assert follows.entry.expires_ms == NOW_MS + 1000, "as others count, of whom it has heard"
        await put(store, "gone", b"1")
        await store.write([Op(op="delete", key="gone")], mode_of)
        alone = await store.look("alone")
        assert alone is not None
        # Another node, whose clock is right, counts from when it comes there.
        await other.open()
        (merged,) = await other.accept([alone], custody=False)
        assert merged.changed
        assert await other.get("alone") is not None
        assert (await other.sweep()).expired == 0
        await other.close()
        later = Clock()
        later.utc_ms = NOW_MS + 1000
        again = make(tmp_path / "other", later)
        await again.open()
        assert (await again.sweep()).expired == 1
        assert await again.get("alone") is None
        await again.close()
        # Here the clock is set: what it meant by its deadlines is counted anew.
        clock.utc_ms = NOW_MS
        assert (await store.sweep()).expired == 0
        assert await store.get("alone") is not None
        clock.utc_ms += 1000
        assert (await store.sweep()).expired == 2
        assert await store.get("alone") is None
        gone = await store.look("gone")
        assert gone is not None, "a deletion is remembered as long as any"
        assert gone.deleted

    with_store(tmp_path / "one", scenario, clock)


def test_a_chunk_that_is_shared_stays_while_one_value_has_it(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        await put(store, "a", BIG)
        await put(store, "b", BIG + b"x")
        assert (await store.usage()).chunks == 4  # the last one differs
        await put(store, "a", b"small")
        got = await store.get("b")
        assert got is not None
        assert got[1] == BIG + b"x"
        await put(store, "b", bytes(600_000))
        assert (await store.usage()).chunks == 2  # of zeros, and its shorter end
        await store.write([Op(op="delete", key="b")], mode_of)
        assert await store.usage() == Usage(bytes=5, keys=2, chunks=0, inbound_bytes=0)

    with_store(tmp_path, scenario)


def test_bounds_are_errors_and_leave_nothing(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        await put(store, "a", bytes(60_000))
        before = await store.usage()
        with pytest.raises(TooLarge):
            await put(store, "b", bytes(300_001))
        with pytest.raises(StorageFull, match="bytes"):
            await put(store, "b", random.Random(1).randbytes(300_000))
        with pytest.raises(StorageFull, match="bytes"):
            await put(store, "b", bytes(50_000))
        assert await store.usage() == before
        theirs, _ = foreign("c", bytes(50_000))
        with pytest.raises(StorageFull):
            await store.accept([theirs], custody=False)
        await store.accept([theirs], custody=True)  # the part that is kept for others
        await store.write([Op(op="delete", key="c")], mode_of)
        await put(store, "k2", b"")
        with pytest.raises(StorageFull, match="keys"):
            await put(store, "k3", b"")
        await put(store, "a", b"smaller")

    with_store(
        tmp_path, scenario, bytes_max=200_000, inbound_bytes=100_000, value_bytes_max=300_000, keys_max=3
    )


@pytest.mark.parametrize(
    "op",
    [
        Op(op="put", key=""),
        Op(op="put", key="a/../b", value=b""),
        Op(op="put", key="k" * 513, value=b""),
        Op(op="put", key="a"),
        Op(op="put", key="a", value=b"", text=""),
        Op(op="put", key="a", value=b"", expect="nonsense"),
        Op(op="put", key="a", value=b"", epoch=-1),
    ],
)
def test_bad_operations_are_refused(tmp_path: Path, op: Op) -> None:
    async def scenario(store: KeyStore) -> None:
        with pytest.raises(BadKey):
            await store.write([Op(op="put", key="good", value=b""), op], mode_of)
        assert await store.get("good") is None

    with_store(tmp_path, scenario)


def test_a_hand_over_of_chunks_then_the_entry(tmp_path: Path) -> None:
    entry, pieces = foreign("big", BIG)

    async def cut(store: KeyStore) -> None:
        with pytest.raises(MissingChunks) as caught:
            await store.accept([entry], custody=True)
        assert caught.value.details["chunks"] == [sha256.hex() for sha256, _ in pieces]
        await store.put_chunks(pieces[:2])
        await store.put_chunks(pieces[:2])  # again: nothing changes
        assert (await store.usage()).inbound_bytes == 2 << 18

    async def resumed(store: KeyStore) -> None:
        assert await store.missing([sha256 for sha256, _ in pieces]) == [pieces[2][0]]
        await store.put_chunks(pieces[2:])
        (merged,) = await store.accept([entry], custody=True)
        assert merged.changed
        assert await store.usage() == Usage(bytes=len(BIG), keys=1, chunks=3, inbound_bytes=0)
        got = await store.get("big")
        assert got == (entry, BIG)
        assert await store.read_chunk(pieces[1][0]) == pieces[1][1]
        with pytest.raises(NotFound):
            await store.read_chunk(bytes(32))
        assert (await store.accept([entry], custody=True))[0].changed is False

    with_store(tmp_path, cut)
    with_store(tmp_path, resumed)


def test_chunks_that_nothing_names_go_after_their_grace(tmp_path: Path) -> None:
    clock = Clock()
    _, pieces = foreign("big", BIG)

    async def scenario(store: KeyStore) -> None:
        await store.put_chunks(pieces)
        clock.utc_ms += 60_000
        await store.put_chunks(pieces[:1])
        assert (await store.sweep()).chunks == 0
        clock.utc_ms += 1
        assert (await store.sweep()).chunks == 2
        assert await store.missing([sha256 for sha256, _ in pieces]) == [sha256 for sha256, _ in pieces[1:]]

    with_store(tmp_path, scenario, clock, grace_ms=60_000)


def _changed(entry: Entry, **fields: object) -> Entry:
    import msgspec

    return msgspec.structs.replace(entry, **fields)


async def _flood(store: KeyStore) -> None:
    for seed in range(100):
        await store.put_chunks(foreign("x", random.Random(seed + 2).randbytes(1 << 20))[1])


def test_hostile_entries_and_chunks_are_refused(tmp_path: Path) -> None:
    small, _ = foreign("a", b"1")
    big, pieces = foreign("big", BIG)
    wrong: list[tuple[Entry, type[Exception]]] = [
        (_changed(small, inline=b"2"), WrongHash),
        (_changed(small, inline=None), BadKey),
        (_changed(small, size_bytes=2), BadKey),
        (_changed(small, key="/"), BadKey),
        (_changed(small, version=Version(-1, 0, "n2")), BadKey),
        (_changed(small, version=Version(1, 1 << 16, "n2")), BadKey),
        (_changed(small, version=Version(1, 0, "no node")), BadKey),
        (_changed(small, owner="\n"), BadKey),
        (_changed(small, epoch=1 << 63), BadKey),
        (_changed(small, deleted=True), BadKey),
        (_changed(small, version=Version(NOW_MS + 61_000, 0, "n2")), ClockAhead),
        (_changed(big, chunks=big.chunks[:2]), BadKey),
        (_changed(big, size_bytes=1 << 40), TooLarge),
        (_changed(big, sha256=bytes(32)), WrongHash),
        (_changed(big, chunks=(big.chunks[1], big.chunks[0], big.chunks[2])), WrongHash),
        (_changed(big, chunks=(*big.chunks[:2], bytes(32))), MissingChunks),
    ]

    async def scenario(store: KeyStore) -> None:
        await store.put_chunks(pieces)
        before = await store.usage()
        for entry, error in wrong:
            good, _ = foreign("good", b"1")
            with pytest.raises(error):
                await store.accept([good, entry], custody=True)
        with pytest.raises(WrongHash):
            await store.put_chunks([(bytes(32), b"x")])
        with pytest.raises(WrongHash):
            await store.put_chunks([foreign("x", bytes(300_000))[1][0], (bytes(32), bytes(1 << 19))])
        assert await store.usage() == before
        with pytest.raises(StorageFull):
            await _flood(store)
        assert (await store.usage()).bytes <= 8 << 20

    with_store(tmp_path, scenario)


def test_versions_are_above_all_that_were_seen_over_restarts(tmp_path: Path) -> None:
    ahead, _ = foreign("a", b"1", wall_ms=NOW_MS + 50_000)

    async def see(store: KeyStore) -> None:
        await store.accept([ahead], custody=False)
        assert await store.drop([("a", ahead.version)]) == ["a"]

    async def write(store: KeyStore) -> None:
        written = await put(store, "b", b"1")
        assert written.entry is not None
        assert written.entry.version > ahead.version

    with_store(tmp_path, see)
    with_store(tmp_path, write)


def test_only_what_is_unchanged_is_dropped(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        old = (await put(store, "a", b"1")).entry
        new = (await put(store, "a", BIG)).entry
        assert old is not None
        assert new is not None
        assert await store.drop([("a", old.version), ("b", NONE)]) == []
        assert await store.drop([("a", new.version)]) == ["a"]
        assert await store.look("a") is None
        assert await store.usage() == Usage(bytes=0, keys=0, chunks=0, inbound_bytes=0)

    with_store(tmp_path, scenario)


def test_listing_and_reading_many(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        for key in ("a/1", "a/2", "a/é", "a/\U0010ffff", "ab", "b"):
            await put(store, key, key.encode())
        await put(store, "a/big", BIG)
        await store.write([Op(op="delete", key="a/2")], mode_of)
        below = ["a/1", "a/big", "a/é", "a/\U0010ffff"]
        listed = await store.list("a/")
        assert [one.key for one in listed] == below
        assert all(one.inline is None for one in listed)
        assert [one.key for one in await store.list("a/", after="a/1", limit=2)] == below[1:3]
        assert await store.list("a/", limit=0) == []
        assert [one.key for one in await store.list("")] == sorted([*below, "ab", "b"])
        many = await store.get_many(["b", "none"], "a/")
        assert [(entry.key, value) for entry, value in many] == [
            ("b", b"b"),
            ("a/1", b"a/1"),
            ("a/big", None),
            ("a/é", "a/é".encode()),
            ("a/\U0010ffff", "a/\U0010ffff".encode()),
        ]
        assert await store.value_of(many[2][0]) == BIG
        await store.get("b")
        assert await store.get_many(["b", "b"]) == [many[0], many[0]]  # from memory

    with_store(tmp_path, scenario)


def test_the_feed_of_changes(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        for key in ("a", "b", "a"):
            await put(store, key, key.encode())
        feed = await store.entries_since(0, 10)
        assert [entry.key for _, entry in feed] == ["b", "a"]
        assert feed[0][1].inline == b"b"
        assert await store.entries_since(feed[-1][0], 10) == []
        last = feed[-1][0]
        found = await store.look("a")
        assert found is not None
        await store.drop([("a", found.version)])
        await put(store, "c", b"")
        ((seq, entry),) = await store.entries_since(last, 10)
        assert entry.key == "c"
        assert seq > last  # a number is not used twice

    with_store(tmp_path, scenario)


def test_notes(tmp_path: Path) -> None:
    async def write(store: KeyStore) -> None:
        await store.put_notes("custody", {"a": b"1", "b": b"2", "c": None})
        await store.put_notes("custody", {"a": b"3", "b": None})
        with pytest.raises(TooLarge):
            await store.put_notes("custody", {"a": bytes((4 << 20) + 1)})

    async def read(store: KeyStore) -> None:
        assert await store.notes("custody") == {"a": b"3"}
        assert await store.notes("other") == {}

    with_store(tmp_path, write)
    with_store(tmp_path, read)


def test_too_many_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.state.keystore_notes.NOTES_MAX", 2)

    async def scenario(store: KeyStore) -> None:
        await store.put_notes("a", {"1": b"", "2": b""})
        with pytest.raises(StorageFull):
            await store.put_notes("a", {"3": b""})
        await store.put_notes("b", {"3": b""})
        assert sorted(await store.notes("a")) == ["1", "2"]

    with_store(tmp_path, scenario)


def test_one_process_at_a_time_and_none_when_closed(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        other = make(tmp_path)
        with pytest.raises(Conflict, match="another process"):
            await other.open()
        with pytest.raises(StoreFailed, match="closed"):
            await put(other, "a", b"")
        with pytest.raises(StoreFailed, match="closed"):
            await other.put_chunks([])
        await put(store, "a", b"")

    with_store(tmp_path, scenario)
