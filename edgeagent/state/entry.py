"""One key's state as it is kept, moved and compared. Pure."""

from __future__ import annotations

import enum
import hashlib
from typing import Annotated

import msgspec

from edgeagent.state.hlc import NONE, UNSET_BEFORE_MS, Version
from edgeagent.state.keys import CHUNK_BYTES, INLINE_BYTES_MAX

__all__ = ["Durability", "Entry", "Mode", "chunks_of", "entry_of"]

_Sha256 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Mode(enum.StrEnum):
    """How a key's writes meet (docs/state.md). ``once``: the first value stays. ``owner``: one node writes, fenced by
    epochs. ``lww``: the highest version wins.
    """

    ONCE = "once"
    OWNER = "owner"
    LWW = "lww"


class Durability(enum.StrEnum):
    """Where a write is on disk. Ordered by ``rank``."""

    LOCAL = "local"  # fsynced at one node
    PEER = "peer"  # fsynced at two nodes or more
    GROUND = "ground"  # and in the ground store, or at a node on the ground

    @property
    def rank(self) -> int:
        return (Durability.LOCAL, Durability.PEER, Durability.GROUND).index(self)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """``sha256`` is of the whole value. A value of up to INLINE_BYTES_MAX is ``inline``, a larger one is named by
    ``chunks``, the SHA-256 of every CHUNK_BYTES of it. A tombstone has ``deleted`` and no value. ``epoch`` and
    ``owner`` are of mode ``owner``; for ``once``, ``epoch`` is that of the run. ``expires_ms``: UTC, 0 = never; by the
    clock of its version, so that a writer whose own clock is behind makes nothing that others find expired already.
    """

    key: str
    version: Version
    mode: Mode = Mode.LWW
    epoch: int = 0
    owner: str = ""
    deleted: bool = False
    size_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    sha256: bytes = b""
    inline: bytes | None = None
    chunks: tuple[_Sha256, ...] = ()
    expires_ms: int = 0

    def is_there(self, utc_ms: int) -> bool:
        """Whether a reader gets a value."""
        return not self.deleted and not self.is_expired(utc_ms)

    def is_expired(self, utc_ms: int) -> bool:
        """Whether its time is over."""
        return 0 < self.expires_ms <= utc_ms and self.has_date(utc_ms)

    def has_date(self, utc_ms: int) -> bool:
        """Whether its expiry says anything to a clock that stands so: one that was written by a clock that was never
        set (in 1970) is in the past of every other. It goes ``ttl_ms`` after it has come, then.
        """
        return self.expires_ms >= UNSET_BEFORE_MS or utc_ms < UNSET_BEFORE_MS

    @property
    def ttl_ms(self) -> int:
        """How long after its version it was to expire."""
        return max(1, self.expires_ms - self.version.wall_ms)


def chunks_of(value: bytes | memoryview) -> list[memoryview]:
    """The value in pieces of CHUNK_BYTES, the last one shorter."""
    view = memoryview(value)
    return [view[at : at + CHUNK_BYTES] for at in range(0, len(view), CHUNK_BYTES)]


def entry_of(
    key: str,
    value: bytes | memoryview | None,
    version: Version = NONE,
    *,
    mode: Mode = Mode.LWW,
    epoch: int = 0,
    owner: str = "",
    expires_ms: int = 0,
) -> Entry:
    """The entry of a value, None: of its deletion."""
    if value is None:
        return Entry(key=key, version=version, mode=mode, epoch=epoch, owner=owner, deleted=True)
    small = len(value) <= INLINE_BYTES_MAX
    return Entry(
        key=key,
        version=version,
        mode=mode,
        epoch=epoch,
        owner=owner,
        size_bytes=len(value),
        sha256=hashlib.sha256(value).digest(),
        inline=bytes(value) if small else None,
        chunks=() if small else tuple(hashlib.sha256(piece).digest() for piece in chunks_of(value)),
        expires_ms=expires_ms,
    )
