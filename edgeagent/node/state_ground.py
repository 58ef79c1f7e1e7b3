"""The ground store as this node uses it: what is to be there is noted until it is, what outgrows the node is moved to
it, and what no member has is read from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import EdgeError
from edgeagent.state.entry import Entry, chunks_of
from edgeagent.state.ground import GroundStore
from edgeagent.state.hlc import Version

if TYPE_CHECKING:
    from edgeagent.state.keystore import KeyStore

__all__ = ["GROUND_STORE", "MOVED", "StateGround", "adopt", "bare_entry"]

log = structlog.get_logger("state")

GROUND_STORE = "ground-store"  # among the holders of a key
SPACE = "ground"  # of the notes of the key store
MOVED = "ground-moved"  # ... by key: the entry, bare, that is there and no more here
AGAIN_S = 1.0
FIND_S = 5.0
_AT_ONCE = 8
_NAMES = 500  # looked at by one call of ``tidy``

Settled = Callable[[str, Version], None]


async def adopt(store: KeyStore, entry: Entry, value: bytes | None) -> None:
    """A copy of what others hold. Raises what the store does."""
    if value is not None and entry.chunks:
        pieces = zip(entry.chunks, map(bytes, chunks_of(value)), strict=True)
        await store.put_chunks(list(pieces))
    await store.accept([entry], custody=False)


def bare_entry(entry: Entry) -> Entry:
    """Without its value."""
    return msgspec.structs.replace(entry, inline=None, chunks=())


def _entries(notes: Mapping[str, bytes]) -> dict[str, Entry]:
    found = {}
    for key, note in notes.items():
        with contextlib.suppress(*UNDECODABLE):
            found[key] = msgspec.msgpack.decode(note, type=Entry)
    return found


class StateGround:
    """On the event loop's thread. ``settled`` hears which version of a key is there."""

    def __init__(self, store: KeyStore, url: str, *, queue_bytes: int, settled: Settled) -> None:
        self._store = store
        self._settled = settled
        self.server = GroundStore(url, queue_bytes=queue_bytes, held=self._held, settled=self._is_there)
        self._leaving: dict[str, Version] = {}
        self._dropping: dict[str, Version] = {}  # are there now, and go here
        self._notes: dict[str, bytes | None] = {}
        self._more = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._tidied = ""  # names up to this one
        self.evicted = 0
        self.found = 0

    async def start(self) -> None:
        """What waited before the last end waits again. Raises BadConfig, StoreFailed."""
        await self.server.start()
        waiting = await self._store.notes(SPACE)
        held = await self._store.held(list(waiting))
        self.server.take_up(held)
        gone = set(waiting) - {entry.key for entry in held}
        self._note(dict.fromkeys(gone))
        self._spawn(self._keep_notes())

    async def close(self) -> None:
        """Idempotent. What waits is noted."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.server.close()

    # -- what goes there -------------------------------------------------------------------------------------

    def check_room(self, size_bytes: int) -> None:
        """Raises StorageFull where so much more may not wait."""
        self.server.check_room(size_bytes)

    def put(self, entries: Sequence[Entry]) -> None:
        """Soon, over restarts too. Raises StorageFull when too much waits already."""
        self.server.put(entries)
        self._note({entry.key: b"" for entry in entries})

    def evict(self, entries: Iterable[Entry]) -> None:
        """Forget these here once they are there. Raises StorageFull."""
        new = [entry for entry in entries if self._leaving.get(entry.key) != entry.version]
        if new:
            self.put(new)
            self._leaving |= {entry.key: entry.version for entry in new}

    def _is_there(self, key: str, version: Version) -> None:
        self._note({key: None})
        self._settled(key, version)
        leaves = self._leaving.pop(key, None)
        if leaves == version:
            if not self._dropping:
                self._spawn(self._drop())
            self._dropping[key] = version
        else:
            self._spawn(self._forget([key], if_deleted=True))

    async def _drop(self) -> None:
        """What goes is remembered, by name: that it is there has to be known while the server is away. All that the
        server took at once goes at once, since all names are counted whenever some are put.
        """
        going, self._dropping = self._dropping, {}
        try:
            held = [one for one in await self._store.held(list(going)) if one.version == going[one.key]]
            bare: dict[str, bytes | None] = {one.key: msgspec.msgpack.encode(bare_entry(one)) for one in held}
            await self._store.put_notes(MOVED, bare)
            dropped = await self._store.drop(list(going.items()))
            self.evicted += len(dropped)
        except EdgeError as error:  # it stays, and may go another time
            log.warning("what is on the ground could not be dropped here", keys=len(going), why=error.message)

    async def _held(self, key: str) -> tuple[Entry, bytes | None] | None:
        entry = await self._store.look(key)
        if entry is None or not entry.chunks:
            return None if entry is None else (entry, entry.inline)
        return entry, await self._store.value_of(entry)

    def _note(self, notes: dict[str, bytes | None]) -> None:
        self._notes |= notes
        if self._notes:
            self._more.set()

    async def _keep_notes(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            notes, self._notes = self._notes, {}
            try:
                await self._store.put_notes(SPACE, notes)
            except EdgeError as error:
                log.warning("what waits for the ground store cannot be noted now", why=error.message)
                self._notes = notes | self._notes
                await asyncio.sleep(AGAIN_S)
                self._more.set()

    # -- what comes from there -------------------------------------------------------------------------------

    async def find(self, keys: Sequence[str]) -> dict[str, tuple[Entry, bytes | None]]:
        """What is there of these keys, deletions too; nothing while it is away."""
        return (await self.seek(keys))[0]

    async def seek(
        self, keys: Sequence[str]
    ) -> tuple[dict[str, tuple[Entry, bytes | None]], dict[str, Entry]]:
        """The same, and of those that this node has moved there, and that cannot be had now, what was moved."""
        if not keys:
            return {}, {}
        found: dict[str, tuple[Entry, bytes | None]] = {}
        is_whole = False
        if not self.server.is_silent:
            is_whole = await self._find(keys, found)
        lacking = [key for key in keys if key not in found]
        moved = await self._moved(lacking) if lacking else {}
        if moved and is_whole:  # it has expired, or was deleted long ago
            self._spawn(self._forget(moved))
            moved = {}
        return found, moved

    async def _moved(self, keys: Sequence[str]) -> dict[str, Entry]:
        moved, now_ms = _entries(await self._store.notes_named(MOVED, keys)), _utc_ms()
        return {key: one for key, one in moved.items() if not one.is_expired(now_ms)}

    async def moved_below(self, prefix: str, after: str, limit: int) -> list[Entry]:
        """What this node has moved there and has not expired, in the order of the keys; without the values."""
        found: list[Entry] = []
        now_ms = _utc_ms()
        while len(found) < limit and (page := await self._store.notes_below(MOVED, prefix, after, limit)):
            found += [one for one in _entries(page).values() if not one.is_expired(now_ms)]
            after = next(reversed(page))
        return found[:limit]

    async def tidy(self) -> None:
        """Now and then: the names of what has expired there go, a bounded part of them. Raises StoreFailed."""
        page = await self._store.notes_below(MOVED, "", self._tidied, _NAMES)
        self._tidied, now_ms = next(reversed(page), ""), _utc_ms()
        expired = [key for key, one in _entries(page).items() if one.is_expired(now_ms)]
        await self._forget(expired)

    async def _forget(self, keys: Iterable[str], *, if_deleted: bool = False) -> None:
        """``if_deleted``: else the name would be listed again when this node forgets the deletion."""
        try:
            if if_deleted:
                keys = [one.key for one in await self._store.held([*keys]) if one.deleted]
            notes: dict[str, bytes | None] = dict.fromkeys(keys)
            if notes:
                await self._store.put_notes(MOVED, notes)
        except EdgeError as error:  # another reader tries it again
            log.info("what was moved to the ground is still noted", why=error.message)

    async def _find(self, keys: Sequence[str], found: dict[str, tuple[Entry, bytes | None]]) -> bool:
        """Whether it has answered for all of them."""
        try:
            async with asyncio.timeout(FIND_S):
                for at in range(0, len(keys), _AT_ONCE):
                    some = keys[at : at + _AT_ONCE]
                    there = await asyncio.gather(*map(self.server.get, some))
                    found |= {key: one for key, one in zip(some, there, strict=True) if one is not None}
        except (EdgeError, TimeoutError) as error:
            log.info("the ground store was not asked to the end", keys=len(keys), why=str(error)[:200])
            return False
        finally:
            self.found += len(found)
        return True

    async def bring(self, keys: Sequence[str]) -> list[str]:
        """What is there of these keys is here, too, for others to fetch. Those that are there and cannot be had now."""
        found, moved = await self.seek(keys)
        for entry, value in found.values():
            try:
                await adopt(self._store, entry, value)
            except EdgeError as error:
                log.info("a value was not brought from the ground", key=entry.key, why=error.message)
        return list(moved)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _utc_ms() -> int:
    return int(time.time() * 1000)
