"""Chunks of the key store between its callers, the index and the segments: reading, storing, checking."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from edgeagent.model.errors import StorageFull, StoreFailed
from edgeagent.state.entry import Entry
from edgeagent.state.errors import DamagedValue, MissingChunks, WrongHash
from edgeagent.state.keys import CHUNK_BYTES
from edgeagent.state.keystore_rows import places_of, usage_of
from edgeagent.state.segments import Place, Segments
from edgeagent.state.store import Store

__all__ = ["Chunks", "check_piece", "check_pieces", "damaged_chunk", "missing_chunks"]

T = TypeVar("T")

_TRIES = 3  # of a read whose chunks are moved meanwhile
_THREADS = 2
_CHECKED = 16  # chunks at once, of a value that is compared with its hash
Pieces = Sequence[tuple[bytes, bytes | memoryview]]


class Chunks:
    """Of one event loop; files and hashes are left to threads."""

    def __init__(self, store: Store, segments: Segments) -> None:
        self._store = store
        self._segments = segments
        self._threads: ThreadPoolExecutor | None = None

    def open(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "edgeagent-state-chunks")

    async def close(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown)

    async def in_thread(self, work: Callable[[], T]) -> T:
        if self._threads is None:
            raise StoreFailed("the state is closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def read(self, chunks: Sequence[bytes]) -> dict[bytes, bytes | None]:
        """The chunks by their digests; None: damaged, or not here."""
        got: dict[bytes, bytes | None] = {}
        lacking = list(dict.fromkeys(chunks))
        before: dict[bytes, Place | None] = {}
        for _ in range(_TRIES):
            places = await self.places(lacking)
            lacking = [one for one in lacking if one not in got or places.get(one) != before.get(one)]
            if not lacking:
                break  # the rest lies where it was looked for: it is damaged
            before = places
            got |= await self.in_thread(lambda w=lacking, p=places: self._read(w, p))  # type: ignore[misc]
            lacking = [one for one in lacking if got[one] is None]
            if not lacking:
                break
        return got

    def _read(self, chunks: Sequence[bytes], places: dict[bytes, Place | None]) -> dict[bytes, bytes | None]:
        return {
            sha256: None if (place := places.get(sha256)) is None else self._segments.read(place, sha256)
            for sha256 in chunks
        }

    async def places(self, chunks: Sequence[bytes]) -> dict[bytes, Place | None]:
        """Of those that are known; None: known to be damaged."""
        return await self._store.read(lambda c: places_of(c, chunks))

    async def value(self, entry: Entry) -> bytes:
        """Raises DamagedValue."""
        got = await self.read(entry.chunks)
        bad = next((sha256 for sha256 in entry.chunks if got[sha256] is None), None)
        if bad is not None:
            raise damaged_chunk(entry.key, bad)
        return b"".join(got[sha256] or b"" for sha256 in entry.chunks)

    async def check_whole(self, entry: Entry) -> list[bytes]:
        """Compare a value in chunks with its hash; the chunks that are not here or damaged. Raises WrongHash."""
        whole = hashlib.sha256()
        size = 0
        bad: list[bytes] = []
        for at in range(0, len(entry.chunks), _CHECKED):
            some = entry.chunks[at : at + _CHECKED]
            got = await self.read(some)
            bad += [sha256 for sha256 in some if got[sha256] is None]
            if not bad:
                pieces = [got[sha256] or b"" for sha256 in some]
                await self.in_thread(lambda p=pieces: whole.update(b"".join(p)))  # type: ignore[misc]
                size += sum(len(one) for one in pieces)
        if not bad and (size != entry.size_bytes or whole.digest() != entry.sha256):
            raise WrongHash(
                f"the chunks of {entry.key!r} are not the value that its hash names", key=entry.key
            )
        return list(dict.fromkeys(bad))

    async def store(
        self,
        pieces: Pieces,
        bytes_max: int,
        *,
        freed: Callable[[sqlite3.Connection], int] = lambda _: 0,
        every: bool = False,
    ) -> dict[bytes, Place]:
        """On the disk; the places of those that were not here yet, pinned. ``every``: of those that were, too.

        ``freed``: bytes that the write gives back which these are for. Raises StorageFull and StoreFailed.
        """
        wanted = dict(pieces)
        if not every:
            here = await self.places(list(wanted))
            sound = await self.in_thread(
                lambda: {one for one, got in self._read(list(here), here).items() if got}
            )
            wanted = {sha256: piece for sha256, piece in wanted.items() if sha256 not in sound}
        if not wanted:
            return {}
        if self._store.failed is not None:
            raise StoreFailed(self._store.failed.message, hint=self._store.failed.hint)
        kept, free = await self._store.read(lambda c: (usage_of(c).bytes, freed(c)))
        size = sum(len(piece) for piece in wanted.values())
        if kept + size - free > bytes_max:
            raise StorageFull(
                f"state would hold {kept + size - free} bytes of at most {bytes_max}",
                hint="delete keys, give them a time to live, or raise state.bytes_max",
            )
        new = list(wanted.items())
        places = await self.in_thread(lambda: self._segments.append(new))
        return dict(zip(wanted, places, strict=True))

    def unpin(self, places: dict[bytes, Place]) -> None:
        """The index names them, or never will."""
        self._segments.unpin(list(places.values()))


def missing_chunks(key: str, chunks: Sequence[bytes]) -> MissingChunks:
    return MissingChunks(
        f"{len(chunks)} chunks of {key!r} are not here", chunks=[one.hex() for one in chunks]
    )


def check_piece(sha256: bytes, piece: bytes | memoryview, bytes_max: int = CHUNK_BYTES) -> None:
    """Raises WrongHash."""
    if len(piece) > bytes_max or hashlib.sha256(piece).digest() != sha256:
        raise WrongHash(f"a chunk of {len(piece)} bytes is not what its hash says", chunk=sha256.hex())


def check_pieces(pieces: Pieces) -> None:
    for sha256, piece in pieces:
        check_piece(sha256, piece)


def damaged_chunk(key: str, sha256: bytes) -> DamagedValue:
    return DamagedValue(
        f"the chunk {sha256.hex()[:16]}{f' of {key!r}' if key else ''} is damaged on the disk",
        hint="check the disk; a replica heals it",
        key=key,
        chunk=sha256.hex(),
    )
