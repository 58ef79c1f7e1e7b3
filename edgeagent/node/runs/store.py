"""The runs of this node as they are kept: records in rows, data in files, both durable before anybody is told."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

import structlog

from edgeagent.model.errors import BadRequest, NotFound, StoreFailed
from edgeagent.node.runs.record import DataRef, RunRecord, read_record
from edgeagent.state.blobs import Blobs
from edgeagent.state.runs import RunRow, RunRows

__all__ = ["RunStore", "ref_of_data"]

log = structlog.get_logger("runs")

INLINE_BYTES_MAX = 16 << 10
_ALL = 1 << 30


def ref_of_data(data: bytes | memoryview) -> DataRef:
    """Small data are in the reference itself."""
    inline = bytes(data) if len(data) <= INLINE_BYTES_MAX else None
    return DataRef(hashlib.sha256(data).hexdigest(), len(data), inline)


class RunStore:
    """On the event loop's thread."""

    def __init__(self, rows: RunRows, blobs: Blobs) -> None:
        self._rows = rows
        self._blobs = blobs

    async def put(self, record: RunRecord, role: str) -> bool:
        """Keep a record; False where a newer one is known, or this one's end is (rule 1 of :mod:`record`)."""
        row = RunRow(
            id=record.id,
            workflow=record.workflow,
            state=record.state,
            role=role,  # type: ignore[arg-type]
            epoch=record.epoch,
            version=record.version,
            created_ms=record.created_ms,
            updated_ms=int(time.time() * 1000),
            record=record.encode(),
        )
        return await self._rows.put(row)

    async def get(self, run_id: str) -> tuple[RunRecord, str] | None:
        """(record, role)."""
        row = await self._rows.get(run_id)
        return None if row is None else (read_record(row.record), row.role)

    async def known(self, run_id: str) -> tuple[RunRecord, str]:
        """Raises NotFound."""
        found = await self.get(run_id)
        if found is None:
            raise NotFound(f"no run {run_id[:40]!r} here", hint="edgeagent workflow list --runs lists them")
        return found

    async def all(self) -> list[tuple[RunRecord, str]]:
        """Every one with its role, the oldest first."""
        rows = await self._rows.latest(_ALL, None)
        return await asyncio.to_thread(
            lambda: [(read_record(row.record), row.role) for row in reversed(rows)]
        )

    async def latest(self, limit: int, workflow: str | None) -> list[RunRecord]:
        return [read_record(row.record) for row in await self._rows.latest(limit, workflow)]

    async def keep_named(self, sha256: str, data: bytes | memoryview) -> None:
        """``keep``, for data that somebody else named. Raises BadRequest where they are others."""
        ref = await asyncio.to_thread(ref_of_data, data)
        if ref.sha256 != sha256:
            raise BadRequest(
                f"these data are {ref.sha256[:16]}..., not {sha256[:16]}...", hint="send them again"
            )
        await self._blobs.put(bytes(data))

    async def keep(self, data: bytes | memoryview) -> DataRef:
        """Data on the disk, unless they are few. Raises StorageFull."""
        ref = await asyncio.to_thread(ref_of_data, data)
        if ref.inline is None:
            await self._blobs.put(bytes(data))
        return ref

    async def has(self, ref: DataRef) -> bool:
        return ref.inline is not None or await self._blobs.has(ref.sha256)

    async def data(self, ref: DataRef) -> bytes:
        """Raises NotFound, StoreFailed."""
        return ref.inline if ref.inline is not None else await self._blobs.get(ref.sha256)

    async def sweep(self, older_than_ms: int) -> None:
        """Drop what is over and old, and data that no record names."""
        try:
            await self._rows.sweep(older_than_ms)
            records = await self.all()
            await self._blobs.collect({digest for record, _ in records for digest in _digests(record)})
        except StoreFailed as error:
            log.warning("runs could not be swept", why=error.message)


def _digests(record: RunRecord) -> set[str]:
    refs: list[Any] = [record.input, record.output, *(one.output for one in record.steps)]
    return {ref.sha256 for ref in refs if ref is not None and ref.inline is None}
