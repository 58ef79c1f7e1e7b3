"""Which members there are and which groups of keys each says that it holds."""

from __future__ import annotations

import functools
from typing import TypeVar

import msgspec

from edgeagent.gossip.records import Capabilities, Digests, Record, Section
from edgeagent.gossip.states import State
from edgeagent.mesh.service import MeshService
from edgeagent.model.decoding import UNDECODABLE

__all__ = ["Neighbour", "neighbours"]

_T = TypeVar("_T")
_digests = msgspec.msgpack.Decoder(Digests)
_capabilities = msgspec.msgpack.Decoder(Capabilities)
_KIND = "kind:"
_KEPT = 32_768


class Neighbour(msgspec.Struct, frozen=True):
    """``is_reachable``: alive and with an address for HTTP; ``is_occluded``: expected back. ``more``: it holds more
    groups than ``groups`` (8-byte digests) says.
    """

    id: str
    kind: str
    is_reachable: bool
    is_occluded: bool
    groups: frozenset[bytes]
    more: bool


def neighbours(service: MeshService) -> list[Neighbour]:
    """All members but this node, those that have left or are dead apart."""
    core, found = service.core, []
    for name, state in core.states().items():
        member = core.member(name)
        if member is None or name == service.name or state in {State.DEAD, State.LEFT}:
            continue
        record = member.records[Section.IDENTITY]
        identity = None if record is None else record.identity
        groups, more = _groups_of(_payload(member.records[Section.STATE]))
        kind = _kind_of(_payload(member.records[Section.CAPABILITIES]))
        found.append(
            Neighbour(
                id=name,
                kind=kind or ("" if identity is None else identity.kind),
                is_reachable=state in {State.ALIVE, State.SUSPECT}
                and identity is not None
                and len(identity.endpoints) > 1,
                is_occluded=state is State.OCCLUDED,
                groups=groups,
                more=more,
            )
        )
    return found


def _payload(record: Record | None) -> bytes:
    return b"" if record is None else record.payload


# What is asked several times a second of thousands of members changes seldom.
@functools.lru_cache(_KEPT)
def _groups_of(payload: bytes) -> tuple[frozenset[bytes], bool]:
    held = _read(_digests, payload)
    return (frozenset(), False) if held is None else (frozenset(held.digests), held.more)


@functools.lru_cache(_KEPT)
def _kind_of(payload: bytes) -> str:
    can = _read(_capabilities, payload)
    labels = () if can is None else can.labels
    return next((one[len(_KIND) :] for one in labels if one.startswith(_KIND)), "")


def _read(decoder: msgspec.msgpack.Decoder[_T], payload: bytes) -> _T | None:
    try:
        return decoder.decode(payload)
    except UNDECODABLE:
        return None  # nothing, or a later version's: as if it had said nothing
