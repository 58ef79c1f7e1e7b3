"""The frames of an anti-entropy exchange over a stream: msgpack arrays behind a version byte, typed error or value.

Layout of version 1:

| frame | fields |
|---|---|
| summary | 1, sender, the sums of its buckets (8 bytes each, big-endian; a power of two of them, at most 256) |
| digest | 2, the buckets that differ (1 byte each), [[name, incarnation, [version, ...]], ...], last |
| transfer | 3, [item, ...], [[name, section bits], ...] wanted, last |

A digest's versions are those of sections 1 to 5 less the incarnation, nil where there is none: most take a byte or
two.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from edgeagent.gossip.codec import DATAGRAM_BYTES_MAX, WIRE_VERSION
from edgeagent.gossip.errors import WireRefused
from edgeagent.gossip.records import NAME_BYTES_MAX, VERSION_MAX, Section
from edgeagent.model.decoding import UNDECODABLE

__all__ = [
    "ENTRIES_MAX",
    "FRAME_BYTES_MAX",
    "SECTIONS_TOLD",
    "Digest",
    "Entry",
    "Frame",
    "Summary",
    "Transfer",
    "Want",
    "decode_frame",
    "encode_frame",
]

FRAME_BYTES_MAX = 65536
ENTRIES_MAX = 400  # of at most 130 bytes each
SECTIONS_TOLD = tuple(int(section) for section in Section if 0 < section < Section.LOAD)
_ITEMS_MAX = 2048

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_BYTES_MAX)]
_Offset = Annotated[int, msgspec.Meta(ge=-VERSION_MAX, le=VERSION_MAX)]
_Blob = Annotated[bytes, msgspec.Meta(max_length=DATAGRAM_BYTES_MAX)]


class Entry(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What somebody holds of a member."""

    name: _Name
    incarnation: Annotated[int, msgspec.Meta(ge=0, le=VERSION_MAX)]
    offsets: Annotated[
        tuple[_Offset | None, ...], msgspec.Meta(min_length=len(SECTIONS_TOLD), max_length=len(SECTIONS_TOLD))
    ]


class Want(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Bit s of ``sections``: section s is wanted."""

    name: _Name
    sections: Annotated[int, msgspec.Meta(ge=0, le=2 ** (len(SECTIONS_TOLD) + 1) - 1)]


class Summary(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=1):
    sender: _Name
    sums: Annotated[bytes, msgspec.Meta(min_length=8, max_length=2048)]


class Digest(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=2):
    buckets: Annotated[bytes, msgspec.Meta(max_length=256)]
    entries: Annotated[list[Entry], msgspec.Meta(max_length=ENTRIES_MAX)]
    last: bool


class Transfer(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, tag=3):
    items: Annotated[list[_Blob], msgspec.Meta(max_length=_ITEMS_MAX)]
    wants: Annotated[list[Want], msgspec.Meta(max_length=ENTRIES_MAX)]
    last: bool


Frame = Summary | Digest | Transfer

_reader = msgspec.msgpack.Decoder(Frame)
_writer = msgspec.msgpack.Encoder()
_VERSION_BYTE = bytes([WIRE_VERSION])


def encode_frame(frame: Frame) -> bytes:
    """The frame's bytes; the stream's own length goes before them (the shell's business)."""
    return _VERSION_BYTE + _writer.encode(frame)


def decode_frame(data: bytes) -> Frame:
    """The frame in these bytes. Raises WireRefused and nothing else."""
    if len(data) > FRAME_BYTES_MAX or data[:1] != _VERSION_BYTE:
        raise WireRefused(
            f"a frame of {len(data)} bytes and version {data[:1].hex() or 'none'}",
            hint=f"version {WIRE_VERSION} and at most {FRAME_BYTES_MAX} bytes are read",
        )
    try:
        frame: Frame = _reader.decode(data[1:])
    except UNDECODABLE as error:
        raise WireRefused(f"frame refused: {error}"[:200]) from None
    if isinstance(frame, Summary):
        count = len(frame.sums) // 8
        if len(frame.sums) % 8 or count & (count - 1):
            raise WireRefused(f"a summary of {len(frame.sums)} bytes", hint="8 bytes for each of 2^k buckets")
    return frame
