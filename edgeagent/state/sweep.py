"""Letting go: of values that have expired, deletions that are old, chunks that nothing names, and the space of all."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

from edgeagent.model.errors import StorageFull
from edgeagent.state.errors import DamagedValue
from edgeagent.state.hlc import UNSET_BEFORE_MS
from edgeagent.state.keystore_rows import Change, Ledger, is_text
from edgeagent.state.keystore_types import KeyBounds, Swept
from edgeagent.state.segments import Place, Segments
from edgeagent.state.store import Store

__all__ = ["Sweep"]

_ROWS = 256
_MOVE_BYTES = 8 << 20
_LIVE_SHARE = 0.5  # a segment with less of it in use is emptied

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


class Sweep:
    def __init__(self, store: Store, segments: Segments, bounds: KeyBounds) -> None:
        self._store = store
        self._segments = segments
        self._bounds = bounds

    async def step(self, ledger: Ledger, utc_ms: int, in_thread: InThread) -> Swept:
        """A bounded part of it."""
        expired, forgotten, chunks = await self._store.write(
            lambda c: self._let_go(c, ledger, utc_ms), essential=True
        )
        moved, segments = await self._compact(in_thread)
        is_done = expired + forgotten < _ROWS and chunks < _ROWS and not moved and not segments
        return Swept(
            expired=expired,
            forgotten=forgotten,
            chunks=chunks,
            moved_bytes=moved,
            segments=segments,
            is_done=is_done,
        )

    def _let_go(self, connection: sqlite3.Connection, ledger: Ledger, utc_ms: int) -> tuple[int, int, int]:
        change = Change(connection, ledger, self._bounds, utc_ms)
        due = connection.execute(
            "SELECT seq, key, due_ms FROM entries WHERE due_ms <= ? ORDER BY due_ms LIMIT ?", (utc_ms, _ROWS)
        ).fetchall()
        expired = forgotten = 0
        for seq, key, due_ms in due:
            held = None
            with contextlib.suppress(DamagedValue):
                held = change.held(key) if is_text(key) else None
            if held is None:
                # Damaged. A replica may heal it; it is looked at again when that is done.
                connection.execute("UPDATE entries SET due_ms = NULL WHERE seq = ?", (seq,))
                continue
            if due_ms < UNSET_BEFORE_MS <= utc_ms:
                # This clock has been set since: nobody knows how long ago that was.
                change.date(held)
            elif held.deleted:
                change.remove(key, held)
                change.remove_aside(key)
                forgotten += 1
            else:
                change.expire(held)
                expired += 1
        chunks = change.drop_idle(utc_ms - self._bounds.grace_ms, _ROWS)
        change.settle(self._bounds.bytes_max, self._bounds.keys_max)
        return expired, forgotten, chunks

    async def _compact(self, in_thread: InThread) -> tuple[int, int]:
        """Empty the segment that is used least, and remove those that are empty: bytes moved, files removed."""
        sealed = self._segments.sealed()
        if not sealed:
            return 0, 0
        # By the writer's thread: what was asked for before, and whose pins are gone, is in the index by then.
        live = await self._store.write(lambda c: _live_of(c, list(sealed)), essential=True)
        removed = 0
        for number in sealed:
            if live[number] == (0, 0):
                await in_thread(lambda n=number: self._segments.remove(n))  # type: ignore[misc]
                removed += 1
        sparse = [
            (used, number)
            for number, (used, damaged) in live.items()
            if used and not damaged and used < _LIVE_SHARE * sealed[number]
        ]
        if not sparse or removed:
            return 0, removed
        try:
            return await self._move(min(sparse)[1], in_thread), removed
        except StorageFull:
            return 0, removed  # until there is room, only what is empty can go

    async def _move(self, number: int, in_thread: InThread) -> int:
        rows = await self._store.read(
            lambda c: c.execute(
                "SELECT sha256, offset, size_bytes FROM chunks WHERE segment = ? LIMIT ?",
                (number, _MOVE_BYTES // (256 << 10)),
            ).fetchall()
        )
        read = await in_thread(
            lambda: [
                (sha256, self._segments.read(Place(number, offset, size), sha256))
                for sha256, offset, size in rows
            ]
        )
        sound = [(sha256, chunk) for sha256, chunk in read if chunk is not None]
        bad = [sha256 for sha256, chunk in read if chunk is None]
        places = await in_thread(lambda: self._segments.append(sound))

        def work(connection: sqlite3.Connection) -> None:
            for (sha256, _), place in zip(sound, places, strict=True):
                connection.execute(
                    "UPDATE chunks SET segment = ?, offset = ? WHERE sha256 = ? AND segment = ?",
                    (place.segment, place.offset, sha256, number),
                )
            for sha256 in bad:  # the file stays until they are healed
                connection.execute(
                    "UPDATE chunks SET damaged = 1 WHERE sha256 = ? AND segment = ?", (sha256, number)
                )

        try:
            await self._store.write(work)
        finally:
            self._segments.unpin(places)
        return sum(len(chunk) for _, chunk in sound)


def _live_of(connection: sqlite3.Connection, numbers: list[int]) -> dict[int, tuple[int, int]]:
    """Of each segment: bytes of chunks that the index names, and how many of them are damaged."""
    return {
        number: connection.execute(
            "SELECT coalesce(sum(size_bytes), 0), coalesce(sum(damaged), 0) FROM chunks WHERE segment = ?",
            (number,),
        ).fetchone()
        for number in numbers
    }
