"""Segment files: their format, and disks whose sectors cannot be read."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from edgeagent.model.errors import StorageFull
from edgeagent.state.entry import Mode, entry_of
from edgeagent.state.hlc import Version
from edgeagent.state.keystore_rows import decode, encode
from edgeagent.state.repair import repair
from edgeagent.state.salvage import salvaged_rows
from edgeagent.state.segments import Place, Segments, record_bytes, scan
from tests.unit.state.keystore_rig import put, with_store


def written(directory: Path) -> Path:
    """A segment with the records of b"abc" and of 5,000 zeros."""
    (directory / "segments").mkdir()
    segments = Segments(directory / "segments", segment_bytes=1 << 16)
    segments.open({})
    chunks = [b"abc", bytes(5000)]
    places = segments.append([(hashlib.sha256(chunk).digest(), chunk) for chunk in chunks])
    assert places == [Place(1, 0, 3), Place(1, 4096, 5000)]
    segments.close()
    return directory / "segments" / "00000001.seg"


def test_the_format_of_a_record(tmp_path: Path) -> None:
    data = written(tmp_path).read_bytes()
    assert len(data) == 1 << 16
    digest = hashlib.sha256(b"abc").hexdigest()
    assert data[:48].hex() == f"454453470001000000000003{digest}" + "52b21b8d"
    assert data[48:51] == b"abc"
    assert record_bytes(4048) == 4096
    assert record_bytes(4049) == 8192


def test_the_format_of_a_row() -> None:
    entry = entry_of("a/b", b"abc", Version(1_800_000_000_000, 7, "n1"), mode=Mode.OWNER, epoch=2, owner="n1")
    crc, record = encode(entry)
    digest = hashlib.sha256(b"abc").hexdigest()
    assert record.hex() == f"9993cf000001a3185c500007a26e31a56f776e657202a26e31c203c420{digest}9000"
    assert decode("a/b", crc, record, b"abc") == entry


def test_a_scan_finds_what_is_intact_and_what_is_not(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert [one.is_intact for one in scan(path)] == [True, True]
    data = bytearray(path.read_bytes())
    data[49] ^= 1
    path.write_bytes(data)
    assert [(one.place.offset, one.is_intact) for one in scan(path)] == [(0, False), (4096, True)]
    data[3] ^= 1  # the header itself
    path.write_bytes(data)
    assert [one.place.offset for one in scan(path)] == [4096]
    data[4096 + 5] = 9  # of another version, whose check sum is wrong then
    path.write_bytes(data)
    assert list(scan(path)) == []


def test_sectors_that_cannot_be_read_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    really = os.pread
    number = errno.EIO

    def pread(fd: int, size: int, at: int) -> bytes:
        if at < 4096:
            raise OSError(number, os.strerror(number))
        return really(fd, size, at)

    monkeypatch.setattr("edgeagent.state.segments.os.pread", pread)
    assert [one.place.offset for one in scan(path)] == [4096]
    number = errno.EBADF
    with pytest.raises(OSError, match="Bad file"):
        list(scan(path))


async def _prepared(store: Any) -> None:
    await put(store, "a", b"1")


def test_pages_that_cannot_be_read_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_store(tmp_path / "state", _prepared)
    path = tmp_path / "state" / "state.db"
    number = errno.EIO

    def pread(fd: int, size: int, at: int) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("edgeagent.state.salvage.os.pread", pread)
    assert list(salvaged_rows(path)) == []
    number = errno.EBADF
    with pytest.raises(OSError, match="Bad file"):
        list(salvaged_rows(path))


def test_a_repair_for_which_the_disk_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    with_store(tmp_path / "state", _prepared)

    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("edgeagent.state.repair._Index.take", full)
        with pytest.raises(StorageFull):
            repair(tmp_path / "state")
    with_store(tmp_path / "state", _prepared)  # nothing has changed
    assert repair(tmp_path / "state").entries == 1
