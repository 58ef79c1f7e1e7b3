"""The entries of values that are kept in chunks: hashed as whole values and as chunks, on as many threads as there are.

Both hashes of a value are independent of each other, and so are those of a group's values: a lone value is hashed by
two threads, several are dealt out. SHA-256 lets the interpreter's lock go.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from edgeagent.state.entry import Entry, chunks_of
from edgeagent.state.hlc import NONE
from edgeagent.state.keys import INLINE_BYTES_MAX
from edgeagent.state.keystore_writes import Wanted

__all__ = ["with_chunks"]

_LOTS = 2  # as many as the key store has threads for this
InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


async def with_chunks(wanted: Sequence[Wanted], in_thread: InThread) -> list[Wanted]:
    """The operations with the entries of their large values made ahead."""
    large = [one for one in wanted if one.value is not None and len(one.value) > INLINE_BYTES_MAX]
    values = [one.value or b"" for one in large]
    if len(large) == 1:
        (value,) = values
        hashes = [
            tuple(await asyncio.gather(in_thread(lambda: _whole(value)), in_thread(lambda: _chunks(value))))
        ]
    else:
        lots = [values[at::_LOTS] for at in range(_LOTS)]
        done = await asyncio.gather(*(in_thread(lambda lot=lot: [_both(one) for one in lot]) for lot in lots))  # type: ignore[misc]
        hashes = [done[at % _LOTS][at // _LOTS] for at in range(len(values))]
    made = iter([_with_entry(one, *both) for one, both in zip(large, hashes, strict=True)])
    return [
        next(made) if one.value is not None and len(one.value) > INLINE_BYTES_MAX else one for one in wanted
    ]


def _whole(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


def _chunks(value: bytes) -> tuple[bytes, ...]:
    return tuple(hashlib.sha256(piece).digest() for piece in chunks_of(value))


def _both(value: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """The first chunk is hashed once: the whole begins with it."""
    first, *others = chunks_of(value)
    whole = hashlib.sha256(first)
    chunks = [whole.digest()]
    whole.update(memoryview(value)[len(first) :])
    chunks += [hashlib.sha256(piece).digest() for piece in others]
    return whole.digest(), tuple(chunks)


def _with_entry(wanted: Wanted, sha256: bytes, chunks: tuple[bytes, ...]) -> Wanted:
    assert wanted.value is not None
    entry = Entry(
        key=wanted.op.key,
        version=NONE,
        mode=wanted.mode,
        epoch=wanted.epoch,
        size_bytes=len(wanted.value),
        sha256=sha256,
        chunks=chunks,
    )
    return wanted._replace(entry=entry)
