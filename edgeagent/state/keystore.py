"""The durable store of a node's state: entries in SQLite, values over INLINE_BYTES_MAX as chunks in segment files.

    directory/state.db      the index (:mod:`edgeagent.state.keystore_rows`), through the store of group commits
    directory/segments/     chunks (:mod:`edgeagent.state.segments`)
    directory/reserve       disk space for the writes that make room
    directory/lock          one process at a time

1. Chunks are on the disk before the index names them, and the index before anybody is told: what is acknowledged is
   there after a crash at any instruction, whole groups or nothing of them.
2. A value is compared with its hash whenever it is read from the disk.
3. A damaged index stops the start, with the command that mends it; a damaged chunk does not: it is reported when it is
   read and by ``scrub``, and ``heal`` replaces it from a replica.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edgeagent.model.errors import EdgeError, NotFound, StoreFailed
from edgeagent.state import keystore_reads as reads
from edgeagent.state.calls import Op
from edgeagent.state.consistency import Merged
from edgeagent.state.database import DamagedStore
from edgeagent.state.entry import Entry, Mode
from edgeagent.state.errors import MissingChunks
from edgeagent.state.hlc import NONE, Version
from edgeagent.state.keys import CHUNK_BYTES, INLINE_BYTES_MAX
from edgeagent.state.keystore_batch import Batches, Request
from edgeagent.state.keystore_cache import ValueCache
from edgeagent.state.keystore_chunks import Chunks, check_piece, check_pieces, damaged_chunk, missing_chunks
from edgeagent.state.keystore_hashing import with_chunks
from edgeagent.state.keystore_notes import check_notes, notes_below, notes_named, notes_of, put_notes
from edgeagent.state.keystore_rows import MIGRATIONS, Change, entry_of_key, ledger_of, usage_of
from edgeagent.state.keystore_types import KeyBounds, ScrubReport, Swept, Usage, Written
from edgeagent.state.keystore_writes import Setting, Wanted, check_entries, merge_all, wanted_of
from edgeagent.state.lock_file import LockFile
from edgeagent.state.repair import COMPLETE, repair_hint
from edgeagent.state.reserve import Reserve
from edgeagent.state.restamp import restamp
from edgeagent.state.salvage import log_is_damaged
from edgeagent.state.scrub import Scrub
from edgeagent.state.segments import Segments
from edgeagent.state.store import Store
from edgeagent.state.sweep import Sweep

__all__ = ["KeyStore"]

T = TypeVar("T")

ListOf = list  # the class has a method of that name
_TRIES = 3  # of a write whose chunks, which were here, have gone meanwhile


class KeyStore:
    """Used from one event loop; see the module. ``utc_ms`` is called on it."""

    def __init__(self, directory: Path, bounds: KeyBounds, *, node: str, utc_ms: Callable[[], int]) -> None:
        self.directory = directory
        self.bounds = bounds
        self._node = node
        self._utc_ms = utc_ms
        self._lock = LockFile(directory / "lock")
        self._reserve = Reserve(directory / "reserve")
        self._store = Store(directory / "state.db", migrations=MIGRATIONS, reserve=self._reserve)
        self._segments = Segments(directory / "segments", segment_bytes=bounds.segment_bytes)
        self._cache = ValueCache(bounds.cache_bytes)
        self._batches = Batches(self._store, self._cache)
        self._chunks = Chunks(self._store, self._segments)
        self._setting: Setting | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        # Hears of a write with large values before their chunks are written, and by its future of what it came to.
        self.on_large: Callable[[Sequence[Wanted]], asyncio.Future[ListOf[Written]] | None] = lambda _: None
        self._scrub = Scrub(self._store, self._segments)
        self._sweep = Sweep(self._store, self._segments, bounds)

    @property
    def failed(self) -> EdgeError | None:
        """Why the store takes no more writes, None while it does."""
        return self._store.failed or self._segments.failed

    @property
    def full(self) -> bool:
        """Whether the disk was full when last seen."""
        return self._store.full

    @property
    def read_only(self) -> bool:
        """Whether the file system could not be written when last seen."""
        return self._store.read_only

    async def look_for_room(self) -> None:
        """See whether the disk is full, or read-only."""
        await self._store.look_for_room()

    @property
    def commits(self) -> int:
        """Transactions since it was opened."""
        return self._store.commits

    async def open(self) -> None:
        """Raises StoreFailed (DamagedStore: see rule 3), StorageFull, and Conflict where another process has it."""
        await asyncio.to_thread(self._lock.take)
        try:
            await self._open()
        except DamagedStore as error:
            await self.close()
            raise DamagedStore(error.message, hint=repair_hint(self.directory)) from None
        except BaseException:
            await self.close()
            raise

    async def _open(self) -> None:
        await asyncio.to_thread(self._look_for_pieces)
        await asyncio.to_thread(self._reserve.fill)
        await self._store.open()
        ledger, tails = await self._store.read(lambda c: (ledger_of(c, self._node), reads.tails_of(c)))
        self._setting = Setting(ledger, self.bounds, self._node)
        await asyncio.to_thread(self._segments.open, tails)
        self._chunks.open()

    def _look_for_pieces(self) -> None:
        """Raises DamagedStore where a new index would be made beside chunks, or in place of one that is not lost."""
        if (self.directory / COMPLETE).exists():
            raise DamagedStore(f"a repair of the state in {self.directory} was interrupted")
        has_chunks = any((self.directory / "segments").glob("*.seg"))
        if has_chunks and not (self.directory / "state.db").exists():
            raise DamagedStore(f"the state in {self.directory} has chunks and no index")
        try:
            is_damaged = log_is_damaged(self.directory / "state.db")
        except OSError:
            return  # SQLite says better what is wrong with it
        if is_damaged:
            raise DamagedStore(f"the write-ahead log of the state in {self.directory} is damaged")

    async def close(self) -> None:
        """Write what waits, and close; idempotent."""
        self._setting = None
        await self._chunks.close()
        await self._store.close()
        self._segments.close()
        self._cache.clear()
        self._lock.release()

    async def get(self, key: str) -> tuple[Entry, bytes] | None:
        """The entry with its value, compared with its hash; None: there is none. Raises DamagedValue."""
        found = self._cache.get(key)
        if found is None:
            token = self._cache.begin_read(key)
            try:
                found = await self._get(key)
            finally:
                self._cache.end_read(key, token, found)
        if found is None or not found[0].is_there(self._utc_ms()):
            return None
        return found

    async def _get(self, key: str) -> tuple[Entry, bytes] | None:
        entry = await self._store.read(lambda c: entry_of_key(c, key))
        if entry is None or entry.deleted:
            return None
        return entry, await self.value_of(entry)

    async def value_of(self, entry: Entry) -> bytes:
        """The value of an entry that was read here. Raises DamagedValue, also where the entry is no more."""
        if entry.inline is not None:
            return entry.inline
        return await self._chunks.value(entry)

    async def look(self, key: str) -> Entry | None:
        """The entry as it is held, a deletion too; a small value is in it. Raises DamagedValue."""
        found = self._cache.get(key)
        if found is not None and found[0].inline is not None:
            return found[0]
        return await self._store.read(lambda c: entry_of_key(c, key))

    async def held(self, keys: Sequence[str], *, siblings_max: int = 0) -> ListOf[Entry]:
        """Those of the keys that are held, deletions too, small values in them, as one moment saw them; and up to
        ``siblings_max`` in all of what was written in one transaction with them. Raises DamagedValue.
        """
        return await self._store.read(lambda c: reads.rows_of(c, keys, siblings_max=siblings_max))

    async def get_many(
        self, keys: Sequence[str], prefix: str | None = None
    ) -> ListOf[tuple[Entry, bytes | None]]:
        """What there is of these keys and below the prefix, in this order, as one moment saw it.

        The value is None where it is kept in chunks: ``value_of`` reads it. Raises DamagedValue.
        """
        utc_ms = self._utc_ms()
        if prefix is None:
            cached = [self._cache.get(key) for key in keys]
            if all(one is not None and one[0].inline is not None for one in cached):
                return [(one[0], one[1]) for one in cached if one is not None and one[0].is_there(utc_ms)]
        entries = await self._store.read(lambda c: reads.entries_of(c, keys, prefix, utc_ms))
        return [(entry, entry.inline) for entry in entries]

    async def list(self, prefix: str, after: str = "", limit: int = 1000) -> ListOf[Entry]:
        """Keys with a value below the prefix, after ``after``, in their order; without the values.

        An entry that is damaged is left out: ``scrub`` reports it.
        """
        utc_ms = self._utc_ms()
        return await self._store.read(lambda c: reads.listed(c, prefix, after, limit, utc_ms))

    async def list_aside(self, key: str) -> ListOf[Entry]:
        """Values of the key that lost a conflict."""
        return await self._store.read(lambda c: reads.asides_of(c, key))

    async def entries_since(self, seq: int, limit: int, *, bare: bool = False) -> ListOf[tuple[int, Entry]]:
        """What changed here after ``seq``, each key once, in the order of the changes; deletions too. ``bare``: without
        their values.
        """
        return await self._store.read(lambda c: reads.since(c, seq, limit, bare=bare))

    async def versions_of(self, group: str) -> ListOf[tuple[str, Version]]:
        """The keys of a group (:func:`keys.group_of`), deletions too, in their order."""
        return await self._store.read(lambda c: reads.versions_of(c, group))

    @property
    def seq(self) -> int:
        """The number of the last change."""
        return self._opened().ledger.seq

    async def usage(self) -> Usage:
        return await self._store.read(usage_of)

    async def write(
        self,
        ops: Sequence[Op],
        mode_of: Callable[[str], Mode],
        owner_epoch: int = 0,
        *,
        after: Version = NONE,
    ) -> ListOf[Written]:
        """All or nothing, on the disk when it returns. A ``get`` among them sees what those before it left.

        Raises VersionMismatch, KeyTaken, Fenced, TooLarge, StorageFull, BadKey, DamagedValue and StoreFailed.
        """
        setting = self._opened()
        utc_ms = self._utc_ms()
        if after is not NONE:
            setting.ledger.clock.check(after, utc_ms)
        wanted = [wanted_of(op, mode_of, owner_epoch, self.bounds.value_bytes_max) for op in ops]
        for one in wanted:
            if one.value is not None and len(one.value) > INLINE_BYTES_MAX:
                return await self._whole(self._write_large(wanted, utc_ms, after))
        return await self._batches.write(setting, Request(wanted, {}, utc_ms, after))

    async def _write_large(self, wanted: Sequence[Wanted], utc_ms: int, after: Version) -> ListOf[Written]:
        setting = self._opened()
        # What would be refused is refused before its chunks are written. What it changes is undone.
        wanted = await with_chunks(wanted, self._chunks.in_thread)
        chunks = [
            (sha256, memoryview(one.value)[at * CHUNK_BYTES : (at + 1) * CHUNK_BYTES])
            for one in wanted
            if one.entry is not None and one.value is not None
            for at, sha256 in enumerate(one.entry.chunks)
        ]
        await self._store.read(lambda c: reads.would_be_admitted(c, setting, wanted, utc_ms))
        going = self.on_large(wanted)
        try:
            written = await self._store_large(setting, wanted, chunks, utc_ms, after)
            if going is not None and not going.done():
                going.set_result(written)
            return written
        finally:
            if going is not None:
                going.cancel()  # nothing where it is done

    async def _store_large(
        self,
        setting: Setting,
        wanted: Sequence[Wanted],
        chunks: Sequence[tuple[bytes, memoryview]],
        utc_ms: int,
        after: Version,
    ) -> ListOf[Written]:
        keys = [one.op.key for one in wanted if one.op.op != "get"]
        again = False
        for left in reversed(range(_TRIES)):
            places = await self._chunks.store(
                chunks, setting.own_bytes_max, freed=lambda c: reads.sizes_of(c, keys), every=again
            )
            try:
                return await self._batches.write(self._opened(), Request(wanted, places, utc_ms, after))
            except MissingChunks:
                # One that was here already has gone meanwhile.
                again = True
                if not left:
                    raise
            finally:
                self._chunks.unpin(places)
        raise StoreFailed("chunks of a value come and go", retry_after_s=1)

    async def accept(self, entries: Sequence[Entry], *, custody: bool) -> ListOf[Merged]:
        """Entries of another node, all or nothing, on the disk when it returns. Without ``custody`` they are copies,
        for which the part that is kept for others is not used.

        Raises MissingChunks, WrongHash, BadKey, ClockAhead, TooLarge, StorageFull and StoreFailed.
        """
        setting = self._opened()
        utc_ms = self._utc_ms()
        await self._chunks.in_thread(lambda: check_entries(entries, self.bounds.value_bytes_max))
        for entry in entries:
            if entry.chunks:
                bad = await self._chunks.check_whole(entry)
                if bad:
                    await self._scrub.mark(bad)
                    raise missing_chunks(entry.key, bad)
        most = self.bounds.bytes_max if custody else setting.own_bytes_max
        keys = [entry.key for entry in entries]
        writing = asyncio.ensure_future(
            self._store.write(lambda c: merge_all(c, setting, entries, utc_ms, most))
        )
        return await self._changing(keys, writing, _merged_entries)

    async def missing(self, chunks: Sequence[bytes]) -> ListOf[bytes]:
        """Those that are not here, or are known to be damaged."""
        found = await self._chunks.places(chunks)
        return [sha256 for sha256 in dict.fromkeys(chunks) if found.get(sha256) is None]

    async def put_chunks(self, pieces: Sequence[tuple[bytes, bytes]]) -> None:
        """Digest and chunk of each, on the disk when it returns; kept ``grace_ms`` until an entry names them.

        Raises WrongHash, StorageFull and StoreFailed.
        """
        setting = self._opened()
        utc_ms = self._utc_ms()
        await self._chunks.in_thread(lambda: check_pieces(pieces))
        await self._whole(self._put_chunks(setting, pieces, utc_ms))

    async def _put_chunks(self, setting: Setting, pieces: Sequence[tuple[bytes, bytes]], utc_ms: int) -> None:
        places = await self._chunks.store(pieces, self.bounds.bytes_max)

        def work(connection: sqlite3.Connection) -> None:
            change = Change(connection, setting.ledger, self.bounds, utc_ms)
            change.add_idle(places)
            change.touch([sha256 for sha256, _ in pieces])
            change.settle(self.bounds.bytes_max, self.bounds.keys_max)

        try:
            await self._store.write(work)
        finally:
            self._chunks.unpin(places)

    async def sound_chunks(self, chunks: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those that are here and sound, whether or not an entry names them yet."""
        got = await self._chunks.read(chunks)
        return {sha256: chunk for sha256, chunk in got.items() if chunk is not None}

    async def read_chunk(self, sha256: bytes) -> bytes:
        """Raises NotFound and DamagedValue."""
        chunk = (await self._chunks.read([sha256]))[sha256]
        if chunk is None:
            known = await self._chunks.places([sha256])
            if sha256 not in known:
                raise NotFound(f"the chunk {sha256.hex()} is not here")
            raise damaged_chunk("", sha256)
        return chunk

    async def drop(self, versions: Iterable[tuple[str, Version]]) -> ListOf[str]:
        """Let go of what is safe elsewhere: rows that still have this version; their keys. No deletion is left."""
        setting = self._opened()
        pairs = list(versions)
        utc_ms = self._utc_ms()

        def work(connection: sqlite3.Connection) -> ListOf[str]:
            change = Change(connection, setting.ledger, self.bounds, utc_ms)
            dropped = []
            for key, version in pairs:
                held = change.held(key)
                if held is not None and held.version == version:
                    change.remove(key, held)
                    dropped.append(key)
            change.settle(self.bounds.bytes_max, self.bounds.keys_max)
            return dropped

        writing = asyncio.ensure_future(self._store.write(work, essential=True))
        return await self._changing([key for key, _ in pairs], writing, _nothing)

    async def drop_aside(self, key: str, version: Version) -> bool:
        """Forget a value that lost a conflict; whether there was one of this version."""
        setting = self._opened()
        utc_ms = self._utc_ms()

        def work(connection: sqlite3.Connection) -> bool:
            change = Change(connection, setting.ledger, self.bounds, utc_ms)
            removed = change.remove_aside(key, version)
            change.settle(self.bounds.bytes_max, self.bounds.keys_max)
            return removed > 0

        return await self._store.write(work, essential=True)

    async def restamp(self) -> tuple[ListOf[Entry], int]:
        """What this node wrote while its clock was ahead, with versions of now, and the last change's number: another
        node has refused it (:mod:`edgeagent.state.restamp`).
        """
        setting = self._opened()
        utc_ms = self._utc_ms()
        stamped = await self._store.write(lambda c: restamp(c, setting, utc_ms))
        self._cache.clear()
        return stamped, self.seq

    async def sweep(self) -> Swept:
        """Let go of what has expired, of old deletions and of chunks that nothing names; a bounded part a call."""
        setting = self._opened()
        return await self._sweep.step(setting.ledger, self._utc_ms(), self._chunks.in_thread)

    async def scrub(self, budget_bytes: int) -> ScrubReport:
        """Compare the next part of what is kept with its hashes."""
        return await self._scrub.step(budget_bytes, self._chunks.in_thread)

    async def heal(self, sha256: bytes, piece: bytes) -> bool:
        """A sound chunk, or small value, in place of a damaged one; whether one of this digest is kept here.

        Raises WrongHash, StorageFull and StoreFailed.
        """
        self._opened()
        await self._chunks.in_thread(lambda: check_piece(sha256, piece))
        if sha256 not in await self._chunks.places([sha256]):
            return await self._scrub.heal_value(sha256, piece)
        return await self._whole(self._heal(sha256, piece))

    async def _heal(self, sha256: bytes, piece: bytes) -> bool:
        places = await self._chunks.store(
            [(sha256, piece)], self.bounds.bytes_max, freed=lambda _: len(piece)
        )
        try:
            return await self._scrub.place(sha256, places.get(sha256))
        finally:
            self._chunks.unpin(places)

    async def put_notes(self, space: str, notes: dict[str, bytes | None]) -> None:
        """What other parts remember over restarts, by name; None forgets. Raises TooLarge and StorageFull."""
        check_notes(space, notes)
        await self._store.write(
            lambda c: put_notes(c, space, notes), essential=all(one is None for one in notes.values())
        )

    async def notes(self, space: str) -> dict[str, bytes]:
        """Raises DamagedValue."""
        return await self._store.read(lambda c: notes_of(c, space))

    async def notes_named(self, space: str, names: Sequence[str]) -> dict[str, bytes]:
        """Those of the names that there are."""
        return await self._store.read(lambda c: notes_named(c, space, names))

    async def notes_below(self, space: str, prefix: str, after: str, limit: int) -> dict[str, bytes]:
        """Those whose names begin so and stand behind ``after``, in their order."""
        return await self._store.read(lambda c: notes_below(c, space, prefix, after, limit))

    async def _changing(
        self,
        keys: Sequence[str],
        writing: asyncio.Future[T],
        left: Callable[[T], Iterable[Entry | None]],
    ) -> T:
        """Await a write of these keys; the cache hears of it before and after."""
        self._cache.begin_write(keys)
        try:
            result = await asyncio.shield(writing)
        except asyncio.CancelledError:
            # It may be done still, and until then nobody knows what these keys hold.
            writing.add_done_callback(lambda _: self._cache.end_write(keys))
            raise
        except BaseException:
            self._cache.end_write(keys)
            raise
        self._cache.end_write(keys, left(result))
        return result

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Work that ends as it should also where its caller waits no more: only then are its pins let go."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    def _opened(self) -> Setting:
        if self._setting is None:
            raise StoreFailed(f"the state in {self.directory} is closed")
        return self._setting


def _merged_entries(merged: Iterable[Merged]) -> Iterable[Entry | None]:
    return [one.entry for one in merged if one.changed]


def _nothing(_: object) -> Iterable[Entry | None]:
    return ()
