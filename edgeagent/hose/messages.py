"""The messages of a hose socket as values: what docs/hose-socket.md says, without a socket.

Every message is 128 bytes, little-endian, with the same layout; a field that its type does not use is zero and every
other value there is refused, so that decoding and encoding again gives the same bytes. ``native/client/wire.c`` is
the same codec in C.
"""

from __future__ import annotations

import re
import struct
from enum import IntEnum
from typing import NamedTuple

import msgspec

__all__ = [
    "MESSAGE_BYTES",
    "VERSION",
    "BadMessage",
    "Bye",
    "Credit",
    "Hello",
    "Message",
    "Publish",
    "Refusal",
    "Refused",
    "Role",
    "Welcome",
    "check_hose_name",
    "decode",
    "encode",
    "refused",
]

MAGIC = 0x534F4845  # "EHOS" in the order of the bytes
VERSION = 1
TEXT_BYTES = 80
_LAYOUT = struct.Struct(f"<IHHQQQQII{TEXT_BYTES}s")
MESSAGE_BYTES = _LAYOUT.size

_HOSE_NAME = re.compile(r"[a-z0-9._-]{1,63}")


class Role(IntEnum):
    """Which way a peer's frames go, seen from the peer."""

    PRODUCER = 1
    CONSUMER = 2


class Refusal(IntEnum):
    """Why a session was ended; the numbers are part of the protocol."""

    PROTOCOL = 1  # malformed, or out of turn
    VERSION = 2
    FOREIGN = 3  # the peer's user may not attach
    BUSY = 4  # a bound of the node is reached
    UNKNOWN_HOSE = 5
    DESCRIPTOR = 6  # not exactly one descriptor, or not of a memfd
    NOT_SEALED = 7
    TOO_SMALL = 8  # the memfd ends before the frame does
    TOO_LARGE = 9
    CREDITS = 10  # more frames than credits
    STALE = 11  # a generation or sequence number that is not of this session
    SPARSE = 12  # a memfd with holes: to read it would take memory that its owner did not pay for


class BadMessage(ValueError):
    """Bytes that are no message; ``code`` says what the peer is told."""

    def __init__(self, code: Refusal, text: str) -> None:
        super().__init__(text)
        self.code = code


class Hello(msgspec.Struct, frozen=True):
    """First message of a peer; ``credits`` is how many frames it wants outstanding at once, 0 for the node's choice."""

    role: Role
    name: str
    credits: int = 0


class Welcome(msgspec.Struct, frozen=True):
    """The node's answer: the credits granted, and the generation that all later messages carry."""

    credits: int
    generation: int


class Publish(msgspec.Struct, frozen=True):
    """A frame: ``bytes`` bytes from ``offset`` of the sealed memfd that travels with the message."""

    seq: int
    generation: int
    offset: int
    bytes: int


class Credit(msgspec.Struct, frozen=True):
    """The receiver has done with frame ``seq``."""

    seq: int
    generation: int


class Refused(msgspec.Struct, frozen=True):
    """The session is over, and why; ``code`` is a Refusal (others may come with later versions)."""

    code: int
    text: str


class Bye(msgspec.Struct, frozen=True):
    """The sender leaves; what it has sent still counts."""


Message = Hello | Welcome | Publish | Credit | Refused | Bye


class _Fields(NamedTuple):
    # As they lie in the message, after magic, version and type.
    seq: int = 0
    generation: int = 0
    offset: int = 0
    size: int = 0
    code: int = 0
    credits: int = 0
    text: bytes = b""


def check_hose_name(name: str) -> str:
    """Return ``name`` if it may name a hose (1 to 63 of a-z, 0-9, dot, underscore, minus); raise BadMessage if not."""
    if not _HOSE_NAME.fullmatch(name):
        raise BadMessage(Refusal.PROTOCOL, f"{name[:20]!a} is not the name of a hose")
    return name


def refused(code: Refusal, text: str) -> Refused:
    """A refusal with the text cut to what a message holds, at a character's end."""
    clean = text.replace("\0", " ").encode("utf-8", "replace")[:TEXT_BYTES]
    return Refused(code, clean.decode("utf-8", "ignore"))


def encode(message: Message) -> bytes:
    """The message's 128 bytes. Raises ValueError where a value does not fit, which is the caller's mistake."""
    kind, fields = _fields_of(message)
    if len(fields.text) > TEXT_BYTES:
        raise ValueError(f"the text is longer than {TEXT_BYTES} bytes")
    try:
        return _LAYOUT.pack(MAGIC, VERSION, kind, *fields)
    except struct.error as error:
        raise ValueError(f"a value of {message!r} does not fit: {error}") from None


def _fields_of(message: Message) -> tuple[int, _Fields]:
    match message:
        case Hello(role, name, wanted):
            return 1, _Fields(code=role, credits=wanted, text=check_hose_name(name).encode())
        case Welcome(granted, generation):
            return 2, _Fields(credits=granted, generation=generation)
        case Publish(seq, generation, offset, size):
            return 3, _Fields(seq=seq, generation=generation, offset=offset, size=size)
        case Credit(seq, generation):
            return 4, _Fields(seq=seq, generation=generation)
        case Refused(code, text):
            return 5, _Fields(code=code, text=_text_bytes(text))
        case Bye():
            return 6, _Fields()


def _text_bytes(text: str) -> bytes:
    if "\0" in text:
        raise ValueError("the text holds a zero byte")
    return text.encode()


def decode(data: bytes) -> Message:
    """The message that ``data`` is; raises BadMessage for anything that ``encode`` would not have made."""
    if len(data) != MESSAGE_BYTES:
        raise BadMessage(Refusal.PROTOCOL, f"a message has {MESSAGE_BYTES} bytes, not {len(data)}")
    magic, version, kind, *rest = _LAYOUT.unpack(data)
    if magic != MAGIC:
        raise BadMessage(Refusal.PROTOCOL, "not a message of a hose socket")
    if version != VERSION:
        raise BadMessage(Refusal.VERSION, f"version {version} is not spoken here, only {VERSION}")
    fields = _Fields(*rest)
    message = _message_of(kind, fields, _text_of(fields.text))
    # The rule on unused fields, in one place for all types.
    if encode(message) != data:
        raise BadMessage(Refusal.PROTOCOL, "a field that the message does not use is not zero")
    return message


def _text_of(field: bytes) -> str:
    try:
        text = field.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        raise BadMessage(Refusal.PROTOCOL, "the text is not UTF-8") from None
    if "\0" in text:
        raise BadMessage(Refusal.PROTOCOL, "the text goes on after its end")
    return text


def _message_of(kind: int, fields: _Fields, text: str) -> Message:
    match kind:
        case 1:
            return Hello(_role(fields.code), check_hose_name(text), fields.credits)
        case 2:
            return Welcome(fields.credits, fields.generation)
        case 3:
            return Publish(fields.seq, fields.generation, fields.offset, fields.size)
        case 4:
            return Credit(fields.seq, fields.generation)
        case 5:
            return Refused(fields.code, text)
        case 6:
            return Bye()
    raise BadMessage(Refusal.PROTOCOL, f"there is no message of type {kind}")


def _role(code: int) -> Role:
    try:
        return Role(code)
    except ValueError:
        raise BadMessage(Refusal.PROTOCOL, f"there is no role {code}") from None
