"""Outputs of a run while it is here: in hoses where they were made, on the disk where somebody else may need them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from edgeagent.node.items import framed
from edgeagent.node.result import Result
from edgeagent.node.runs.record import DataRef
from edgeagent.node.runs.store import RunStore, ref_of_data
from edgeagent.runtime.port import Payload

__all__ = ["LiveData"]

Given = bytes | memoryview | Payload


class LiveData:
    """Of one run at this node; ``close`` lets all of it go. ``drop`` tells who shipped a payload that it is gone."""

    def __init__(self, store: RunStore, drop: Callable[[Payload], None]) -> None:
        self._store = store
        self._drop = drop
        self._held: dict[str, Given] = {}

    async def take(self, result: Result) -> DataRef:
        """The output of a step becomes data of the run."""
        if result.payload is None:
            ref = await asyncio.to_thread(ref_of_data, result.output)
            self._held[ref.sha256] = result.output
            return ref
        payload, result.payload = result.payload, None
        ref = await asyncio.to_thread(_digested, payload)
        self._put(ref.sha256, payload)
        return ref

    def put(self, data: bytes) -> None:
        """Data that just came, so that they need not be read from the disk."""
        self._put(ref_of_data(data).sha256, data)

    def _put(self, digest: str, given: Given) -> None:
        before = self._held.get(digest)
        self._held[digest] = given
        if before is not None and not isinstance(before, bytes | memoryview):
            self._let_go(before)

    async def given(self, ref: DataRef) -> Given:
        """To run a function on. Raises NotFound, StoreFailed."""
        held = self._held.get(ref.sha256)
        if held is None:
            held = await self._store.data(ref)
        return held

    async def bytes_of(self, ref: DataRef) -> bytes | memoryview:
        """Raises NotFound, StoreFailed."""
        held = await self.given(ref)
        return held if isinstance(held, bytes | memoryview) else await asyncio.to_thread(held.read)

    async def keep(self, ref: DataRef) -> DataRef:
        """On the disk, from now on. Raises StorageFull."""
        if await self._store.has(ref):
            return ref
        return await self._store.keep(await self.bytes_of(ref))

    async def joined(self, refs: Sequence[DataRef]) -> bytes | memoryview:
        """One output as it is, several as framed items, nothing as nothing."""
        if len(refs) == 1:
            return await self.bytes_of(refs[0])
        return framed([await self.bytes_of(one) for one in refs])

    def close(self) -> None:
        """Idempotent."""
        for given in self._held.values():
            if not isinstance(given, bytes | memoryview):
                self._let_go(given)
        self._held.clear()

    def _let_go(self, payload: Payload) -> None:
        payload.close()
        self._drop(payload)


def _digested(payload: Payload) -> DataRef:
    payload.share()  # several may read it from now on, and its producer's instance is free
    return ref_of_data(payload.read())
