"""Datagrams and the items in them: msgpack arrays behind a version byte, bounded, typed error or value.

A datagram is ``version, [kind, sender, seq, target, [item, ...]]``; an item is a byte string that holds a record, an
accusation or a death. Items are passed on as they came: nobody encodes a rumour twice, and :class:`Items` decodes each
one once. msgspec checks types, lengths and unknown fields in C: 0.2 us to write a packet with two items, 0.5 us to read
it, 22 bytes for a bare ping.

Layout of version 1, all integers as short as msgpack has them:

| array | fields |
|---|---|
| packet | kind (0 ping, 1 ping-req, 2 ack, 3 nack, 4 gossip), sender, seq (32 bits), target name or "", items |
| record | 1, name, section, version, payload, signature, hops |
| accusation | 2, name, incarnation, accuser |
| death | 3, name, incarnation, accuser |
"""

from __future__ import annotations

from typing import Annotated, NoReturn

import msgspec

from edgeagent.gossip.errors import RecordRefused, WireRefused
from edgeagent.gossip.records import (
    HOPS_MAX,
    NAME_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    SIGNATURE_BYTES_MAX,
    VERSION_MAX,
    Record,
    Section,
)
from edgeagent.model.decoding import UNDECODABLE

__all__ = [
    "DATAGRAM_BYTES_MAX",
    "ITEM_OVERHEAD_BYTES",
    "WIRE_VERSION",
    "Accusation",
    "Death",
    "Item",
    "Items",
    "Kind",
    "Packet",
    "decode_item",
    "decode_packet",
    "encode_item",
    "encode_packet",
    "encode_record",
    "header_bytes",
]

WIRE_VERSION = 1
DATAGRAM_BYTES_MAX = 1400 - 64  # of the 1,400 on the wire, encryption takes up to 64
ITEM_OVERHEAD_BYTES = 3  # msgpack's length before an item
_ITEMS_MAX = 256

_Version = Annotated[int, msgspec.Meta(ge=0, le=VERSION_MAX)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_BYTES_MAX, pattern=r"\A[A-Za-z0-9._:-]+\Z")]


class Kind:
    """The kinds of packets."""

    PING = 0
    PING_REQ = 1
    ACK = 2
    NACK = 3
    GOSSIP = 4


class Packet(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """One datagram, decrypted. The names' alphabet is checked where names are kept, not on every packet."""

    kind: Annotated[int, msgspec.Meta(ge=0, le=4)]
    sender: Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_BYTES_MAX)]
    seq: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
    target: Annotated[str, msgspec.Meta(max_length=NAME_BYTES_MAX)]
    items: Annotated[
        list[Annotated[bytes, msgspec.Meta(max_length=DATAGRAM_BYTES_MAX)]],
        msgspec.Meta(max_length=_ITEMS_MAX),
    ]


class _RecordForm(msgspec.Struct, array_like=True, forbid_unknown_fields=True, tag=1):
    name: _Name
    section: Annotated[int, msgspec.Meta(ge=0, le=int(max(Section)))]
    version: _Version
    payload: Annotated[bytes, msgspec.Meta(max_length=PAYLOAD_BYTES_MAX)]
    signature: Annotated[bytes, msgspec.Meta(max_length=SIGNATURE_BYTES_MAX)]
    hops: Annotated[int, msgspec.Meta(ge=0, le=HOPS_MAX)]


class Accusation(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=2):
    """``accuser`` suspects ``name`` in this incarnation."""

    name: _Name
    incarnation: _Version
    accuser: _Name


class Death(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=3):
    """``accuser``'s suspicion of ``name`` in this incarnation ran out."""

    name: _Name
    incarnation: _Version
    accuser: _Name


Item = Record | Accusation | Death

_packet_reader = msgspec.msgpack.Decoder(Packet)
_item_reader = msgspec.msgpack.Decoder(_RecordForm | Accusation | Death)
_writer = msgspec.msgpack.Encoder()
_VERSION_BYTE = bytes([WIRE_VERSION])


# RecursionError: nested arrays where none belong. ValueError: text that is not UTF-8.
def _refuse(what: str, error: BaseException) -> NoReturn:
    raise WireRefused(f"{what} refused: {error}"[:200]) from None


def header_bytes(sender: str, target: str) -> int:
    """A bound of what a packet takes without its items."""
    return 16 + len(sender) + len(target)


def encode_packet(kind: int, sender: str, seq: int, target: str, items: list[bytes]) -> bytes:
    """The datagram. The caller keeps it within DATAGRAM_BYTES_MAX (:func:`header_bytes`)."""
    return _VERSION_BYTE + _writer.encode((kind, sender, seq, target, items))


def decode_packet(data: bytes) -> Packet:
    """The packet of a datagram. Raises WireRefused and nothing else."""
    if len(data) > DATAGRAM_BYTES_MAX or data[:1] != _VERSION_BYTE:
        raise WireRefused(
            f"a datagram of {len(data)} bytes and version {data[:1].hex() or 'none'}",
            hint=f"version {WIRE_VERSION} and at most {DATAGRAM_BYTES_MAX} bytes are read",
        )
    try:
        return _packet_reader.decode(data[1:])
    except UNDECODABLE as error:
        _refuse("datagram", error)


def encode_item(item: Accusation | Death) -> bytes:
    """The item's bytes."""
    return _writer.encode(item)


def encode_record(
    name: str, section: int, version: int, payload: bytes, *, signature: bytes, hops: int = 0
) -> Record:
    """A record with its bytes. Raises RecordRefused for values that no reader would take."""
    blob = _writer.encode(_RecordForm(name, section, version, payload, signature, hops))
    try:
        read = decode_item(blob)
    except WireRefused as error:
        raise RecordRefused(f"no record can carry this: {error.message}") from None
    assert isinstance(read, Record)
    return read


def decode_item(blob: bytes) -> Item:
    """The item in these bytes. Raises WireRefused and nothing else."""
    try:
        form: _RecordForm | Accusation | Death = _item_reader.decode(blob)
        if not isinstance(form, _RecordForm):
            return form
        return Record(
            form.name,
            form.section,
            form.version,
            form.payload,
            signature=form.signature,
            hops=form.hops,
            blob=blob,
        )
    except UNDECODABLE as error:
        _refuse("item", error)


class Items:
    """Decoded items by their bytes: a rumour is heard many times and read once. Bounded; emptied when full."""

    __slots__ = ("_known", "_size_max")

    def __init__(self, size_max: int = 4096) -> None:
        self._known: dict[bytes, Item] = {}
        self._size_max = size_max

    def __len__(self) -> int:
        return len(self._known)

    def read(self, blob: bytes) -> Item:
        """As :func:`decode_item`."""
        item = self._known.get(blob)
        if item is None:
            item = decode_item(blob)
            if len(self._known) >= self._size_max:
                self._known.clear()
            self._known[blob] = item
        return item
