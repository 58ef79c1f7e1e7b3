"""Messages about state as bytes: one byte of version, then msgpack. Every field is bounded, and checked when read.

``encode`` and ``decode`` of Chunks pack and unpack (:mod:`edgeagent.state.packing`), ``decode`` of entries hashes what
is inline: both belong on a thread where ``is_heavy`` says so. A value that is there has the size and the hash that its
entry says, or it never gets past here. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NoReturn

import msgspec

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.state import messages as m
from edgeagent.state.entry import Entry, Mode
from edgeagent.state.errors import BadKey, BadTransfer
from edgeagent.state.hlc import NONE, Version
from edgeagent.state.keys import CHUNK_BYTES, GROUP_ITEMS_MAX, INLINE_BYTES_MAX, check_key
from edgeagent.state.packing import pack, unpack

__all__ = [
    "ITEMS_MAX",
    "MESSAGE_BYTES_MAX",
    "PARTS_BYTES_MAX",
    "PARTS_MAX",
    "PIECES_MAX",
    "SUMS_MAX",
    "VERSION",
    "decode",
    "encode",
    "is_heavy",
]

VERSION = 1
ITEMS_MAX = 4 * GROUP_ITEMS_MAX  # groups that share keys travel together
PIECES_MAX = 1 << 16  # of one offer: 16 GiB
PARTS_MAX = 64  # of one message: 16 MiB
PARTS_BYTES_MAX = PARTS_MAX * CHUNK_BYTES
SUMS_MAX = 4096
MESSAGE_BYTES_MAX = PARTS_BYTES_MAX + (4 << 20)
_HOLDERS_MAX = 16
_HEAVY_BYTES = 64 << 10
_INT_MAX = (1 << 53) - 1
_NODE = re.compile(r"[0-9A-Za-z_.:-]{1,64}")

_Ask = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_Int = Annotated[int, msgspec.Meta(ge=0, le=_INT_MAX)]
_Node = Annotated[str, msgspec.Meta(max_length=64)]
_Key = Annotated[str, msgspec.Meta(max_length=512)]
_Eight = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
_Refused = Annotated[str, msgspec.Meta(max_length=32)]
_Bits = Annotated[bytes, msgspec.Meta(max_length=PIECES_MAX // 8)]
_Name = tuple[_Key, _Int, _Int, _Node]
_Sums = Annotated[tuple[tuple[_Eight, _Eight], ...], msgspec.Meta(max_length=SUMS_MAX)]
_Names = Annotated[tuple[_Name, ...], msgspec.Meta(max_length=ITEMS_MAX)]
_Keys = Annotated[tuple[_Key, ...], msgspec.Meta(max_length=ITEMS_MAX)]


class _Row(msgspec.Struct, array_like=True, frozen=True):
    # An entry. ``mode`` by its place in _MODES; ``chunks`` one after the other.
    key: _Key
    wall_ms: Annotated[int, msgspec.Meta(ge=0, le=(1 << 48) - 1)]
    counter: Annotated[int, msgspec.Meta(ge=0, le=(1 << 16) - 1)]
    node: _Node
    mode: Annotated[int, msgspec.Meta(ge=0, le=2)]
    epoch: _Int
    owner: _Node
    deleted: bool
    size_bytes: _Int
    sha256: Annotated[bytes, msgspec.Meta(max_length=32)]
    inline: Annotated[bytes, msgspec.Meta(max_length=INLINE_BYTES_MAX)] | None
    chunks: Annotated[bytes, msgspec.Meta(max_length=32 * PIECES_MAX)]
    expires_ms: _Int


class _Part(msgspec.Struct, array_like=True, frozen=True):
    index: Annotated[int, msgspec.Meta(ge=0, lt=PIECES_MAX)]
    size_bytes: Annotated[int, msgspec.Meta(ge=1, le=CHUNK_BYTES)]
    packed: bool
    data: Annotated[bytes, msgspec.Meta(min_length=1, max_length=CHUNK_BYTES)]


_Rows = Annotated[tuple[_Row, ...], msgspec.Meta(max_length=ITEMS_MAX)]


class _Body(msgspec.Struct, array_like=True, frozen=True):
    ask: _Ask


class _Offer(_Body, tag=1, frozen=True):
    transfer: _Ask
    entries: _Rows
    custody: bool


class _Have(_Body, tag=2, frozen=True):
    transfer: _Ask
    missing: _Bits
    refused: _Refused


class _Chunks(_Body, tag=3, frozen=True):
    transfer: _Ask
    parts: Annotated[tuple[_Part, ...], msgspec.Meta(min_length=1, max_length=PARTS_MAX)]


class _Ack(_Body, tag=4, frozen=True):
    transfer: _Ask
    durable: Annotated[tuple[_Int, ...], msgspec.Meta(max_length=PARTS_MAX)]
    refused: _Refused


class _CommitRequest(_Body, tag=5, frozen=True):
    transfer: _Ask
    entries: _Rows
    custody: bool


class _Custody(_Body, tag=6, frozen=True):
    transfer: _Ask
    seal: Annotated[bytes, msgspec.Meta(max_length=16)]
    is_ground: bool
    refused: _Refused


class _Release(_Body, tag=7, frozen=True):
    names: _Names
    copies: Annotated[int, msgspec.Meta(ge=1, le=_HOLDERS_MAX)]
    holders: Annotated[tuple[_Node, ...], msgspec.Meta(max_length=_HOLDERS_MAX)]


class _Released(_Body, tag=8, frozen=True):
    held: _Bits
    is_ground: bool
    refused: _Refused


class _Digest(_Body, tag=9, frozen=True):
    sums: _Sums


class _Differs(_Body, tag=10, frozen=True):
    sums: _Sums


class _Listing(_Body, tag=11, frozen=True):
    group: _Eight
    names: _Names


class _Others(_Body, tag=12, frozen=True):
    names: _Names


class _Want(_Body, tag=13, frozen=True):
    keys: _Keys


class _Coming(_Body, tag=14, frozen=True):
    keys: _Keys


_Wire = (
    _Offer | _Have | _Chunks | _Ack | _CommitRequest | _Custody | _Release | _Released
    | _Digest | _Differs | _Listing | _Others | _Want | _Coming
)  # fmt: skip
_DECODER = msgspec.msgpack.Decoder(_Wire)
_ENCODER = msgspec.msgpack.Encoder()
_MODES = (Mode.ONCE, Mode.OWNER, Mode.LWW)


def is_heavy(message: m.Message) -> bool:
    """Whether to encode it takes longer than an event loop may wait."""
    if isinstance(message, m.Chunks):
        return True
    entries = message.entries if isinstance(message, m.Offer | m.CommitRequest) else ()
    return sum(len(entry.inline or b"") + 32 * len(entry.chunks) + 128 for entry in entries) > _HEAVY_BYTES


def encode(message: m.Message, level: int = 0) -> bytes:
    """The bytes. ``level``: of zstd, for the parts of Chunks; 0: raw. Raises BadTransfer for what is over a limit."""
    encoded = bytes((VERSION,)) + _ENCODER.encode(_TO[type(message)](message, level))
    if len(encoded) > MESSAGE_BYTES_MAX:
        raise BadTransfer(f"a message of {len(encoded)} bytes; at most {MESSAGE_BYTES_MAX} are sent")
    return encoded


def decode(raw: bytes | memoryview) -> m.Message:
    """The message. Raises BadTransfer for all that ``encode`` would not write."""
    if not 2 <= len(raw) <= MESSAGE_BYTES_MAX:
        _refuse(f"a message has 2 to {MESSAGE_BYTES_MAX} bytes, and this one {len(raw)}")
    if raw[0] != VERSION:
        _refuse(f"the message is of version {raw[0]}, and {VERSION} is spoken here")
    try:
        body = _DECODER.decode(memoryview(raw)[1:])
    except UNDECODABLE as error:
        raise BadTransfer(f"no message about state: {str(error)[:200]}") from None
    return _FROM[type(body)](body)


def _refuse(text: str) -> NoReturn:
    raise BadTransfer(text)


def _row(entry: Entry) -> _Row:
    return _Row(
        entry.key,
        *entry.version,
        _MODES.index(entry.mode),
        entry.epoch,
        entry.owner,
        entry.deleted,
        entry.size_bytes,
        entry.sha256,
        entry.inline,
        b"".join(entry.chunks),
        entry.expires_ms,
    )


def _key(key: str) -> str:
    try:
        return check_key(key)
    except BadKey as error:
        raise BadTransfer(error.message) from None


def _node(name: str) -> str:
    if not _NODE.fullmatch(name):
        _refuse(f"{name[:80]!a} is not the name of a node")
    return name


def _name(key: str, wall_ms: int, counter: int, node: str) -> m.Name:
    version = NONE if not (wall_ms or counter or node) else Version(wall_ms, counter, _node(node))
    return _key(key), version


def _entry(row: _Row) -> Entry:
    if len(row.chunks) % 32:
        _refuse("hashes of chunks have 32 bytes each")
    chunks = tuple(row.chunks[at : at + 32] for at in range(0, len(row.chunks), 32))
    _check_value(row, len(chunks))
    return Entry(
        key=_key(row.key),
        version=Version(row.wall_ms, row.counter, _node(row.node)),
        mode=_MODES[row.mode],
        epoch=row.epoch,
        owner=_node(row.owner) if row.owner else "",
        deleted=row.deleted,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        inline=row.inline,
        chunks=chunks,
        expires_ms=row.expires_ms,
    )


def _check_value(row: _Row, chunks: int) -> None:
    if row.deleted:
        if row.size_bytes or row.sha256 or chunks or row.inline is not None:
            _refuse("a tombstone has no value")
        return
    if len(row.sha256) != 32:
        _refuse("the hash of a value has 32 bytes")
    is_small = row.size_bytes <= INLINE_BYTES_MAX
    if chunks != (0 if is_small else -(-row.size_bytes // CHUNK_BYTES)):
        _refuse(f"{chunks} chunks of a value of {row.size_bytes} bytes")
    if row.inline is not None:
        if not is_small or len(row.inline) != row.size_bytes:
            _refuse(f"{len(row.inline)} bytes of a value of {row.size_bytes}")
        if hashlib.sha256(row.inline).digest() != row.sha256:
            _refuse("a value that has not the hash that it was announced with")
    elif not row.size_bytes:
        _refuse("an empty value is not left out")


def _entries(rows: Sequence[_Row]) -> tuple[Entry, ...]:
    entries = tuple(_entry(row) for row in rows)
    if len({entry.key for entry in entries}) != len(entries):
        _refuse("a key twice in one message")
    if sum(len(entry.chunks) or 1 for entry in entries) > PIECES_MAX:
        _refuse(f"more than {PIECES_MAX} pieces")
    return entries


def _offer(body: _Offer) -> m.Offer:
    if not body.entries:
        _refuse("an offer of nothing")
    return m.Offer(body.ask, body.transfer, _entries(body.entries), body.custody)


def _commit(body: _CommitRequest) -> m.CommitRequest:
    entries = _entries(body.entries)
    if any(entry.inline is None and not entry.chunks and not entry.deleted for entry in entries):
        _refuse("a value is neither in the message nor in chunks")
    return m.CommitRequest(body.ask, body.transfer, entries, body.custody)


def _part(part: m.Part, level: int) -> _Part:
    packed = pack(part.data, level)
    return _Part(part.index, len(part.data), packed is not None, part.data if packed is None else packed)


def _chunks(body: _Chunks) -> m.Chunks:
    parts = []
    for part in body.parts:
        data = unpack(part.data, part.size_bytes) if part.packed else part.data
        if len(data) != part.size_bytes:
            _refuse(f"a part of {len(data)} bytes, and {part.size_bytes} were announced")
        parts.append(m.Part(part.index, data))
    return m.Chunks(body.ask, body.transfer, tuple(parts))


def _refusal(text: str) -> m.Refusal:
    try:
        return m.Refusal(text)
    except ValueError:
        return m.Refusal.REFUSED


def _names(rows: Sequence[_Name]) -> tuple[m.Name, ...]:
    return tuple(_name(*row) for row in rows)


def _as_rows(names: Sequence[m.Name]) -> _Names:
    return tuple((key, *version) for key, version in names)


_TO: dict[type, Callable[[Any, int], _Wire]] = {
    m.Offer: lambda a, _: _Offer(a.ask, a.transfer, tuple(map(_row, a.entries)), a.custody),
    m.Have: lambda a, _: _Have(a.ask, a.transfer, a.missing, a.refused),
    m.Chunks: lambda a, level: _Chunks(a.ask, a.transfer, tuple(_part(one, level) for one in a.parts)),
    m.Ack: lambda a, _: _Ack(a.ask, a.transfer, a.durable, a.refused),
    m.CommitRequest: lambda a, _: _CommitRequest(a.ask, a.transfer, tuple(map(_row, a.entries)), a.custody),
    m.Custody: lambda a, _: _Custody(a.ask, a.transfer, a.seal, a.is_ground, a.refused),
    m.Release: lambda a, _: _Release(a.ask, _as_rows(a.names), a.copies, a.holders),
    m.Released: lambda a, _: _Released(a.ask, a.held, a.is_ground, a.refused),
    m.Digest: lambda a, _: _Digest(a.ask, a.sums),
    m.Differs: lambda a, _: _Differs(a.ask, a.sums),
    m.Listing: lambda a, _: _Listing(a.ask, a.group, _as_rows(a.names)),
    m.Others: lambda a, _: _Others(a.ask, _as_rows(a.names)),
    m.Want: lambda a, _: _Want(a.ask, a.keys),
    m.Coming: lambda a, _: _Coming(a.ask, a.keys),
}
_FROM: dict[type, Callable[[Any], m.Message]] = {
    _Offer: _offer,
    _Have: lambda b: m.Have(b.ask, b.transfer, b.missing, _refusal(b.refused)),
    _Chunks: _chunks,
    _Ack: lambda b: m.Ack(b.ask, b.transfer, b.durable, _refusal(b.refused)),
    _CommitRequest: _commit,
    _Custody: lambda b: m.Custody(b.ask, b.transfer, b.seal, b.is_ground, _refusal(b.refused)),
    _Release: lambda b: m.Release(b.ask, _names(b.names), b.copies, tuple(map(_node, b.holders))),
    _Released: lambda b: m.Released(b.ask, b.held, b.is_ground, _refusal(b.refused)),
    _Digest: lambda b: m.Digest(b.ask, b.sums),
    _Differs: lambda b: m.Differs(b.ask, b.sums),
    _Listing: lambda b: m.Listing(b.ask, b.group, _names(b.names)),
    _Others: lambda b: m.Others(b.ask, _names(b.names)),
    _Want: lambda b: m.Want(b.ask, tuple(map(_key, b.keys))),
    _Coming: lambda b: m.Coming(b.ask, tuple(map(_key, b.keys))),
}
