"""What the replicator asks of the store, carried out: each effect with its answer, errors as refusals."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from edgeagent.model.errors import EdgeError, StorageFull, TooLarge
from edgeagent.state import effects as fx
from edgeagent.state.entry import Entry
from edgeagent.state.errors import BadKey, ClockAhead, MissingChunks, WrongHash
from edgeagent.state.keys import digest_of, group_of
from edgeagent.state.messages import Name, Refusal
from edgeagent.state.replicator import Replicator

if TYPE_CHECKING:
    from edgeagent.state.keystore import KeyStore

__all__ = ["StateLedger"]

log = structlog.get_logger("state")

_PAGE = 2048
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

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self.used_bytes = 0

    def free_bytes(self) -> int:
        """Room for what other nodes hand over, as of the last look."""
        return max(0, self._store.bounds.bytes_max - self.used_bytes)

    async def carry_out(self, effect: fx.Effect, core: Replicator) -> list[fx.Effect]:
        """The core's answer to the store's."""
        match effect:
            case fx.Load(token, keys):
                return core.loaded(token, await self._held(keys))
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

    async def _held(self, keys: Sequence[str]) -> list[Entry] | None:
        try:
            return await self._store.held(keys)
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
        try:
            await self._store.drop(names)
        except EdgeError as error:  # it is kept, and may be let go another time
            log.warning("what is safe elsewhere could not be dropped", why=error.message)

    # -- comparing with another node ------------------------------------------------------------------------

    async def _sums(self) -> dict[bytes, bytes] | None:
        sums: dict[bytes, int] = {}
        try:
            async for key, version in _all(self._store):
                group = digest_of(group_of(key))
                mark = hashlib.sha256(f"{key}\0{version}".encode()).digest()[:8]
                sums[group] = sums.get(group, 0) ^ int.from_bytes(mark, "big")
        except EdgeError as error:
            log.warning("state could not be summed up", why=error.message)
            return None
        return {group: total.to_bytes(8, "big") for group, total in sums.items()}

    async def _names(self, group: bytes) -> list[Name] | None:
        found: list[Name] = []
        try:
            seq = 0
            while rows := await self._store.entries_since(seq, _PAGE):
                seq = rows[-1][0]
                found += [
                    (entry.key, entry.version) for _, entry in rows if digest_of(group_of(entry.key)) == group
                ]
        except EdgeError as error:
            log.warning("a group could not be listed", why=error.message)
            return None
        return sorted(found)


async def _all(store: KeyStore):  # type: ignore[no-untyped-def]
    """(key, version as text) of everything, deletions too, a page at a time."""
    seq = 0
    while rows := await store.entries_since(seq, _PAGE):
        seq = rows[-1][0]
        for _, entry in rows:
            yield entry.key, entry.version.text()
        await asyncio.sleep(0)


def _refusal(error: EdgeError) -> Refusal:
    log.info("another node's state was not taken", why=error.message)
    return next((word for kind, word in _REFUSALS if isinstance(error, kind)), Refusal.STORE)
