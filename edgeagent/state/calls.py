"""What callers ask of state and what they are told: the words of guests, HTTP, the CLI and other nodes. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edgeagent.state.entry import Durability, Mode
from edgeagent.state.keys import GROUP_ITEMS_MAX

__all__ = ["Aside", "Done", "Group", "GroupDone", "Listed", "Op", "Where"]

OpKind = Literal["get", "put", "delete"]


class Op(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One operation of a group; in JSON ``value`` is base64, ``text`` a value as UTF-8.

    ``mode``: of a key that is not there yet, None = what the configuration says of its prefix. ``expect``: the version
    that the caller would overwrite, "" = there must be none, None = whatever is there. ``known`` (get): a version that
    the caller has already; the value is left out where it is still that. ``ttl_ms``: 0 = for ever. ``takeover``: this
    node becomes the key's owner. ``owner``: between nodes, who asks to become it.
    """

    op: OpKind
    key: str
    value: bytes | None = None
    text: str | None = None
    mode: Mode | None = None
    epoch: int = 0
    expect: str | None = None
    known: str = ""
    ttl_ms: Annotated[int, msgspec.Meta(ge=0)] = 0
    takeover: bool = False
    owner: Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[0-9A-Za-z_.:-]*$")] = ""


class Done(msgspec.Struct, kw_only=True, frozen=True):
    """The answer to an Op. ``found``: there is a value (after a put: yes; after a delete: whether there was one)."""

    key: str
    found: bool
    version: str = ""
    mode: Mode | None = None
    size_bytes: int = 0
    durability: Durability = Durability.LOCAL
    unchanged: bool = False
    value: bytes | None = None


class Group(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """All or nothing: one frame, one transaction, one fsync. ``prefix``: get all keys below it as well.

    ``durability`` is what the caller waits for, ``deadline_ms`` how long. ``session`` is a causality token
    (:mod:`edgeagent.state.session`). ``here_only``: no other node is asked. ``decide``: between nodes,
    this one is the home of the keys, and its disk decides which of several writers is first.
    """

    ops: Annotated[list[Op], msgspec.Meta(max_length=GROUP_ITEMS_MAX)] = []
    prefix: str | None = None
    durability: Durability = Durability.LOCAL
    deadline_ms: Annotated[float, msgspec.Meta(ge=0)] = 0
    session: str = ""
    here_only: bool = False
    decide: bool = False


class GroupDone(msgspec.Struct, kw_only=True, frozen=True):
    """``durability`` is the least of all writes."""

    results: list[Done]
    durability: Durability = Durability.LOCAL
    session: str = ""


class Listed(msgspec.Struct, kw_only=True, frozen=True):
    """A key as a listing shows it."""

    key: str
    version: str
    mode: Mode
    size_bytes: int
    expires_ms: int = 0


class Where(msgspec.Struct, kw_only=True, frozen=True):
    """A node that holds a key: how fresh (``version``, ``age_ms`` since it was written), how durable."""

    node: str
    version: str
    age_ms: int
    is_ground: bool = False
    aside: int = 0  # values of the key that lost a conflict and are kept there


class Aside(msgspec.Struct, kw_only=True, frozen=True):
    """A value that was acknowledged and lost a conflict, as a node keeps it."""

    version: str
    mode: Mode
    size_bytes: int
    epoch: int = 0
    owner: str = ""
