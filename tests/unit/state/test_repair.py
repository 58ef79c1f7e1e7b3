"""Repair: all that is intact is there afterwards, and what is not is said."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
from pathlib import Path

import pytest

from edgeagent.cli.state_repair import add_repair
from edgeagent.model.errors import Conflict, NotFound, StoreFailed
from edgeagent.state.calls import Op
from edgeagent.state.database import DamagedStore
from edgeagent.state.errors import DamagedValue
from edgeagent.state.keystore import KeyStore
from edgeagent.state.repair import repair
from edgeagent.state.salvage import salvaged_rows
from tests.unit.state.keystore_rig import foreign, make, mode_of, put, with_store
from tests.unit.state.test_keystore_damage import BIG, PIECES, damage_chunk

VALUES = {
    f"k/{number:03d}": random.Random(number).randbytes((10, 900, 5_000, 60_000)[number % 4])
    for number in range(120)
} | {"big": BIG, "empty": b""}


async def _fill(store: KeyStore) -> None:
    await store.write([Op(op="put", key=key, value=b"older") for key in VALUES], mode_of)
    await store.write([Op(op="put", key=key, value=value) for key, value in VALUES.items()], mode_of)
    await put(store, "gone", b"1")
    await store.write([Op(op="delete", key="gone")], mode_of)
    await store.write([Op(op="put", key="once/a", value=b"1")], mode_of, owner_epoch=1)
    await store.write([Op(op="put", key="once/a", value=b"2")], mode_of, owner_epoch=2)
    await store.put_notes("custody", {"a": b"1", "b": bytes(5000)})
    await store.put_chunks(foreign("x", bytes(70_000))[1])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all kinds of rows, closed."""
    path = tmp_path_factory.mktemp("filled") / "state"
    with_store(path, _fill)
    return path


@pytest.fixture
def directory(filled: Path, tmp_path: Path) -> Path:
    shutil.copytree(filled, tmp_path / "state")
    return tmp_path / "state"


async def _check(store: KeyStore, lost: set[str]) -> None:
    for key, value in VALUES.items():
        if key not in lost:
            got = await store.get(key)
            assert got is not None, key
            assert got[1] == value
        else:
            assert await store.get(key) is None
    assert await store.get("gone") is None


def test_a_sound_store_is_the_same_afterwards(directory: Path) -> None:
    report = repair(directory)
    assert (report.lost_keys, report.lost_chunks, report.unnamed_rows) == ([], [], 0)
    assert (report.entries, report.asides, report.notes, report.chunks) == (len(VALUES) + 2, 1, 2, 4)
    assert (Path(report.moved) / "state.db").exists()

    async def scenario(store: KeyStore) -> None:
        await _check(store, set())
        assert (await store.notes("custody"))["a"] == b"1"
        assert [one.inline for one in await store.list_aside("once/a")] == [b"1"]
        usage = await store.usage()
        assert usage.keys == len(VALUES) + 3
        assert usage.inbound_bytes == 70_000
        looked = await store.look("gone")
        assert looked is not None
        assert looked.deleted
        before = max([entry.version for _, entry in await store.entries_since(0, 1000)])
        written = await put(store, "new", b"")
        assert written.entry is not None
        assert written.entry.version > before
        await store.write([Op(op="delete", key=key) for key in VALUES], mode_of)
        assert (await store.usage()).chunks == 1

    with_store(directory, scenario)
    assert repair(directory).moved.endswith("damaged-2")


