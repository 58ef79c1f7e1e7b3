"""Looking for damage before a reader does: what is kept is compared with its hashes, a part at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from edgeagent.state.entry import Entry
from edgeagent.state.errors import DamagedValue
from edgeagent.state.keystore_rows import decode, is_sound, is_text
from edgeagent.state.keystore_types import ScrubReport
from edgeagent.state.segments import Place, Segments
from edgeagent.state.store import Store

__all__ = ["Scrub"]

_ROWS = 256
_CHUNKS = 32
_ROW_BYTES = 256  # what a row without a value counts as
_FIND_ROWS = 2048

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


class Scrub:
    """Where it has come to is not kept over a restart: it begins again."""

    def __init__(self, store: Store, segments: Segments) -> None:
        self._store = store
        self._segments = segments
        self._tables = ("entries", "asides")
        self._table = 0  # beyond the last: chunks
        self._after: int | bytes = 0

    async def step(self, budget_bytes: int, in_thread: InThread) -> ScrubReport:
        damaged: list[tuple[str, bytes]] = []
        checked, is_round = 0, False
        while checked < budget_bytes and not is_round:
            if self._table < len(self._tables):
                found, size, is_end = await self._rows(self._tables[self._table], int(self._after))
            else:
                found, size, is_end = await self._chunks(in_thread)
            damaged += found
            checked += size
            if is_end:
                self._table += 1
                self._after = 0 if self._table < len(self._tables) else b""
                is_round = self._table > len(self._tables)
        if is_round:
            self._table, self._after = 0, 0
        return ScrubReport(damaged=damaged, checked_bytes=checked, is_round=is_round)

    async def _rows(self, table: str, after: int) -> tuple[list[tuple[str, bytes]], int, bool]:
        name = "seq" if table == "entries" else "id"

        def work(connection: sqlite3.Connection) -> tuple[list[tuple[str, bytes]], int, int]:
            found: list[tuple[str, bytes]] = []
            size, last = 0, -1
            for number, key, crc, record, value in connection.execute(
                f"SELECT {name}, key, crc, record, value FROM {table} WHERE {name} > ?"  # noqa: S608 - our own words
                f" ORDER BY {name} LIMIT ?",
                (after, _ROWS),
            ):
                last = number
                size += _ROW_BYTES + len(value or b"")
                try:
                    entry = decode(key, crc, record, value)
                except DamagedValue:
                    found.append((key if is_text(key) else "", b""))
                    continue
                if not is_sound(entry):
                    found.append((key, entry.sha256))
            return found, size, last

        found, size, last = await self._store.read(work)
        if last >= 0:
            self._after = last
        return found, size, last < 0

    async def _chunks(self, in_thread: InThread) -> tuple[list[tuple[str, bytes]], int, bool]:
        after = self._after
        rows = await self._store.read(
            lambda c: c.execute(
                "SELECT sha256, segment, offset, size_bytes FROM chunks WHERE sha256 > ? ORDER BY sha256 LIMIT ?",
                (after, _CHUNKS),
            ).fetchall()
        )
        if not rows:
            return [], 0, True
        self._after = rows[-1][0]
        bad = await in_thread(lambda: [row for row in rows if not self._is_sound(row)])
        # What was moved meanwhile was not damaged where it lies now.
        bad = await self.mark([row[0] for row in bad], {row[0]: row[1:3] for row in bad})
        found = await self._keys_of(set(bad)) if bad else []
        return found, sum(row[3] for row in rows), False

    def _is_sound(self, row: tuple[bytes, int | None, int, int]) -> bool:
        sha256, segment, offset, size = row
        return segment is not None and self._segments.read(Place(segment, offset, size), sha256) is not None

    async def mark(
        self, chunks: Sequence[bytes], at: dict[bytes, tuple[int | None, int]] | None = None
    ) -> list[bytes]:
        """These chunks are damaged, where they still lie ``at``; those of which it is so. What nobody names goes."""
        if not chunks:
            return []

        def work(connection: sqlite3.Connection) -> list[bytes]:
            marked = []
            for sha256 in chunks:
                row = connection.execute(
                    "SELECT segment, offset FROM chunks WHERE sha256 = ?", (sha256,)
                ).fetchone()
                if row is None or (at is not None and row != at[sha256]):
                    continue
                connection.execute("UPDATE chunks SET damaged = 1 WHERE sha256 = ?", (sha256,))
                marked.append(sha256)
            return marked

        return await self._store.write(work)

    async def _keys_of(self, chunks: set[bytes]) -> list[tuple[str, bytes]]:
        """The keys whose values have these chunks: a look at every entry, which only damage is worth."""
        found: list[tuple[str, bytes]] = []
        for table, name in (("entries", "seq"), ("asides", "id")):
            after = 0
            while True:
                rows = await self._store.read(
                    lambda c, t=table, n=name, a=after: c.execute(  # type: ignore[misc]
                        f"SELECT {n}, key, crc, record FROM {t} WHERE {n} > ? ORDER BY {n} LIMIT ?",  # noqa: S608
                        (a, _FIND_ROWS),
                    ).fetchall()
                )
                if not rows:
                    break
                after = rows[-1][0]
                for _, *row in rows:
                    found += [(row[0], one) for one in chunks.intersection(_chunks_of(*row))]
        named = {sha256 for _, sha256 in found}
        return found + [("", sha256) for sha256 in sorted(chunks - named)]

    async def place(self, sha256: bytes, place: Place | None) -> bool:
        """A chunk that was damaged lies here now, None: where it lay, it is sound after all."""

        def work(connection: sqlite3.Connection) -> bool:
            if place is None:
                done = connection.execute("UPDATE chunks SET damaged = 0 WHERE sha256 = ?", (sha256,))
            else:
                done = connection.execute(
                    "UPDATE chunks SET damaged = 0, segment = ?, offset = ? WHERE sha256 = ?",
                    (place.segment, place.offset, sha256),
                )
            return done.rowcount > 0

        return await self._store.write(work)

    async def heal_value(self, sha256: bytes, value: bytes) -> bool:
        """A small value in every row whose value has this hash."""
        keys: list[tuple[str, int]] = []
        for table, name in (("entries", "seq"), ("asides", "id")):
            keys += [(table, number) for number in await self._store.read(_finder(table, name, sha256))]

        def work(connection: sqlite3.Connection) -> bool:
            healed = 0
            for table, number in keys:
                name = "seq" if table == "entries" else "id"
                healed += connection.execute(
                    f"UPDATE {table} SET value = ? WHERE {name} = ?",  # noqa: S608 - our own words
                    (value, number),
                ).rowcount
            return healed > 0

        return bool(keys) and await self._store.write(work)


def _finder(table: str, name: str, sha256: bytes) -> Callable[[sqlite3.Connection], list[int]]:
    def find(connection: sqlite3.Connection) -> list[int]:
        rows = connection.execute(f"SELECT {name}, key, crc, record FROM {table}")  # noqa: S608 - our own words
        return [number for number, *row in rows if _sha256_of(*row) == sha256]

    return find


def _entry_of(key: str, crc: int, record: bytes) -> Entry | None:
    try:
        return decode(key, crc, record)
    except DamagedValue:
        return None


def _chunks_of(key: str, crc: int, record: bytes) -> tuple[bytes, ...]:
    entry = _entry_of(key, crc, record)
    return () if entry is None else entry.chunks


def _sha256_of(key: str, crc: int, record: bytes) -> bytes:
    entry = _entry_of(key, crc, record)
    return b"" if entry is None or entry.chunks or entry.deleted else entry.sha256
