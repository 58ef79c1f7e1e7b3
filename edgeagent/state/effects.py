"""What the replicator asks of the shell that drives it, and what the shell tells it about the network.

Effects are carried out in their order; what follows a ``Persist`` waits until that is durable. Those with a ``token``
are answered through the method that each names; an answer may come at any time later, or, after a crash, never. Pure.
"""

from __future__ import annotations

import msgspec

from edgeagent.state.entry import Durability, Entry
from edgeagent.state.hlc import Version
from edgeagent.state.messages import Message, Name

__all__ = [
    "Arrived",
    "Commit",
    "Effect",
    "ListGroup",
    "Load",
    "Look",
    "MayDrop",
    "NetworkView",
    "PeerView",
    "Persist",
    "ReadPieces",
    "Send",
    "Settled",
    "StoreChunks",
    "Summarize",
]


class PeerView(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a node. ``rate_bit_s``, ``rtt_s``: of the way to it, 0 = unknown. ``until_utc_ms``: when this
    contact ends, 0 = no end is known. ``marked``: a copy is wanted there if anywhere (the next function's node).
    """

    reachable: bool = True
    is_ground: bool = False
    rate_bit_s: float = 0.0
    rtt_s: float = 0.0
    until_utc_ms: int = 0
    marked: bool = False


class NetworkView(msgspec.Struct, frozen=True):
    """All members but this node, by name."""

    peers: dict[str, PeerView] = {}


class Send(msgspec.Struct, frozen=True):
    """A request, answered by ``message(peer, reply)`` or ``failed(peer, request, why)``; or the reply to one. ``level``
    is for :func:`wire.encode`.
    """

    peer: str
    message: Message
    level: int = 0


class Load(msgspec.Struct, frozen=True):
    """``loaded(token, entries)``: as they are held, of one read transaction, inline values and tombstones included;
    keys that are not held are left out. With each comes, in the same transaction, whatever has a version of the same
    node and ``wall_ms``: what was written together travels together, so that no replica shows half of it.
    ``loaded(token, None)`` on failure, also where an inline value is damaged.
    """

    token: int
    keys: tuple[str, ...]


class Look(msgspec.Struct, frozen=True):
    """``looked(token, entries, missing)``: as Load (values may be left out), and which of the chunks are not here."""

    token: int
    keys: tuple[str, ...]
    chunks: tuple[bytes, ...]


class ReadPieces(msgspec.Struct, frozen=True):
    """``read(token, pieces)`` in this order, None for all if one is not there or damaged. A piece is (sha256, key):
    a chunk where the key is "", else the inline value of the key, if it still has that hash.
    """

    token: int
    pieces: tuple[tuple[bytes, str], ...]


class StoreChunks(msgspec.Struct, frozen=True):
    """``stored(token, refused)`` when all are durable, each with the hash that it is named with."""

    token: int
    pieces: tuple[tuple[bytes, bytes], ...]


class Commit(msgspec.Struct, frozen=True):
    """Another node's entries, all or nothing; ``committed(token, merged, refused)`` when they are durable: what holds
    now for each key (values may be left out).
    """

    token: int
    entries: tuple[Entry, ...]
    custody: bool


class Summarize(msgspec.Struct, frozen=True):
    """``summed(token, sums)``: for each group here ``digest_of`` it and 8 bytes that stand for its (key, version)s."""

    token: int


class ListGroup(msgspec.Struct, frozen=True):
    """``listed(token, names)``: every (key, version) of a group, tombstones included, in order of keys."""

    token: int
    group: bytes


class Settled(msgspec.Struct, frozen=True):
    """A write is on disk there; whoever waits for it or for an earlier version of the key may be told."""

    key: str
    version: Version
    durability: Durability


class Arrived(msgspec.Struct, frozen=True):
    """What was pushed is durable at the node (these versions, or later ones)."""

    peer: str
    names: tuple[Name, ...]


class MayDrop(msgspec.Struct, frozen=True):
    """Enough others hold these and have said that they answer for them: ``KeyStore.drop``, then ``dropped(token)``."""

    token: int
    names: tuple[Name, ...]


class Persist(msgspec.Struct, frozen=True):
    """``KeyStore.put_notes(space, notes)``; None: delete."""

    space: str
    notes: dict[str, bytes | None]


Effect = (
    Send | Load | Look | ReadPieces | StoreChunks | Commit | Summarize | ListGroup
    | Settled | Arrived | MayDrop | Persist
)  # fmt: skip
