"""Space that is kept back, and who may use it."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgeagent.model.errors import StorageFull
from edgeagent.state import database, store
from edgeagent.state.database import DiskFull, Failure
from edgeagent.state.reserve import STEP_BYTES, Reserve
from edgeagent.state.store import Store

TABLE = ("CREATE TABLE t (n INTEGER PRIMARY KEY);",)


def disk_of(monkeypatch: pytest.MonkeyPatch, room: int) -> Callable[[int], None]:
    """A disk on which one file finds ``room`` bytes; the function changes that."""
    left = [room]
    allocate = os.posix_fallocate

    def fallocate(fd: int, at: int, size: int) -> None:
        if size > left[0]:
            os.ftruncate(fd, left[0])  # some file systems leave what they got
            raise OSError(errno.ENOSPC, "No space left on device")
        allocate(fd, at, size)

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    return lambda now: left.__setitem__(0, now)


def test_what_is_taken_and_given_back(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", 1 << 20)
    assert reserve.fill()
    assert reserve.path.stat().st_blocks * 512 >= 1 << 20
    assert reserve.path.stat().st_mode & 0o777 == 0o600
    assert reserve.has_room()
    assert reserve.could_write()
    assert reserve.path.stat().st_size == 1 << 20
    reserve.release()
    assert reserve.path.stat().st_size == 0


def test_as_much_as_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change = disk_of(monkeypatch, 300_000)
    reserve = Reserve(tmp_path / "reserve", 1 << 20)
    assert not reserve.fill()
    assert not reserve.has_room()
    assert not reserve.could_write()
    assert reserve.path.stat().st_size == 300_000 // STEP_BYTES * STEP_BYTES
    change(1 << 20)
    assert reserve.has_room()
    assert not reserve.could_write()  # whole, and not a byte more
    change(1 << 30)
    assert reserve.could_write()
    assert reserve.path.stat().st_size == 1 << 20


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "no" / "reserve")
    reserve.release()
    assert not reserve.fill()
    assert not reserve.has_room()


class FullDisk:
    """``run_group`` on a disk that has room only while the reserve is released."""

    def __init__(self, reserve: Reserve) -> None:
        self._reserve = reserve
        self._run = database.run_group
        self.is_full = True

    def __call__(self, connection: sqlite3.Connection, group: Sequence[database.Work]) -> list[Any]:
        if self.is_full and self._reserve.path.stat().st_size:
            return [Failure(DiskFull("no space")) for _ in group]
        return self._run(connection, group)


def is_full(opened: Store) -> bool:
    return opened.full


def test_what_makes_room_is_written_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = Reserve(tmp_path / "reserve")
    disk = FullDisk(reserve)
    monkeypatch.setattr(store, "run_group", disk)

    def put(number: int) -> database.Work:
        return lambda c: c.execute("INSERT INTO t VALUES (?)", (number,)).rowcount

    async def main() -> None:
        opened = Store(tmp_path / "db", migrations=TABLE, reserve=reserve)
        await opened.open()
        assert not is_full(opened)
        with pytest.raises(StorageFull):
            await opened.write(put(1))
        assert is_full(opened)
        answers = await asyncio.gather(
            opened.write(put(2)), opened.write(put(3), essential=True), return_exceptions=True
        )
        assert isinstance(answers[0], StorageFull)
        assert answers[1] == 1
        assert reserve.path.stat().st_size == reserve.size_bytes  # taken again at once
        disk.is_full = False
        await opened.look_for_room()
        assert not is_full(opened)
        assert await opened.write(put(4)) == 1
        await opened.close()

    asyncio.run(main())


def test_a_database_that_opens_only_with_the_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opener = database.open_writer
    reserve = Reserve(tmp_path / "reserve")
    reserve.fill()

    def full(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
        if reserve.path.stat().st_size:
            raise DiskFull("no space")
        return opener(path, migrations)

    monkeypatch.setattr(store, "open_writer", full)

    async def main() -> None:
        with pytest.raises(StorageFull):
            await Store(tmp_path / "db", migrations=TABLE).open()
        opened = Store(tmp_path / "db", migrations=TABLE, reserve=reserve)
        await opened.open()
        await opened.close()

    asyncio.run(main())
    assert reserve.path.stat().st_size == reserve.size_bytes


def test_a_file_system_that_takes_no_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = Reserve(tmp_path / "reserve", STEP_BYTES)
    assert not reserve.is_read_only()

    def refused(error: int) -> Callable[..., int]:
        def refuse(*_: Any) -> int:
            raise OSError(error, "")

        return refuse

    monkeypatch.setattr(os, "open", refused(errno.EACCES))
    assert not reserve.is_read_only()  # for other reasons
    monkeypatch.setattr(os, "open", refused(errno.EROFS))
    assert reserve.is_read_only()