@pytest.mark.parametrize("seed", range(12))
def test_damaged_pages_cost_what_lies_in_them_and_no_more(directory: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = directory / "state.db"
    pages = path.stat().st_size // 4096
    intact = {row[1][1]: row[0] for row in salvaged_rows(path) if len(row[1]) == 7}
    with path.open("r+b") as file:
        for _ in range(chance.randrange(1, 6)):
            page = chance.choice((0, chance.randrange(pages)))
            kind = chance.randrange(3)
            file.seek(page * 4096 + (chance.randrange(4000) if kind == 0 else 0))
            file.write((bytes(1), chance.randbytes(4096), bytes(4096))[kind])
    report = repair(directory)
    lost = set(report.lost_keys)
    assert report.entries + len(lost) <= len(intact)

    async def scenario(store: KeyStore) -> None:
        found = {one.key for one in await store.list("")}
        for key in found & VALUES.keys():
            got = await store.get(key)
            assert got is not None
            assert got[1] == VALUES[key]  # never an older value
        assert not found & lost
        assert (await store.scrub(1 << 30)).damaged == []

    with_store(directory, scenario)


def test_a_page_between_the_root_and_the_rows_costs_nothing(directory: Path) -> None:
    path = directory / "state.db"
    data = bytearray(path.read_bytes())
    inner = [at for at in range(4096, len(data), 4096) if data[at] == 0x05]
    assert inner
    for at in inner:
        data[at : at + 4096] = bytes(4096)
    path.write_bytes(data)
    with pytest.raises(DamagedStore):
        with_store(directory, _fill)
    report = repair(directory)
    assert report.entries == len(VALUES) + 2

    async def scenario(store: KeyStore) -> None:
        await _check(store, set())

    with_store(directory, scenario)


def test_a_file_that_is_no_database_any_more(directory: Path) -> None:
    path = directory / "state.db"
    with path.open("r+b") as file:
        file.write(os.urandom(100))
    report = repair(directory)
    assert report.entries == len(VALUES) + 2
    (directory / "state.db").unlink()
    for name in ("state.db-wal", "state.db-shm"):
        (directory / name).unlink(missing_ok=True)
    report = repair(directory)  # nothing but chunks
    assert (report.entries, report.chunks) == (0, 4)


def test_what_is_in_the_log_alone_is_salvaged(directory: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"

    async def scenario(store: KeyStore) -> None:
        await put(store, "late", b"1")
        await put(store, "k/000", b"newer")
        shutil.copytree(directory, copy)  # as a crash leaves it

    with_store(directory, scenario)
    assert (copy / "state.db-wal").stat().st_size > 0
    torn = bytearray((copy / "state.db-wal").read_bytes())
    torn += torn[-4096 - 24 :]  # a frame that was never part of it
    (copy / "state.db-wal").write_bytes(torn)
    repair(copy)

    async def check(store: KeyStore) -> None:
        assert (await store.get("late") or (None, b""))[1] == b"1"
        assert (await store.get("k/000") or (None, b""))[1] == b"newer"

    with_store(copy, check)


def test_damaged_records_move_their_file_aside_and_intact_ones_stay(directory: Path) -> None:
    sha256 = damage_chunk(directory, 1)
    report = repair(directory)
    assert report.lost_chunks == [("big", sha256.hex())]
    assert report.chunks == 3
    assert list(Path(report.moved).glob("*.seg"))

    async def scenario(store: KeyStore) -> None:
        with pytest.raises(DamagedValue):
            await store.get("big")
        assert (await store.scrub(1 << 30)).damaged == [("big", sha256)]
        assert await store.heal(*PIECES[1])
        await _check(store, set())

    with_store(directory, scenario)
    report = repair(directory)
    assert (report.lost_chunks, report.chunks) == ([], 4)


@pytest.mark.parametrize("after", range(8))
def test_an_interrupted_repair_can_be_repeated(
    directory: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    damage_chunk(directory, 1)
    left = after
    really = Path.rename

    def rename(path: Path, target: Path) -> Path:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        return really(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", rename)
        try:
            repair(directory)
        except KeyboardInterrupt:
            assert not left
    report = repair(directory)
    assert report.entries == len(VALUES) + 2

    async def scenario(store: KeyStore) -> None:
        await store.heal(*PIECES[1])
        await _check(store, set())

    with_store(directory, scenario)


def test_what_repair_refuses(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound):
        repair(tmp_path / "nothing")

    async def in_use() -> None:
        store = make(directory)
        await store.open()
        with pytest.raises(Conflict):
            repair(directory)
        await store.close()

    asyncio.run(in_use())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr("edgeagent.state.repair.LockFile.take", lambda _: None)
    with pytest.raises(StoreFailed):
        repair(directory)


def _step(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    add_repair(parser.add_subparsers())
    return parser.parse_args(words)


def test_the_command_says_what_was_kept_and_lost(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = _step("repair", str(directory))
    assert args.run_part(args) == 0
    said = capsys.readouterr().out
    assert "124 keys" in said
    assert "nothing that could be found was lost" in said
    damage_chunk(directory, 1)
    args = _step("repair", str(directory))
    args.run_part(args)
    assert "damaged until another node heals them: 1 keys\n  big" in capsys.readouterr().out
    args = _step("repair", str(directory), "--json")
    args.run_part(args)
    shown = json.loads(capsys.readouterr().out)
    assert shown["ok"]
    assert shown["lost_chunks"] == [["big", PIECES[1][0].hex()]]
