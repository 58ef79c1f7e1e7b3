"""A key store with a clock that a test sets."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from edgeagent.state.calls import Op
from edgeagent.state.entry import Entry, Mode, chunks_of, entry_of
from edgeagent.state.hlc import Version
from edgeagent.state.keystore import KeyStore
from edgeagent.state.keystore_types import KeyBounds, Written

__all__ = ["NOW_MS", "Clock", "bounds", "foreign", "lww", "make", "mode_of", "put", "with_store"]

NOW_MS = 1_800_000_000_000


class Clock:
    def __init__(self) -> None:
        self.utc_ms = NOW_MS

    def __call__(self) -> int:
        return self.utc_ms


def bounds(**options: Any) -> KeyBounds:
    given = {
        "bytes_max": 8 << 20,
        "inbound_bytes": 1 << 20,
        "value_bytes_max": 4 << 20,
        "segment_bytes": 1 << 20,
    }
    return KeyBounds(**(given | options))


def make(directory: Path, clock: Clock | None = None, **options: Any) -> KeyStore:
    return KeyStore(directory, bounds(**options), node="n1", utc_ms=clock or Clock())


def with_store(
    directory: Path,
    scenario: Callable[[KeyStore], Awaitable[None]],
    clock: Clock | None = None,
    **options: Any,
) -> None:
    async def main() -> None:
        store = make(directory, clock, **options)
        await store.open()
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(main())


def mode_of(key: str) -> Mode:
    """By the first segment: once/..., owner/..., all else lww."""
    head = key.partition("/")[0]
    return Mode(head) if head in ("once", "owner") else Mode.LWW


def lww(key: str) -> Mode:
    return Mode.LWW


async def put(store: KeyStore, key: str, value: bytes, **options: Any) -> Written:
    (written,) = await store.write([Op(op="put", key=key, value=value, **options)], mode_of)
    return written


def foreign(
    key: str, value: bytes | None, *, wall_ms: int = NOW_MS, node: str = "n2", **options: Any
) -> tuple[Entry, list[tuple[bytes, bytes]]]:
    """An entry of another node, and its chunks."""
    entry = entry_of(key, value, Version(wall_ms, 0, node), **options)
    pieces = [bytes(piece) for piece in chunks_of(value or b"")] if entry.chunks else []
    return entry, [(hashlib.sha256(piece).digest(), piece) for piece in pieces]
