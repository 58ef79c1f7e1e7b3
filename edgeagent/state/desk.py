"""What the parts of the replicator share: time, network, effects to come, and who waits for which answer. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from edgeagent.state.effects import Effect, NetworkView, Send
from edgeagent.state.messages import Message, Request
from edgeagent.state.packing import level_for
from edgeagent.state.targets import ranked

__all__ = ["Desk", "bits_of", "has_bit"]

_RANKINGS_MAX = 256


class _Asked(msgspec.Struct):
    peer: str
    kind: type
    answered: Callable[[Any], None]


class Desk:
    """``life``: of 39 random bits, another one at each start of the node, so that no reply to an earlier life counts.
    ``counts``: what happened, by name, for metrics.
    """

    def __init__(self, node: str, *, life: int, is_ground: bool, copies: int) -> None:
        self.node = node
        self.is_ground = is_ground
        self.copies = copies
        self.now_s = 0.0
        self.utc_ms = 0
        self.high_ms = 0  # the latest version that was written or taken here
        self.free_bytes = 0  # for what other nodes hand over
        self.view = NetworkView()
        self.counts: Counter[str] = Counter()
        self._effects: list[Effect] = []
        self._rankings: dict[str, list[str]] = {}
        self._ranked: frozenset[str] = frozenset()
        self._numbers = (life & ((1 << 39) - 1)) << 24
        self._tokens: dict[int, Callable[..., None]] = {}
        self._asked: dict[int, _Asked] = {}

    def ranking(self, group: str) -> list[str]:
        """All members, first the one that is to hold the group."""
        names = self.view.peers.keys()
        if self._ranked != names:
            self._ranked = frozenset(names)
            self._rankings.clear()
        found = self._rankings.get(group)
        if found is None:
            if len(self._rankings) >= _RANKINGS_MAX:
                self._rankings.clear()
            found = self._rankings[group] = ranked(group, names)
        return found

    def number(self) -> int:
        """Unlike every other one, of this and of earlier lives."""
        self._numbers += 1
        return self._numbers

    def emit(self, effect: Effect) -> None:
        self._effects.append(effect)

    def take(self) -> list[Effect]:
        """The effects since the last time."""
        effects, self._effects = self._effects, []
        return effects

    def token(self, then: Callable[..., None]) -> int:
        """Name an answer of the shell."""
        number = self.number()
        self._tokens[number] = then
        return number

    def answer(self, token: int, *arguments: Any) -> None:
        """The shell answers; once."""
        then = self._tokens.pop(token, None)
        if then is not None:
            then(*arguments)

    def ask(self, peer: str, request: Request, reply: type, answered: Callable[[Any], None]) -> None:
        """Send a request. ``answered`` gets the reply, or None where none will come."""
        self._asked[request.ask] = _Asked(peer, reply, answered)
        self.emit(Send(peer, request, self.level(peer)))

    def reply(self, peer: str, message: Message) -> None:
        self.emit(Send(peer, message))

    def level(self, peer: str) -> int:
        known = self.view.peers.get(peer)
        return level_for(known.rate_bit_s if known else 0.0)

    def replied(self, peer: str, message: Message) -> None:
        """Somebody says that this is the reply to a request of ours."""
        asked = self._asked.get(message.ask)
        if asked is None or asked.peer != peer or not isinstance(message, asked.kind):
            self.counts["replies_unasked"] += 1  # late, twice, replayed or forged
            return
        del self._asked[message.ask]
        asked.answered(message)

    def failed(self, ask: int) -> str:
        """No reply will come; from whom, "" where nobody waits for it."""
        asked = self._asked.pop(ask, None)
        if asked is None:
            return ""
        self.counts["requests_failed"] += 1
        asked.answered(None)
        return asked.peer


def bits_of(flags: list[bool]) -> bytes:
    """The lowest bit of the first byte for the first flag."""
    made = bytearray(-(-len(flags) // 8))
    for place, flag in enumerate(flags):
        if flag:
            made[place >> 3] |= 1 << (place & 7)
    return bytes(made)


def has_bit(bits: bytes, place: int) -> bool:
    return place >> 3 < len(bits) and bool(bits[place >> 3] >> (place & 7) & 1)
