"""The index of the key store: its tables, and what one caller changes in them.

Every row carries a CRC-32 of what it says, and names its values by hash: a row proves itself, wherever it is found
(:mod:`edgeagent.state.salvage`).
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeGuard

import msgspec

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import StorageFull
from edgeagent.state.database import DamagedStore
from edgeagent.state.entry import Entry, Mode
from edgeagent.state.errors import DamagedValue, MissingChunks
from edgeagent.state.hlc import NONE, Clock, Version
from edgeagent.state.keystore_types import KeyBounds, Usage
from edgeagent.state.segments import Place

__all__ = [
    "MIGRATIONS",
    "Change",
    "Ledger",
    "crc_of",
    "decode",
    "encode",
    "entry_of_key",
    "is_sound",
    "is_text",
    "ledger_of",
    "places_of",
    "row_of",
    "usage_of",
]

_TABLES = """
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY,        -- grows with every change
    key TEXT NOT NULL UNIQUE,
    due_ms INTEGER,                 -- when a sweep has something to do: the value expires, the deletion is forgotten
    charged_bytes INTEGER NOT NULL, -- of the value, where it is kept here
    crc INTEGER NOT NULL,           -- of key and record
    record BLOB NOT NULL,           -- the Entry as msgpack, but key and value
    value BLOB                      -- of up to INLINE_BYTES_MAX
);
CREATE INDEX entries_due ON entries (due_ms) WHERE due_ms IS NOT NULL;
CREATE TABLE asides (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    charged_bytes INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    record BLOB NOT NULL,
    value BLOB,
    UNIQUE (key, crc)
);
CREATE TABLE notes (
    id INTEGER PRIMARY KEY,
    space TEXT NOT NULL,
    name TEXT NOT NULL,
    crc INTEGER NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (space, name)
);
CREATE TABLE chunks (
    sha256 BLOB PRIMARY KEY,
    segment INTEGER,                -- NULL: lost, and waited for
    offset INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    refs INTEGER NOT NULL,          -- entries and asides that name it
    idle_ms INTEGER,                -- since when none does, NULL while one does
    damaged INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX chunks_segment ON chunks (segment, offset);
CREATE INDEX chunks_idle ON chunks (idle_ms) WHERE idle_ms IS NOT NULL;
CREATE TABLE totals (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL,
    keys INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    idle_bytes INTEGER NOT NULL,
    high_wall_ms INTEGER NOT NULL,  -- the clock's high-water mark
    high_counter INTEGER NOT NULL,
    high_node TEXT NOT NULL
);
INSERT INTO totals VALUES (1, 0, 0, 0, 0, 0, 0, 0, '');
"""

MIGRATIONS: tuple[str, ...] = (_TABLES,)

_TOTALS = """UPDATE totals SET seq = ?, keys = keys + ?, bytes = bytes + ?, chunks = chunks + ?,
    idle_bytes = idle_bytes + ?, high_wall_ms = ?, high_counter = ?, high_node = ? RETURNING keys, bytes"""
_HELD = "SELECT seq, charged_bytes, crc, record FROM entries WHERE key = ?"


class Record(msgspec.Struct, array_like=True, frozen=True):
    version: Version
    mode: Mode
    epoch: int
    owner: str
    deleted: bool
    size_bytes: int
    sha256: bytes
    chunks: tuple[bytes, ...]
    expires_ms: int


_write = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(Record).decode


def crc_of(name: str, record: bytes) -> int:
    return zlib.crc32(record, zlib.crc32(name.encode()))


def encode(entry: Entry) -> tuple[int, bytes]:
    """CRC and record, the value left out."""
    record = _write(
        Record(
            entry.version,
            entry.mode,
            entry.epoch,
            entry.owner,
            entry.deleted,
            entry.size_bytes,
            entry.sha256,
            entry.chunks,
            entry.expires_ms,
        )
    )
    return crc_of(entry.key, record), record


def decode(key: str, crc: int, record: bytes, value: Any = None) -> Entry:
    """The entry with this value, which may be of any type where the row is damaged. Raises DamagedValue."""
    try:
        if crc_of(key, record) != crc:
            raise ValueError("not what was written")
        version, mode, epoch, owner, deleted, size_bytes, sha256, chunks, expires_ms = (
            msgspec.structs.astuple(_read(record))
        )
    except (*UNDECODABLE, TypeError, AttributeError):  # the columns may be of any type
        raise DamagedValue(
            f"the entry of the key {key!r} is damaged on the disk",
            hint="check the disk; a replica's entry, or edgeagent state repair, replaces it",
            key=key,
            chunk="",
        ) from None
    return Entry(
        key=key,
        version=version,
        mode=mode,
        epoch=epoch,
        owner=owner,
        deleted=deleted,
        size_bytes=size_bytes,
        sha256=sha256,
        inline=value if value is None or isinstance(value, bytes) else str(value).encode(),
        chunks=chunks,
        expires_ms=expires_ms,
    )


class Ledger:
    """What the writer knows without looking: the last ``seq`` and the clock. Both only grow, also in what is undone."""

    def __init__(self, seq: int, clock: Clock) -> None:
        self.seq = seq
        self.clock = clock


def row_of(connection: sqlite3.Connection, key: str) -> Entry | None:
    """What is held, its value too. Raises DamagedValue."""
    row = connection.execute("SELECT crc, record, value FROM entries WHERE key = ?", (key,)).fetchone()
    return None if row is None else decode(key, *row)


def is_text(key: object) -> TypeGuard[str]:
    """Whether a key that was read is one, and can be asked for; in a damaged row it may be of any type and bytes."""
    return isinstance(key, str) and not any("\udc80" <= one <= "\udcff" for one in key)


def is_sound(entry: Entry) -> bool:
    """Whether the value that lies in the row is what its hash says."""
    return entry.inline is None or hashlib.sha256(entry.inline).digest() == entry.sha256


def entry_of_key(connection: sqlite3.Connection, key: str) -> Entry | None:
    """With its value, compared with its hash. Raises DamagedValue."""
    entry = row_of(connection, key)
    if entry is not None and not is_sound(entry):
        raise DamagedValue(
            f"the value of {key!r} is damaged on the disk",
            hint="check the disk; a replica heals it",
            key=key,
            chunk=entry.sha256.hex(),
        )
    return entry


def usage_of(connection: sqlite3.Connection) -> Usage:
    keys, bytes_, chunks, idle = connection.execute(
        "SELECT keys, bytes, chunks, idle_bytes FROM totals"
    ).fetchone()
    return Usage(bytes=bytes_, keys=keys, chunks=chunks, inbound_bytes=idle)


class Change:
    """What one caller changes, in one transaction; ``settle`` counts it and holds it against the bounds."""

    __slots__ = ("_bounds", "_bytes", "_chunks", "_idle", "_keys", "_ledger", "connection", "utc_ms")

    def __init__(
        self, connection: sqlite3.Connection, ledger: Ledger, bounds: KeyBounds, utc_ms: int
    ) -> None:
        self.connection = connection
        self.utc_ms = utc_ms
        self._ledger = ledger
        self._bounds = bounds
        self._keys = self._bytes = self._chunks = self._idle = 0

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """What ``settle`` will count; set again where what came since is undone."""
        return self._keys, self._bytes, self._chunks, self._idle

    @counts.setter
    def counts(self, counts: tuple[int, int, int, int]) -> None:
        self._keys, self._bytes, self._chunks, self._idle = counts

    def held(self, key: str) -> Entry | None:
        """Without its value. Raises DamagedValue."""
        row = self.connection.execute(_HELD, (key,)).fetchone()
        return None if row is None else decode(key, row[2], row[3])

    def row(self, key: str) -> Entry | None:
        """As :func:`row_of`."""
        return row_of(self.connection, key)

    def put(self, entry: Entry, held: Entry | None, places: Mapping[bytes, Place] | None = None) -> None:
        """The entry from now on; ``held`` is what it replaces, ``places`` where chunks lie that are new.

        Raises MissingChunks.
        """
        value = entry.inline
        charged = 0 if value is None else len(value)
        if entry.chunks:
            self.retain(entry.chunks, places or {})
        if held is None:
            self._keys += 1
        else:
            self._bytes -= 0 if held.chunks or held.deleted else held.size_bytes
            self.release(held.chunks)
        self._bytes += charged
        self._ledger.seq += 1
        crc, record = encode(entry)
        self._insert((self._ledger.seq, entry.key, self._due_ms(entry), charged, crc, record, value))

    def _insert(self, row: tuple[int, str, int | None, int, int, bytes, bytes | None]) -> None:
        self.connection.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    @property
    def seq(self) -> int:
        """The number of the last change."""
        return self._ledger.seq

    def mend(self, entry: Entry) -> None:
        """Its value takes the place of what is damaged in its row."""
        self.connection.execute("UPDATE entries SET value = ? WHERE key = ?", (entry.inline, entry.key))

    def renumber(self, key: str) -> None:
        """The row of the key follows what was put last, in the feed."""
        self._ledger.seq += 1
        self.connection.execute("UPDATE entries SET seq = ? WHERE key = ?", (self._ledger.seq, key))

    def put_aside(self, entry: Entry) -> None:
        """Keep a value that lost a conflict."""
        crc, record = encode(entry)
        charged = 0 if entry.inline is None else len(entry.inline)
        added = self.connection.execute(
            "INSERT OR IGNORE INTO asides (key, charged_bytes, crc, record, value) VALUES (?, ?, ?, ?, ?)",
            (entry.key, charged, crc, record, entry.inline),
        ).rowcount
        if added:
            self.retain(entry.chunks, {})
            self._keys += 1
            self._bytes += charged

    def remove_aside(self, key: str, version: Version | None = None) -> int:
        """One value that lost, or all of the key's; how many."""
        rows = self.connection.execute(
            "SELECT id, charged_bytes, crc, record FROM asides WHERE key = ?", (key,)
        ).fetchall()
        removed = 0
        for number, charged, crc, record in rows:
            try:
                entry = decode(key, crc, record)
            except DamagedValue:
                entry = None
            if version is not None and (entry is None or entry.version != version):
                continue
            self.connection.execute("DELETE FROM asides WHERE id = ?", (number,))
            self._keys -= 1
            self._bytes -= charged
            self.release(() if entry is None else entry.chunks)
            removed += 1
        return removed

    def remove(self, key: str, held: Entry | None) -> None:
        """Forget the row; ``held`` None: it is damaged."""
        row = self.connection.execute(
            "DELETE FROM entries WHERE key = ? RETURNING charged_bytes", (key,)
        ).fetchone()
        if row is not None:
            self._keys -= 1
            self._bytes -= row[0]
            self.release(() if held is None else held.chunks)

    def expire(self, held: Entry) -> None:
        """The value of an entry that has expired goes; that it was there is remembered."""
        gone = msgspec.structs.replace(
            held, deleted=True, size_bytes=0, sha256=b"", inline=None, chunks=(), expires_ms=0
        )
        crc, record = encode(gone)
        self._bytes -= 0 if held.chunks else held.size_bytes
        self.release(held.chunks)
        self.connection.execute(
            "UPDATE entries SET due_ms = ?, charged_bytes = 0, crc = ?, record = ?, value = NULL WHERE key = ?",
            (self._due_ms(gone), crc, record, held.key),
        )

    def date(self, held: Entry) -> None:
        """When it is due, by the clock as it is now."""
        self.connection.execute("UPDATE entries SET due_ms = ? WHERE key = ?", (self._due_ms(held), held.key))

    def retain(self, chunks: Iterable[bytes], places: Mapping[bytes, Place]) -> None:
        """An entry names them. Raises MissingChunks naming those that are nowhere."""
        missing: list[bytes] = []
        for sha256 in chunks:
            place = places.get(sha256)
            if place is not None:
                self._add(sha256, place)
            row = self.connection.execute(
                "UPDATE chunks SET refs = refs + 1, idle_ms = NULL WHERE sha256 = ? RETURNING refs, size_bytes",
                (sha256,),
            ).fetchone()
            if row is None:
                missing.append(sha256)
            elif row[0] == 1:
                self._idle -= row[1]
        if missing:
            names = [one.hex() for one in dict.fromkeys(missing)]
            raise MissingChunks(f"{len(names)} chunks of a value are not here", chunks=names)

    def release(self, chunks: Iterable[bytes]) -> None:
        """An entry names them no more; what none names goes at once."""
        for sha256 in chunks:
            row = self.connection.execute(
                "UPDATE chunks SET refs = refs - 1 WHERE sha256 = ? RETURNING refs, size_bytes", (sha256,)
            ).fetchone()
            if row is not None and row[0] <= 0:
                self.connection.execute("DELETE FROM chunks WHERE sha256 = ?", (sha256,))
                self._chunks -= 1
                self._bytes -= row[1]

    def add_idle(self, places: Mapping[bytes, Place]) -> None:
        """Chunks that came before the entry that names them."""
        for sha256, place in places.items():
            self._add(sha256, place)

    def touch(self, chunks: Iterable[bytes]) -> None:
        """Chunks that came again: their grace begins anew."""
        for sha256 in chunks:
            self.connection.execute(
                "UPDATE chunks SET idle_ms = ? WHERE sha256 = ? AND idle_ms IS NOT NULL",
                (self.utc_ms, sha256),
            )

    def drop_idle(self, before_ms: int, limit: int) -> int:
        """Chunks that no entry names since then go; how many."""
        rows = self.connection.execute(
            "DELETE FROM chunks WHERE sha256 IN (SELECT sha256 FROM chunks WHERE idle_ms < ? LIMIT ?)"
            " RETURNING size_bytes",
            (before_ms, limit),
        ).fetchall()
        freed = sum(size for (size,) in rows)
        self._chunks -= len(rows)
        self._bytes -= freed
        self._idle -= freed
        return len(rows)

    def _add(self, sha256: bytes, place: Place) -> None:
        """A chunk lies there from now on, whatever was known of it."""
        known = self.connection.execute(
            "UPDATE chunks SET segment = ?, offset = ?, damaged = 0 WHERE sha256 = ?",
            (place.segment, place.offset, sha256),
        ).rowcount
        if not known:
            self.connection.execute(
                "INSERT INTO chunks (sha256, segment, offset, size_bytes, refs, idle_ms) VALUES (?, ?, ?, ?, 0, ?)",
                (sha256, *place, self.utc_ms),
            )
            self._chunks += 1
            self._bytes += place.size_bytes
            self._idle += place.size_bytes

    def settle(self, bytes_max: int, keys_max: int) -> None:
        """Count it. Raises StorageFull where it adds to what is over a bound."""
        high = self._ledger.clock.high
        keys, bytes_ = self.connection.execute(
            _TOTALS, (self._ledger.seq, self._keys, self._bytes, self._chunks, self._idle, *high)
        ).fetchone()
        if self._bytes > 0 and bytes_ > bytes_max:
            raise StorageFull(
                f"state would hold {bytes_} bytes of at most {bytes_max}",
                hint="delete keys, give them a time to live, or raise state.bytes_max",
            )
        if self._keys > 0 and keys > keys_max:
            raise StorageFull(
                f"state would hold {keys} keys of at most {keys_max}",
                hint="delete keys, give them a time to live, or raise state.keys_max",
            )

    def _due_ms(self, entry: Entry) -> int | None:
        if entry.deleted:
            return max(entry.version.wall_ms, self.utc_ms) + self._bounds.tombstone_ms
        if not entry.expires_ms:
            return None
        return entry.expires_ms if entry.has_date(self.utc_ms) else self.utc_ms + entry.ttl_ms


def places_of(connection: sqlite3.Connection, chunks: Sequence[bytes]) -> dict[bytes, Place | None]:
    """Where chunks lie that are known; None where they are known to be damaged or lost."""
    found: dict[bytes, Place | None] = {}
    for sha256 in dict.fromkeys(chunks):
        row = connection.execute(
            "SELECT segment, offset, size_bytes, damaged FROM chunks WHERE sha256 = ?", (sha256,)
        ).fetchone()
        if row is not None:
            found[sha256] = None if row[0] is None or row[3] else Place(*row[:3])
    return found


def ledger_of(connection: sqlite3.Connection, node: str) -> Ledger:
    """Raises DamagedStore."""
    row = connection.execute("SELECT seq, high_wall_ms, high_counter, high_node FROM totals").fetchone()
    if row is None:
        raise DamagedStore("the index of the state has lost its totals")
    seq, wall_ms, counter, name = row
    high = Version(wall_ms, counter, name)
    return Ledger(seq, Clock(node, high=high if wall_ms else NONE))
