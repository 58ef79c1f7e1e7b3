"""The frames between two hosts' hoses as values: what docs/hose-wire.md says, without a socket.

Every frame is a head of 128 bytes, little-endian::

    magic "EHRW" | version u8 | type u8 | zero u16 | fields of the type, zero-padded to 116 bytes | crc32 u32

The crc covers the 124 bytes before it, so that a damaged head is never acted upon. A DATA head is followed by its
payload, ``stored`` bytes, and by nothing else; the payload has a check of its own in the head, by the algorithm that
WELCOME names (a CRC-32 is its first 4 bytes). What a type does not use is zero, and decoding refuses everything that
encoding would not make. Offsets are absolute in the buffer of the whole transfer; a *stripe* is the part of it that
one connection carries.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from edgeagent.hose.errors import AbortCode, FrameRefused, HoseFault, VersionRefused

__all__ = [
    "CHECK_BYTES",
    "FRAME_BYTES",
    "ID_BYTES",
    "NONCE_BYTES",
    "NO_DIGEST",
    "NO_ID",
    "PAYLOAD_BYTES_MAX",
    "PROOF_BYTES",
    "RESENT",
    "STRIPES_MAX",
    "TEXT_BYTES",
    "VERSION",
    "ZSTD",
    "Abort",
    "Accept",
    "Ack",
    "Again",
    "Data",
    "Done",
    "Frame",
    "Greeting",
    "Hello",
    "Offer",
    "Ping",
    "Pong",
    "Welcome",
    "Window",
    "abort",
    "decode",
    "encode",
    "identity",
    "identity_of",
    "offer_of",
]

MAGIC = b"EHRW"
VERSION = 1
FRAME_BYTES = 128
ID_BYTES = 16
NONCE_BYTES = 16
PROOF_BYTES = 32
DIGEST_BYTES = 32
CHECK_BYTES = 16
TEXT_BYTES = 80
PAYLOAD_BYTES_MAX = 4 << 20  # of one DATA frame, raw and stored
TOTAL_BYTES_MAX = 1 << 48
STRIPES_MAX = 16
NO_DIGEST = bytes(DIGEST_BYTES)
NO_ID = bytes(ID_BYTES)

# Flags of DATA.
ZSTD = 1  # the payload is one zstd frame of exactly ``length`` bytes
RESENT = 2  # the answer to AGAIN
_DATA_FLAGS = ZSTD | RESENT

_HEAD = struct.Struct("<4sBBH")
_CRC_AT = FRAME_BYTES - 4
_ZEROS = bytes(FRAME_BYTES)


class Greeting(msgspec.Struct, frozen=True):
    """First frame of all, from the listener: its nonce, and the checksums that it knows (bits of ``Checksum``)."""

    nonce: bytes
    checksums: int


class Hello(msgspec.Struct, frozen=True):
    """The client's answer: which ticket, its own nonce, proof that it holds the ticket's secret, what it can do."""

    ticket: bytes
    nonce: bytes
    proof: bytes
    checksums: int
    compressions: int  # bits of the flags of DATA


class Welcome(msgspec.Struct, frozen=True):
    """The listener's proof of the same secret, what was agreed, and the bounds of this connection."""

    proof: bytes
    checksum: int
    compressions: int
    payload_bytes_max: int
    transfer_bytes_max: int


class Offer(msgspec.Struct, frozen=True):
    """A transfer, or one stripe of it: bytes ``base`` to ``base + length`` of ``total``.

    ``generation`` distinguishes contents under one id: a lower one than the known is stale. ``sha256`` is over the
    whole, or NO_DIGEST.
    """

    transfer: bytes
    generation: int
    total: int
    base: int
    length: int
    stripe: int = 0
    stripes: int = 1
    sha256: bytes = NO_DIGEST

    @property
    def end(self) -> int:
        """The offset after the stripe's last byte."""
        return self.base + self.length


class Accept(msgspec.Struct, frozen=True):
    """Go on from ``resume``, and send no byte at or beyond ``credit`` before a WINDOW allows it."""

    transfer: bytes
    generation: int
    resume: int
    credit: int


class Data(msgspec.Struct, frozen=True):
    """``stored`` bytes follow; unpacked they are ``length`` bytes for ``offset``. ``check`` is over the stored ones."""

    transfer: bytes
    generation: int
    offset: int
    length: int
    stored: int
    flags: int
    check: bytes


class Window(msgspec.Struct, frozen=True):
    """Bytes below ``credit`` may be sent."""

    transfer: bytes
    generation: int
    credit: int


