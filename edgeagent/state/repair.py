"""A damaged key store made sound again, offline: whatever is intact is in it afterwards.

1. Nothing is changed before all that can be had has been read and lies in a new index, on the disk.
2. What was damaged is moved to ``damaged-N`` beside it, and never deleted.
3. Entries whose chunks are lost stay, as damaged: a replica can heal them. Rows that cannot prove what they say
   are reported and left out.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgeagent.model.errors import NotFound
from edgeagent.state.database import open_writer, typed
from edgeagent.state.entry import Entry
from edgeagent.state.errors import DamagedValue
from edgeagent.state.hlc import SKEW_MS_MAX, Version
from edgeagent.state.keys import CHUNK_BYTES
from edgeagent.state.keystore_notes import crc_of_note
from edgeagent.state.keystore_rows import MIGRATIONS, decode, encode, is_sound
from edgeagent.state.lock_file import LockFile
from edgeagent.state.salvage import salvaged_rows
from edgeagent.state.segments import Found, Place, Segments, record_bytes, scan, sync_directory, typed_os

__all__ = ["COMPLETE", "RepairReport", "repair", "repair_hint"]

_DATABASE = ("state.db", "state.db-wal", "state.db-shm")
_NEW = "state.db.repaired"
# All of it is in it, and the old files may be gone from their place: from here on there is only forward.
COMPLETE = "state.db.complete"
# Whoever follows the changes by number must not be shown an old number again where the last one is lost.
_SEQ_GAP = 1 << 20


def repair_hint(directory: Path) -> str:
    """What mends a damaged store."""
    return f"edgeagent state repair {directory} keeps all that is intact, and says what is not"


class RepairReport(msgspec.Struct, frozen=True, kw_only=True):
    """``lost_keys``: entries that can be named and not read. ``lost_chunks``: key and digest; the entry is kept, and a
    replica heals it. ``unnamed_rows``: what could not even be named. ``moved``: where damaged files are now, "" where
    there were none.
    """

    entries: int
    asides: int
    notes: int
    chunks: int
    lost_keys: list[str]
    lost_chunks: list[tuple[str, str]]
    unnamed_rows: int
    moved: str


class _Index:
    """The new index, filled with what proves itself; of rows with the same name the last."""

    def __init__(self, connection: sqlite3.Connection, utc_ms: int) -> None:
        self._connection = connection
        self._utc_ms = utc_ms
        self._broken: dict[str, int] = {}  # key to seq
        self.unnamed = 0
        self._seq = 0
        self._high = Version(0, 0, "")
        self._told: list[tuple[int, Version]] = []

    def take(self, row_id: int, columns: list[Any]) -> None:
        """A row of any table."""
        match columns:
            case [
                None,
                str(key),
                int() | None as due_ms,
                int(),
                int(crc),
                bytes(record),
                bytes() | None as value,
            ]:
                entry = _proven(key, crc, record, value)
                if entry is None:
                    self._broken[key] = max(row_id, self._broken.get(key, -1))
                else:
                    self._put(row_id, entry, due_ms)
            case [None, str(key), int(), int(crc), bytes(record), bytes() | None as value]:
                entry = _proven(key, crc, record, value)
                if entry is not None:
                    self._put_aside(entry)
            case [None, str(space), str(name), int(crc), bytes(value)]:
                if crc_of_note(space, name, value) == crc:
                    self._put_note(row_id, space, name, value)
            case [None, int(seq), int(), int(), int(), int(), int(wall_ms), int(counter), str(node)]:
                self._told.append((seq, Version(wall_ms, counter, node)))
            case [str(), str(), str(), int(), *_]:
                pass  # of the schema
            case _:
                self.unnamed += 1

    def _put(self, seq: int, entry: Entry, due_ms: int | None) -> None:
        held = self._connection.execute("SELECT seq FROM entries WHERE key = ?", (entry.key,)).fetchone()
        if held is not None and held[0] >= seq:
            return
        crc, record = encode(entry)
        value = entry.inline
        self._connection.execute(
            "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)",
            (seq, entry.key, due_ms, len(value or b""), crc, record, value),
        )
        self._seq = max(self._seq, seq)
        self._high = max(self._high, entry.version)

    def _put_aside(self, entry: Entry) -> None:
        crc, record = encode(entry)
        self._connection.execute(
            "INSERT OR IGNORE INTO asides (key, charged_bytes, crc, record, value) VALUES (?, ?, ?, ?, ?)",
            (entry.key, len(entry.inline or b""), crc, record, entry.inline),
        )
        self._high = max(self._high, entry.version)

    def _put_note(self, row_id: int, space: str, name: str, value: bytes) -> None:
        self._connection.execute(
            "INSERT INTO notes VALUES (?, ?, ?, ?, ?) ON CONFLICT (space, name) DO UPDATE SET id = excluded.id,"
            " crc = excluded.crc, value = excluded.value WHERE excluded.id > notes.id",
            (row_id, space, name, crc_of_note(space, name, value), value),
        )

    def lost_keys(self) -> list[str]:
        """A key whose last row is broken has lost it, also where an older one was found: it is not what was written."""
        lost = []
        for key, seq in self._broken.items():
            held = self._connection.execute("SELECT seq FROM entries WHERE key = ?", (key,)).fetchone()
            if held is None or held[0] < seq:
                self._connection.execute("DELETE FROM entries WHERE key = ?", (key,))
                lost.append(key)
        return sorted(lost)

    def put_chunks(self, places: dict[bytes, Place]) -> list[tuple[str, bytes]]:
        """Where chunks lie; key and digest of those that are named and nowhere."""
        lost: dict[tuple[str, bytes], None] = {}
        add = "INSERT INTO chunks VALUES (?, ?, ?, ?, 0, ?, ?) ON CONFLICT (sha256) DO NOTHING"
        for sha256, place in places.items():
            # What nobody names may belong to a transfer that was cut: it is kept for its grace.
            self._connection.execute(add, (sha256, *place, self._utc_ms, 0))
        for entry in self._entries():
            for at, sha256 in enumerate(entry.chunks):
                if sha256 not in places:
                    lost[entry.key, sha256] = None
                    size_bytes = min(CHUNK_BYTES, entry.size_bytes - at * CHUNK_BYTES)
                    self._connection.execute(add, (sha256, None, 0, size_bytes, None, 1))
                self._connection.execute(
                    "UPDATE chunks SET refs = refs + 1, idle_ms = NULL WHERE sha256 = ?", (sha256,)
                )
        return list(lost)

    def _entries(self) -> Iterator[Entry]:
        for table in ("entries", "asides"):
            rows = self._connection.execute(f"SELECT key, crc, record FROM {table}")  # noqa: S608 - our own words
            yield from (decode(*row) for row in rows)

    def settle(self) -> dict[str, int]:
        """Count all, and set the clock above all that was found; rows by table."""
        seq, high = self._seq + _SEQ_GAP, self._high
        latest_ms = max(self._utc_ms, high.wall_ms) + SKEW_MS_MAX
        for told_seq, told_high in self._told:  # that row proves nothing: what cannot be is not believed
            if told_seq <= seq:
                seq = max(seq, told_seq + 1)
            if told_high.wall_ms <= latest_ms:
                high = max(high, told_high)
        self._connection.execute(
            "UPDATE totals SET seq = ?, high_wall_ms = ?, high_counter = ?, high_node = ?,"
            " keys = (SELECT count(*) FROM entries) + (SELECT count(*) FROM asides),"
            " bytes = (SELECT coalesce(sum(charged_bytes), 0) FROM entries)"
            " + (SELECT coalesce(sum(charged_bytes), 0) FROM asides)"
            " + (SELECT coalesce(sum(size_bytes), 0) FROM chunks),"
            " chunks = (SELECT count(*) FROM chunks),"
            " idle_bytes = (SELECT coalesce(sum(size_bytes), 0) FROM chunks WHERE refs = 0)",
            (seq, *high),
        )
        return {
            table: self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            for table in ("entries", "asides", "notes")
        }


def _proven(key: str, crc: int, record: bytes, value: bytes | None) -> Entry | None:
    try:
        entry = decode(key, crc, record, value)
    except DamagedValue:
        return None
    has_value = entry.deleted or bool(entry.chunks) or value is not None
    return entry if has_value and is_sound(entry) else None


def repair(directory: Path) -> RepairReport:
    """Make the store in ``directory`` sound; no process may use it. May be repeated, also after it was interrupted.

    Raises NotFound, Conflict, StorageFull and StoreFailed.
    """
    if not any((directory / name).exists() for name in (*_DATABASE, COMPLETE, "segments")):
        raise NotFound(f"there is no state in {directory}", hint="name the directory that holds state.db")
    lock = LockFile(directory / "lock")
    lock.take()
    try:
        return _repair(directory)
    except OSError as error:
        raise typed_os(error, directory) from None
    except sqlite3.Error as error:
        raise typed(error) from None
    finally:
        lock.release()


def _repair(directory: Path) -> RepairReport:
    path = directory / _NEW
    if (directory / COMPLETE).exists():
        # A repair was interrupted when it had read all: the files are put in their places, and looked at again.
        _swap(directory, [])
    _remove(path)
    places, spoiled = _chunks_of(directory / "segments")
    places |= _copied(directory / "segments", places, spoiled)
    connection = open_writer(path, MIGRATIONS)
    try:
        index = _Index(connection, time.time_ns() // 1_000_000)
        connection.execute("BEGIN")
        for row_id, columns in salvaged_rows(directory / "state.db"):
            index.take(row_id, columns)
        lost_keys = index.lost_keys()
        lost_chunks = index.put_chunks(places)
        counts = index.settle()
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
    path.rename(directory / COMPLETE)
    sync_directory(directory)
    moved = _swap(directory, spoiled)
    return RepairReport(
        **counts,
        chunks=len(places),
        lost_keys=lost_keys,
        lost_chunks=[(key, sha256.hex()) for key, sha256 in lost_chunks],
        unnamed_rows=index.unnamed,
        moved=str(moved),
    )


def _chunks_of(directory: Path) -> tuple[dict[bytes, Place], list[Path]]:
    """Where intact chunks lie, and the files that have damaged ones."""
    places: dict[bytes, Place] = {}
    spoiled: list[Path] = []
    for path in _segment_files(directory):
        found: list[Found] = list(scan(path))
        if not all(one.is_intact for one in found):
            spoiled.append(path)
        places |= {one.sha256: one.place for one in found if one.is_intact}
    return places, spoiled


def _copied(directory: Path, places: dict[bytes, Place], spoiled: list[Path]) -> dict[bytes, Place]:
    """The intact chunks of damaged files, written to a new one: their places there."""
    numbers = {int(path.stem) for path in spoiled}
    wanted = {sha256: place for sha256, place in places.items() if place.segment in numbers}
    if not wanted:
        return {}
    size_bytes = sum(record_bytes(place.size_bytes) for place in wanted.values())
    segments = Segments(directory, segment_bytes=size_bytes)
    # No file has room: all goes to a new one.
    segments.open({int(path.stem): path.stat().st_size for path in _segment_files(directory)})
    try:
        copied: dict[bytes, Place] = {}
        for sha256, place in wanted.items():
            chunk = segments.read(place, sha256)
            if chunk is not None:
                (copied[sha256],) = segments.append([(sha256, chunk)])
        return copied
    finally:
        segments.close()


def _segment_files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.glob("*.seg") if path.stem.isdecimal())


def _swap(directory: Path, spoiled: list[Path]) -> Path:
    """The old files out of the way, the new index in their place: whatever happens, one of the two is whole."""
    number = 1
    while (moved := directory / f"damaged-{number}").exists():
        number += 1
    moved.mkdir(mode=0o700)
    for path in [*(directory / name for name in _DATABASE), *spoiled]:
        if path.exists():
            path.rename(moved / path.name)
    _remove_beside(directory / _NEW)
    sync_directory(moved)
    sync_directory(directory)
    (directory / COMPLETE).rename(directory / "state.db")
    for one in (directory, directory / "segments"):
        if one.is_dir():
            sync_directory(one)
    return moved


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _remove_beside(path)


def _remove_beside(path: Path) -> None:
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
