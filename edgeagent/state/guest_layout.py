"""What guests and the node tell each other by bytes: groups, their replies, listings; codes and flags. Pure.

All numbers are little-endian; nothing is aligned. The twin of sdk/edge_state.h.

A group        u32 count, then ``count`` times
               u8 operation, u8 flags, u16 key, u16 version, u16 0, u32 value, u32 ttl_ms   (lengths in bytes)
               key, version, value
Its reply      u32 count, then ``count`` times
               i32 status, u16 key, u16 version, u32 value; key, version, value
A listing      u32 count, u32 more (1: there are keys after the last), then ``count`` times
               u32 size of the value, u16 key, u16 version; key, version
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum, IntFlag
from typing import NamedTuple

from edgeagent.state.errors import BadKey
from edgeagent.state.keys import GROUP_ITEMS_MAX

__all__ = [
    "HELD",
    "VERSION_BYTES",
    "Answered",
    "Code",
    "Flag",
    "GuestOp",
    "OpCode",
    "pack_list",
    "pack_replies",
    "text_of",
    "unpack_group",
]

VERSION_BYTES = 96  # of a guest's buffer for a version: its text, then zeros
HELD = 3  # after 0 local, 1 peer, 2 ground: the write waits for the end of the step

_COUNT = struct.Struct("<I")
_OP = struct.Struct("<BBHHHII")
_REPLY = struct.Struct("<iHHI")
_LIST = struct.Struct("<II")
_LISTED = struct.Struct("<IHH")


class Code(IntEnum):
    """What an import of edge_state returns instead of a length; as in sdk/edge_state.h and native/state."""

    BAD = -1
    RANGE = -2
    MEMORY = -4
    FULL = -5
    NONE = -10
    DENIED = -11
    OFF = -12
    VERSION = -13
    TAKEN = -14
    FENCED = -15
    TOO_LARGE = -16
    NO_ROOM = -17
    BEHIND = -18
    LATE = -19
    FAILED = -20


class Flag(IntFlag):
    """Of put, and of an operation in a group."""

    NOW = 1
    PEER = 2
    GROUND = 4
    EXPECT = 128  # in a group: only over ``version``


class OpCode(IntEnum):
    """Of an operation in a group."""

    GET = 0
    PUT = 1
    DELETE = 2
    BELOW = 3  # get all keys that begin with ``key``; one of a group


class GuestOp(NamedTuple):
    op: OpCode
    key: str
    value: memoryview | bytes = b""
    flags: Flag = Flag(0)
    version: str = ""
    ttl_ms: int = 0


class Answered(NamedTuple):
    """``status``: a Code, or how durable a write is."""

    status: int
    key: str
    version: str = ""
    value: bytes | memoryview = b""


def unpack_group(data: bytes | memoryview) -> list[GuestOp]:
    """A guest's group; values are parts of ``data``. Raises BadKey for anything that is none."""
    view = memoryview(data)
    if len(view) < _COUNT.size:
        raise BadKey("a group is shorter than its count")
    (count,) = _COUNT.unpack_from(view)
    if not 0 < count <= GROUP_ITEMS_MAX:
        raise BadKey(f"a group has {count} operations", hint=f"1 to {GROUP_ITEMS_MAX}")
    at, ops, below = _COUNT.size, [], 0
    for _ in range(count):
        if len(view) - at < _OP.size:
            raise BadKey("a group ends within an operation")
        code, flags, key, version, zero, value, ttl_ms = _OP.unpack_from(view, at)
        at += _OP.size
        if len(view) - at < key + version + value:
            raise BadKey("the lengths of a group lead out of it")
        if code not in OpCode.__members__.values() or zero or flags & ~_known(code):
            raise BadKey(
                f"operation {code} of a group with flags {flags}, or its reserved bytes, are unknown"
            )
        if (value and code != OpCode.PUT) or (ttl_ms and code != OpCode.PUT) or (version and not flags & 128):
            raise BadKey("an operation of a group has what it has no use for")
        below += code == OpCode.BELOW
        ops.append(
            GuestOp(
                OpCode(code),
                text_of(view[at : at + key]),
                view[at + key + version : at + key + version + value],
                Flag(flags),
                text_of(view[at + key : at + key + version]),
                ttl_ms,
            )
        )
        at += key + version + value
    if at != len(view) or below > 1:
        raise BadKey("a group has bytes behind its end, or more than one prefix")
    return ops


def _known(code: int) -> int:
    writes = code in (OpCode.PUT, OpCode.DELETE)
    return int(Flag.NOW | Flag.PEER | Flag.GROUND | Flag.EXPECT if writes else Flag.NOW)


def text_of(raw: bytes | memoryview) -> str:
    """Raises BadKey for what is not UTF-8."""
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError:
        raise BadKey("a key, a prefix or a version is not UTF-8") from None


def pack_replies(replies: Sequence[Answered]) -> list[bytes | memoryview]:
    """Pieces, for the values may be large."""
    pieces: list[bytes | memoryview] = [_COUNT.pack(len(replies))]
    for one in replies:
        key, version = one.key.encode(), one.version.encode()
        pieces.append(_REPLY.pack(one.status, len(key), len(version), len(one.value)) + key + version)
        if one.value:
            pieces.append(one.value)
    return pieces


def pack_list(rows: Sequence[tuple[str, str, int]], *, more: bool) -> bytes:
    """Rows of key, version, size of the value."""
    pieces = [_LIST.pack(len(rows), more)]
    for key, version, size in rows:
        raw, text = key.encode(), version.encode()
        pieces += [_LISTED.pack(size, len(raw), len(text)), raw, text]
    return b"".join(pieces)