class Again(msgspec.Struct, frozen=True):
    """These bytes came damaged; send them once more, as one frame with the flag RESENT."""

    transfer: bytes
    generation: int
    offset: int
    length: int


class Done(msgspec.Struct, frozen=True):
    """All bytes of the stripe have been sent; ``end`` is the offset after the last."""

    transfer: bytes
    generation: int
    end: int


class Ack(msgspec.Struct, frozen=True):
    """The receiving application has the whole transfer; only now may the sender change the bytes."""

    transfer: bytes
    generation: int


class Abort(msgspec.Struct, frozen=True):
    """The transfer (or with NO_ID the connection) is over, and why; both sides then close the connection."""

    transfer: bytes
    code: int
    text: str


class Ping(msgspec.Struct, frozen=True):
    """Are you there? Between transfers only."""

    token: int


class Pong(msgspec.Struct, frozen=True):
    """The answer, with the same token."""

    token: int


Frame = (
    Greeting | Hello | Welcome | Offer | Accept | Data | Window | Again | Done | Ack | Abort | Ping | Pong
)  # fmt: skip


class _Type(NamedTuple):
    """What does not depend on the frame is worked out once: heads are most of what a small transfer costs."""

    number: int
    struct: type[Any]
    layout: struct.Struct  # of the fields
    check: Callable[[Any], str | None]
    whole: struct.Struct  # of the head but for its crc
    start: tuple[bytes, int, int, int]
    widths: tuple[tuple[int, str, int], ...]  # of fields of bytes: index, name, bytes


def _type(number: int, kind: type[Any], fields: str, check: Callable[[Any], str | None]) -> _Type:
    layout = struct.Struct(f"<{fields}")
    names = kind.__struct_fields__
    return _Type(
        number,
        kind,
        layout,
        check,
        struct.Struct(f"{_HEAD.format}{fields}{_CRC_AT - _HEAD.size - layout.size}x"),
        (MAGIC, VERSION, number, 0),
        tuple((index, name, _WIDTHS[name]) for index, name in enumerate(names) if name in _WIDTHS),
    )


_WIDTHS = {
    "transfer": ID_BYTES,
    "ticket": ID_BYTES,
    "nonce": NONCE_BYTES,
    "proof": PROOF_BYTES,
    "sha256": DIGEST_BYTES,
    "check": CHECK_BYTES,
}


def _fine(_: Any) -> str | None:
    return None


def _check_hello(frame: Hello) -> str | None:
    return None if frame.compressions <= ZSTD else "an unknown compression"


def _check_welcome(frame: Welcome) -> str | None:
    if not 0 < frame.payload_bytes_max <= PAYLOAD_BYTES_MAX:
        return f"payloads have 1 to {PAYLOAD_BYTES_MAX} bytes"
    return None if frame.compressions <= ZSTD else "an unknown compression"


def _check_offer(frame: Offer) -> str | None:
    if frame.transfer == NO_ID:
        return "a transfer's id is not zero"
    if frame.total > TOTAL_BYTES_MAX:
        return f"a transfer has at most {TOTAL_BYTES_MAX} bytes"
    if not frame.stripe < frame.stripes <= STRIPES_MAX:
        return f"stripe {frame.stripe} of {frame.stripes}, of at most {STRIPES_MAX}"
    if frame.end > frame.total:
        return "the stripe ends beyond the whole"
    if frame.stripes == 1 and frame.length != frame.total:
        return "the only stripe is not the whole"
    return None


def _check_accept(frame: Accept) -> str | None:
    return None if frame.resume <= frame.credit <= TOTAL_BYTES_MAX else "the credit is below the offset"


def _check_data(frame: Data) -> str | None:
    if not 0 < frame.length <= PAYLOAD_BYTES_MAX or not 0 < frame.stored <= PAYLOAD_BYTES_MAX:
        return f"payloads have 1 to {PAYLOAD_BYTES_MAX} bytes"
    if frame.flags & ~_DATA_FLAGS:
        return "an unknown flag"
    if not frame.flags & ZSTD and frame.stored != frame.length:
        return "a plain payload has two lengths"
    return None if frame.offset + frame.length <= TOTAL_BYTES_MAX else "the payload ends too far"


def _check_again(frame: Again) -> str | None:
    return None if 0 < frame.length <= PAYLOAD_BYTES_MAX else f"payloads have 1 to {PAYLOAD_BYTES_MAX} bytes"


