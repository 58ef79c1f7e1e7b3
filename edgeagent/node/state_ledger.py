"""What the replicator asks of the store, carried out: each effect with its answer, errors as refusals."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from edgeagent.model.errors import EdgeError, StorageFull, TooLarge
from edgeagent.state import effects as fx
from edgeagent.state.entry import Entry
from edgeagent.state.errors import BadKey, ClockAhead, MissingChunks, WrongHash
from edgeagent.state.hlc import Version
from edgeagent.state.keys import digest_of, group_of
from edgeagent.state.messages import Name, Refusal
from edgeagent.state.replicator import Replicator

if TYPE_CHECKING:
    from edgeagent.state.keystore import KeyStore

__all__ = ["StateLedger"]

log = structlog.get_logger("state")

LOOK_S = 1.0
WHOLE_S = 3600.0
_PAGE = 2048
SIBLINGS_MAX = 1024
_REFUSALS: tuple[tuple[type[EdgeError], Refusal], ...] = (
    (StorageFull, Refusal.QUOTA),
    (TooLarge, Refusal.QUOTA),
    (ClockAhead, Refusal.CLOCK),
    (MissingChunks, Refusal.UNKNOWN),
    (WrongHash, Refusal.DAMAGED),
    (BadKey, Refusal.INVALID),
)


class StateLedger:
    """On the event loop's thread."""

    def __init__(self, store: KeyStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._groups: dict[
            bytes, tuple[str, int]
        ] = {}  # by digest: its name, and the sum of what is held of it
        self._seq = 0  # of the store's feed, up to which they are summed up
        self._dropped_from: set[str] = set()
        self._looked_s = self._began_s = -1e9
        self._summing = asyncio.Lock()
        self.used_bytes = 0

    def free_bytes(self) -> int:
        """Room for what other nodes hand over, as of the last look."""
        return max(0, self._store.bounds.bytes_max - self.used_bytes)

    async def carry_out(self, effect: fx.Effect, core: Replicator) -> list[fx.Effect]:
        """The core's answer to the store's."""
        match effect:
            case fx.Load(token, keys):
                return core.loaded(token, await self._held(keys, siblings_max=SIBLINGS_MAX))
            case fx.Look(token, keys, chunks):
                held = await self._held(keys)
                return core.looked(token, held, await self._missing(chunks))
            case fx.ReadPieces(token, pieces):
                return core.read(token, await self._pieces(pieces))
            case fx.StoreChunks(token, chunks_in):
                return core.stored(token, await self._stored(chunks_in))
            case fx.Commit(token, entries, custody):
                merged, refused = await self._committed(entries, custody=custody)
                return core.committed(token, merged, refused)
            case fx.MayDrop(token, names):
                await self._dropped(names)
                return core.dropped(token)
            case fx.Summarize(token):
                return core.summed(token, await self._sums())
            case fx.ListGroup(token, group):
                return core.listed(token, await self._names(group))
        raise AssertionError(effect)

    async def _held(self, keys: Sequence[str], *, siblings_max: int = 0) -> list[Entry] | None:
        try:
            return await self._store.held(keys, siblings_max=siblings_max)
        except EdgeError as error:
            log.warning("state could not be read for another node", why=error.message)
            return None

    async def _missing(self, chunks: Sequence[bytes]) -> list[bytes] | None:
        try:
            return await self._store.missing(chunks) if chunks else []
        except EdgeError as error:
            log.warning("state could not be looked up for another node", why=error.message)
            return None

    async def _pieces(self, pieces: Sequence[tuple[bytes, str]]) -> list[bytes] | None:
        found = []
        try:
            for sha256, key in pieces:
                if not key:
                    found.append(await self._store.read_chunk(sha256))
                    continue
                entry = await self._store.look(key)
                if entry is None or entry.sha256 != sha256 or entry.inline is None:
                    return None
                found.append(entry.inline)
        except EdgeError as error:
            log.info("a piece of state is not to be had", why=error.message)
            return None
        return found

    async def _stored(self, pieces: Sequence[tuple[bytes, bytes]]) -> Refusal:
        try:
            await self._store.put_chunks(pieces)
        except EdgeError as error:
            return _refusal(error)
        return Refusal.NONE

    async def _committed(self, entries: Sequence[Entry], *, custody: bool) -> tuple[list[Entry], Refusal]:
        try:
            merged = await self._store.accept(entries, custody=custody)
        except EdgeError as error:
            return [], _refusal(error)
        return [one.entry for one in merged], Refusal.NONE

    async def _dropped(self, names: Sequence[Name]) -> None:
        self._dropped_from |= {group_of(key) for key, _ in names}
        try:
            await self._store.drop(names)
        except EdgeError as error:  # it is kept, and may be let go another time
            log.warning("what is safe elsewhere could not be dropped", why=error.message)

    # -- comparing with another node ------------------------------------------------------------------------

    async def _sums(self) -> dict[bytes, bytes] | None:
        """Of each group, over its keys and versions. Only groups that have changed since are read again."""
        try:
            async with self._summing:
                await self._look()
        except EdgeError as error:
            log.warning("state could not be summed up", why=error.message)
            return None
        return {digest: total.to_bytes(8, "big") for digest, (_, total) in self._groups.items()}

    async def _look(self) -> None:
        now_s = self._clock()
        if now_s - self._looked_s < LOOK_S:
            return
        # What deletions that were forgotten have left in the sums goes now and then.
        is_whole = now_s - self._began_s > WHOLE_S
        groups: dict[bytes, tuple[str, int]] = {} if is_whole else self._groups
        changed, seq = set(self._dropped_from), 0 if is_whole else self._seq
        until = self._store.seq if is_whole else 0
        while rows := await self._store.entries_since(seq, _PAGE, bare=True):
            seq = rows[-1][0]
            for number, entry in rows:
                group = group_of(entry.key)
                if number > until:  # or it would be counted twice, as it was and as it is
                    changed.add(group)
                    continue
                total = groups.get(digest_of(group), (group, 0))[1]
                groups[digest_of(group)] = (group, total ^ _mark(entry.key, entry.version))
        for group in changed:
            total = 0
            for key, version in await self._store.versions_of(group):
                total ^= _mark(key, version)
            groups[digest_of(group)] = (group, total)
        self._dropped_from -= changed
        self._groups, self._seq, self._looked_s = groups, seq, now_s
        if is_whole:
            self._began_s = now_s

    async def _names(self, group: bytes) -> list[Name] | None:
        try:
            if group not in self._groups and await self._sums() is None:
                return None
            known = self._groups.get(group)
            return [] if known is None else await self._store.versions_of(known[0])
        except EdgeError as error:
            log.warning("a group could not be listed", why=error.message)
            return None


def _mark(key: str, version: Version) -> int:
    return int.from_bytes(hashlib.sha256(f"{key}\0{version.text()}".encode()).digest()[:8], "big")


def _refusal(error: EdgeError) -> Refusal:
    log.info("another node's state was not taken", why=error.message)
    return next((word for kind, word in _REFUSALS if isinstance(error, kind)), Refusal.STORE)
