"""Session guarantees: a token that travels with an invocation and says what its caller has read and written.

Read your writes and monotonic reads (Terry et al., Session Guarantees for Weakly Consistent Replicated Data, PDIS
1994): whoever shows the token is answered with these versions or later ones, or told that the node is behind.

The token holds at most ``KEYS_MAX`` keys by 8-byte digests, those that were seen last: the guarantee is theirs. Pure.
"""

from __future__ import annotations

import base64

import msgspec

from edgeagent.model.decoding import UNDECODABLE
from edgeagent.state.errors import BadKey
from edgeagent.state.hlc import NONE, Counter, Node, Version, Wall
from edgeagent.state.keys import digest_of

__all__ = ["KEYS_MAX", "TOKEN_BYTES_MAX", "Session", "joined_sessions", "read_session"]

KEYS_MAX = 64
TOKEN_BYTES_MAX = 7 << 10  # fits a header


class Session:
    """Mutable; of one caller."""

    __slots__ = ("_seen",)

    def __init__(self, seen: dict[bytes, Version] | None = None) -> None:
        self._seen: dict[bytes, Version] = dict(seen or {})

    def saw(self, key: str, version: Version) -> None:
        """Read or written; only higher versions count. Where there are too many keys, the first seen is forgotten."""
        name = digest_of(key)
        before = self._seen.pop(name, NONE)
        self._seen[name] = max(version, before)
        if len(self._seen) > KEYS_MAX:
            self._bound()

    def _bound(self) -> None:
        while len(self._seen) > KEYS_MAX:
            del self._seen[next(iter(self._seen))]

    def least(self, key: str) -> Version:
        """The version that the caller must at least be shown."""
        return self._seen.get(digest_of(key), NONE) if self._seen else NONE

    def join(self, other: Session) -> None:
        """What another caller has seen counts too: steps that come together."""
        for name, version in other._seen.items():
            self._seen[name] = max(self._seen.pop(name, NONE), version)
        self._bound()

    def text(self) -> str:
        """The token, "" for an empty one."""
        if not self._seen:
            return ""
        raw = msgspec.msgpack.encode([(name, *version) for name, version in self._seen.items()])
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def read_session(text: str) -> Session:
    """Raises BadKey for what ``text`` would not write."""
    if not text:
        return Session()
    try:
        if len(text) > TOKEN_BYTES_MAX:
            raise ValueError("it is too long")
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        rows = msgspec.msgpack.decode(raw, type=list[tuple[bytes, Wall, Counter, Node]])
    except (*UNDECODABLE, ValueError):
        raise BadKey("the session token cannot be read", hint="as Edgeagent-Session said it") from None
    return Session(
        {name: Version(wall_ms, counter, node) for name, wall_ms, counter, node in rows[:KEYS_MAX]}
    )


def joined_sessions(mine: str, theirs: str) -> str:
    """One token for what both have seen. What cannot be read is left out: they may come from elsewhere."""
    session = Session()
    for text in (mine, theirs):
        try:
            session.join(read_session(text))
        except BadKey:
            continue
    return session.text()
