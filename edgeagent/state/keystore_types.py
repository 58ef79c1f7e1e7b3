"""What the key store is bounded by and what it answers. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from edgeagent.state.calls import Op
from edgeagent.state.entry import Entry

__all__ = ["KeyBounds", "ScrubReport", "Swept", "Usage", "Written"]

_DAY_MS = 86_400_000


class KeyBounds(msgspec.Struct, frozen=True, kw_only=True):
    """``bytes_max`` bounds values and chunks. Writes of this node, and copies that it has no custody of, may use all
    but ``inbound_bytes`` of it, what other nodes hand over all. ``tombstone_ms``: how long a deletion is remembered.
    ``grace_ms``: how long a chunk is kept that no entry names yet. ``cache_bytes``: of values, in memory.
    """

    bytes_max: int = 4 << 30
    inbound_bytes: int = 1 << 28
    value_bytes_max: int = 64 << 20
    keys_max: int = 1_000_000
    tombstone_ms: int = _DAY_MS
    grace_ms: int = _DAY_MS
    cache_bytes: int = 16 << 20
    segment_bytes: int = 64 << 20


class Written(NamedTuple):
    """The answer to an operation of ``write``. ``entry`` is what is held after it, None where there is nothing.

    ``found``: there is a value (after a put: yes; after a delete: whether there was one). ``changed``: ``entry`` is
    new.
    """

    op: Op
    entry: Entry | None
    found: bool
    changed: bool
    seq: int = 0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """``bytes``: of values and chunks. ``keys``: deletions that are remembered and values that lost a conflict too.
    ``inbound_bytes``: of it, chunks that no entry names yet.
    """

    bytes: int
    keys: int
    chunks: int
    inbound_bytes: int


class ScrubReport(msgspec.Struct, frozen=True, kw_only=True):
    """``damaged``: key ("" where no key names the chunk) and digest of the chunk, of a small value that of the value;
    b"" where the row itself is damaged. ``is_round``: everything has been looked at since this was last said.
    """

    damaged: list[tuple[str, bytes]]
    checked_bytes: int
    is_round: bool


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep has let go. ``is_done``: there was nothing more to do."""

    expired: int = 0
    forgotten: int = 0
    chunks: int = 0
    moved_bytes: int = 0
    segments: int = 0
    is_done: bool = True
