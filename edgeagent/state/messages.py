"""What nodes say to each other about state: requests, and the one reply that each has.

    Offer -> Have            what there is; which pieces of it are missing
    Chunks -> Ack            pieces; which of them are durable now: a checkpoint
    CommitRequest -> Custody all at once, after the whole-value hash; or why not
    Release -> Released      the asker would forget its copy; what the other one holds, and answers for from now on
    Digest -> Differs        sums of groups, after a partition; which differ
    Listing -> Others        (key, version) of one group; what the other one holds instead
    Want -> Coming           these are to be offered to the asker; whether they will be

``ask`` is unlike every other of the asker's, over restarts too; the reply repeats it. A refusal is an answer: a reply
with ``refused``. Pieces of an offer are counted in its entries' order: a chunk each of a value in chunks, one for a
small value that the offer has left out (``inline`` None). Pure.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from edgeagent.state.entry import Entry
from edgeagent.state.hlc import Version
from edgeagent.state.keys import CHUNK_BYTES

__all__ = [
    "REQUESTS",
    "Ack",
    "Chunks",
    "Coming",
    "CommitRequest",
    "Custody",
    "Differs",
    "Digest",
    "Have",
    "Listing",
    "Message",
    "Name",
    "Offer",
    "Others",
    "Part",
    "Piece",
    "Refusal",
    "Release",
    "Released",
    "Request",
    "Want",
    "pieces_of",
    "seal_of",
]

Name = tuple[str, Version]  # a key, and which version of it


class Refusal(enum.StrEnum):
    """Why not. ``NONE`` is no refusal."""

    NONE = ""
    QUOTA = "quota"  # no room for it here: elsewhere, or later
    CLOCK = "clock"  # a version from too far ahead
    EXPIRED = "expired"
    UNKNOWN = "unknown"  # no such offer (any more): offer again
    UNASKED = "unasked"  # pieces that nobody asked for
    DAMAGED = "damaged"  # bytes with another hash than they were announced with
    BUSY = "busy"  # too many transfers at once: later
    STORE = "store"  # the store failed
    INVALID = "invalid"  # a message that makes no sense
    REFUSED = "refused"  # a word of a later version of this code


class Piece(msgspec.Struct, frozen=True):
    """One piece that an offer names; not on the wire."""

    sha256: bytes
    size_bytes: int


class Part(msgspec.Struct, frozen=True):
    """One piece as it travels: its place among the offer's, and its bytes."""

    index: int
    data: bytes


class Offer(msgspec.Struct, frozen=True):
    """``custody``: whoever takes it answers for it from then on."""

    ask: int
    transfer: int
    entries: tuple[Entry, ...]
    custody: bool = False


class Have(msgspec.Struct, frozen=True):
    """``missing``: one bit for each piece of the offer, the lowest of the first byte for the first piece."""

    ask: int
    transfer: int
    missing: bytes = b""
    refused: Refusal = Refusal.NONE


class Chunks(msgspec.Struct, frozen=True):
    ask: int
    transfer: int
    parts: tuple[Part, ...]


class Ack(msgspec.Struct, frozen=True):
    """``durable``: the parts of this request that are on disk."""

    ask: int
    transfer: int
    durable: tuple[int, ...] = ()
    refused: Refusal = Refusal.NONE


class CommitRequest(msgspec.Struct, frozen=True):
    """``entries``: all of them with their values, where nothing was offered before; else (), and those of the offer."""

    ask: int
    transfer: int
    entries: tuple[Entry, ...] = ()
    custody: bool = False


class Custody(msgspec.Struct, frozen=True):
    """These entries, or later ones, are durable here. ``seal`` stands for what was asked (:func:`seal_of`)."""

    ask: int
    transfer: int
    seal: bytes = b""
    is_ground: bool = False
    refused: Refusal = Refusal.NONE


class Release(msgspec.Struct, frozen=True):
    """``copies``: how many there are to be; ``holders``: who else has them, as far as the asker knows."""

    ask: int
    names: tuple[Name, ...]
    copies: int = 2
    holders: tuple[str, ...] = ()


class Released(msgspec.Struct, frozen=True):
    """``held``: one bit for each name, as in Have."""

    ask: int
    held: bytes = b""
    is_ground: bool = False
    refused: Refusal = Refusal.NONE


class Digest(msgspec.Struct, frozen=True):
    """``sums``: 8 bytes for a group, 8 bytes for what is held of it. A page of them."""

    ask: int
    sums: tuple[tuple[bytes, bytes], ...]


class Differs(msgspec.Struct, frozen=True):
    """Those groups of the page of which something is held here, and something else."""

    ask: int
    sums: tuple[tuple[bytes, bytes], ...]


class Listing(msgspec.Struct, frozen=True):
    """What is held of one group; a page of it."""

    ask: int
    group: bytes
    names: tuple[Name, ...]


class Others(msgspec.Struct, frozen=True):
    """Those keys of the listing that are held here in another version, and in which."""

    ask: int
    names: tuple[Name, ...] = ()


class Want(msgspec.Struct, frozen=True):
    """Offer these to me, whatever I said that I hold."""

    ask: int
    keys: tuple[str, ...]


class Coming(msgspec.Struct, frozen=True):
    """``keys`` will be offered."""

    ask: int
    keys: tuple[str, ...] = ()


Request = Offer | Chunks | CommitRequest | Release | Digest | Listing | Want
REQUESTS = (Offer, Chunks, CommitRequest, Release, Digest, Listing, Want)
Message = Request | Have | Ack | Custody | Released | Differs | Others | Coming


def pieces_of(entries: Iterable[Entry]) -> list[Piece]:
    """The pieces of an offer of these entries, in order."""
    found: list[Piece] = []
    for entry in entries:
        if entry.chunks:
            left = entry.size_bytes
            for sha256 in entry.chunks:
                found.append(Piece(sha256, min(CHUNK_BYTES, left)))
                left -= CHUNK_BYTES
        elif entry.inline is None and not entry.deleted:
            found.append(Piece(entry.sha256, entry.size_bytes))
    return found


def seal_of(transfer: int, entries: Sequence[Entry]) -> bytes:
    """16 bytes that stand for one transfer of these very versions."""
    names = [(entry.key, *entry.version, entry.epoch) for entry in entries]
    return hashlib.sha256(msgspec.msgpack.encode((transfer, names))).digest()[:16]