_TYPES = (
    _type(1, Greeting, "16sH", _fine),
    _type(2, Hello, "16s16s32sHH", _check_hello),
    _type(3, Welcome, "32sHHIQ", _check_welcome),
    _type(4, Offer, "16sIQQQHH32s", _check_offer),
    _type(5, Accept, "16sIQQ", _check_accept),
    _type(6, Data, "16sIQIIH16s", _check_data),
    _type(7, Window, "16sIQ", _fine),
    _type(8, Again, "16sIQI", _check_again),
    _type(9, Done, "16sIQ", _fine),
    _type(10, Ack, "16sI", _fine),
    _type(11, Abort, f"16sH{TEXT_BYTES}s", _fine),
    _type(12, Ping, "Q", _fine),
    _type(13, Pong, "Q", _fine),
)
_BY_NUMBER = {kind.number: kind for kind in _TYPES}
_BY_STRUCT = {kind.struct: kind for kind in _TYPES}


def encode(frame: Frame) -> bytes:
    """The 128 bytes of a frame. Raises ValueError where a value does not fit, which is the caller's mistake."""
    kind = _BY_STRUCT[type(frame)]
    if (wrong := kind.check(frame)) is not None:
        raise ValueError(f"{type(frame).__name__}: {wrong}")
    values = msgspec.structs.astuple(frame)
    for index, name, width in kind.widths:
        if len(values[index]) != width:
            raise ValueError(f"{name} has {width} bytes, not {len(values[index])}")
    if kind.struct is Abort:
        values = (*values[:-1], _field_of(values[-1]))
    try:
        head = kind.whole.pack(*kind.start, *values)
    except struct.error as error:
        raise ValueError(f"a value of {type(frame).__name__} does not fit: {error}") from None
    return head + zlib.crc32(head).to_bytes(4, "little")


def _field_of(text: str) -> bytes:
    raw = text.encode()
    if len(raw) > TEXT_BYTES or b"\0" in raw:
        raise ValueError(f"a text has at most {TEXT_BYTES} bytes and no zero byte")
    return raw


def decode(data: bytes | bytearray | memoryview) -> Frame:
    """The frame that 128 bytes are; raises FrameRefused, or VersionRefused, for what ``encode`` would not make."""
    if len(data) != FRAME_BYTES:
        raise FrameRefused(f"a frame has {FRAME_BYTES} bytes, not {len(data)}")
    raw = bytes(data)
    magic, version, number, zero = _HEAD.unpack_from(raw)
    if magic != MAGIC:
        raise FrameRefused("not a frame of a hose")
    if version != VERSION:
        # Before the checksum: a later version may well have another one.
        raise VersionRefused(f"version {version} is not spoken here, only {VERSION}")
    if zlib.crc32(raw[:_CRC_AT]).to_bytes(4, "little") != raw[_CRC_AT:]:
        raise FrameRefused("a frame's head came damaged")
    kind = _BY_NUMBER.get(number)
    if kind is None:
        raise FrameRefused(f"there is no frame of type {number}")
    used = _HEAD.size + kind.layout.size
    if zero or raw[used:_CRC_AT] != _ZEROS[used:_CRC_AT]:
        raise FrameRefused("a field that the frame does not use is not zero")
    values = kind.layout.unpack_from(raw, _HEAD.size)
    if kind.struct is Abort:
        values = (*values[:-1], _text_of(values[-1]))
    frame: Frame = kind.struct(*values)
    if (wrong := kind.check(frame)) is not None:
        raise FrameRefused(f"{kind.struct.__name__}: {wrong}")
    return frame


def offer_of(head: bytearray) -> Offer:
    """What ``decode`` makes of it, of the head of an offer that somebody has looked through already."""
    return Offer(*_BY_STRUCT[Offer].layout.unpack_from(head, _HEAD.size))


def identity(transfer: bytes, generation: int) -> bytes:
    """What the heads of a transfer's frames have in common, as they hold it."""
    return transfer + generation.to_bytes(4, "little")


def identity_of(offer: Offer) -> bytes:
    """That of the transfer that is offered."""
    return identity(offer.transfer, offer.generation)


def _text_of(field: bytes) -> str:
    raw = field.rstrip(b"\0")
    if b"\0" in raw:
        raise FrameRefused("the text goes on after its end")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise FrameRefused("the text is not UTF-8") from None


def abort(fault: HoseFault | AbortCode, text: str = "", transfer: bytes = NO_ID) -> Abort:
    """The ABORT for a fault (or for a code and a text), its text cut to what a frame holds, at a character's end."""
    code, said = (fault.code, fault.message) if isinstance(fault, HoseFault) else (fault, text)
    clean = said.replace("\0", " ").encode("utf-8", "replace")[:TEXT_BYTES]
    return Abort(transfer, code, clean.decode("utf-8", "ignore"))
