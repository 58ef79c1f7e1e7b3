"""What one node asks another when a reader wants what is not here: entries by key or prefix, then chunks. Pure.

Both are msgpack, begin with their version, and are bounded: a reply stops at ``FETCH_BYTES_MAX`` of inline values and
says so (``more``), chunks are asked for in batches of ``BATCH_CHUNKS_MAX``.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import BadRequest
from edgeagent.state.entry import Entry
from edgeagent.state.keys import GROUP_ITEMS_MAX

__all__ = [
    "BATCH_CHUNKS_MAX",
    "FETCH_BYTES_MAX",
    "Chunks",
    "ChunksWanted",
    "Fetch",
    "Fetched",
    "Held",
    "read",
    "write",
]

VERSION = 1
FETCH_BYTES_MAX = 8 << 20
BATCH_CHUNKS_MAX = 16

_Key = Annotated[str, msgspec.Meta(max_length=512)]
_Sha256 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_T = TypeVar("_T")


class Fetch(msgspec.Struct, kw_only=True, array_like=True):
    """``known``: versions that the asker has, in the order of ``keys``, "" for none. ``bare``: without values."""

    form: Annotated[int, msgspec.Meta(ge=1, le=1)] = VERSION
    keys: Annotated[list[_Key], msgspec.Meta(max_length=GROUP_ITEMS_MAX)] = []
    known: Annotated[list[str], msgspec.Meta(max_length=GROUP_ITEMS_MAX)] = []
    prefix: _Key | None = None
    after: _Key = ""
    limit: Annotated[int, msgspec.Meta(ge=0, le=GROUP_ITEMS_MAX)] = GROUP_ITEMS_MAX
    bare: bool = False


class Held(msgspec.Struct, kw_only=True, array_like=True, frozen=True):
    """An entry as it is held; ``same``: its version is the known one, and its value is left out. ``aside``: values of
    the key that lost a conflict.
    """

    entry: Entry
    same: bool = False
    aside: int = 0


class Fetched(msgspec.Struct, kw_only=True, array_like=True):
    """``held``: of those asked for, what is here, tombstones too; ``more``: not all of it. ``unsure``: what is known to
    be in the ground store, which does not answer.
    """

    form: Annotated[int, msgspec.Meta(ge=1, le=1)] = VERSION
    held: Annotated[list[Held], msgspec.Meta(max_length=2 * GROUP_ITEMS_MAX)] = []
    more: bool = False
    is_ground: bool = False
    unsure: Annotated[list[_Key], msgspec.Meta(max_length=GROUP_ITEMS_MAX)] = []


class ChunksWanted(msgspec.Struct, kw_only=True, array_like=True):
    """Chunks by their SHA-256."""

    form: Annotated[int, msgspec.Meta(ge=1, le=1)] = VERSION
    sha256: Annotated[list[_Sha256], msgspec.Meta(max_length=BATCH_CHUNKS_MAX)] = []


class Chunks(msgspec.Struct, kw_only=True, array_like=True):
    """In the order in which they were asked for; empty for one that is not here."""

    form: Annotated[int, msgspec.Meta(ge=1, le=1)] = VERSION
    pieces: Annotated[list[bytes], msgspec.Meta(max_length=BATCH_CHUNKS_MAX)] = []


_writer = msgspec.msgpack.Encoder()


def write(value: msgspec.Struct) -> bytes:
    """The bytes of one of these."""
    return _writer.encode(value)


def read(data: bytes, kind: type[_T]) -> _T:
    """Raises BadRequest for bytes that are none of this kind, or of another version."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except UNDECODABLE as error:
        raise BadRequest(f"not a {kind.__name__} of form {VERSION}: {error}"[:300]) from None
