"""After a partition: two nodes find out which keys that both have differ, and offer these to each other.

Sums of groups first, lists of the groups that differ then, values last. What only one of them holds stays there: who
gets a copy is not decided here. Both directions are offered, and merging decides. Pure.

1. They compare when a contact begins and every EVERY_S. Of two nodes the one whose name comes first begins; the other
   one begins itself where it has met somebody who does not: that one may have noticed nothing of the cut.
2. A node has *settled* with another one when they have compared since they met, and what differed has come. Until then
   it may lack what the other one, or who that has met, was told.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import msgspec

from edgeagent.state.desk import Desk
from edgeagent.state.effects import ListGroup, Summarize
from edgeagent.state.hlc import Version
from edgeagent.state.messages import Differs, Digest, Listing, Name, Others
from edgeagent.state.wire import ITEMS_MAX, SUMS_MAX

__all__ = ["EVERY_S", "Differences"]

EVERY_S = 60.0
_FAILED_S = 10.0
_QUIET_S = 2.0  # then whoever was comparing has ended, or will not begin
_COMPARED_MAX = 1 << 16

_Move = Callable[[str, dict[str, Version]], None]


class _Round(msgspec.Struct):
    # With one peer.
    peer: str
    sums: dict[bytes, bytes]
    rows: list[tuple[bytes, bytes]]
    groups: list[tuple[bytes, bytes]] = []


class Differences:
    """``push(peer, versions)``: send these there; ``pull(peer, versions)``: let it send them here."""

    def __init__(self, desk: Desk, push: _Move, pull: _Move) -> None:
        self._desk = desk
        self._push = push
        self._pull = pull
        self._due_s: dict[str, float] = {}
        self._busy: set[str] = set()
        self._met_s: dict[str, float] = {}
        self._asked_s: dict[str, float] = {}  # when the other one last asked, since they met
        self._ended: set[str] = set()
        self._coming: dict[str, set[str]] = {}
        self._settled: set[str] = set()
        self._compared: OrderedDict[tuple[str, bytes], tuple[bytes, bytes]] = OrderedDict()

    def met(self, peer: str) -> None:
        """A contact begins."""
        self.lost(peer)
        self._due_s[peer] = self._met_s[peer] = self._desk.now_s

    def lost(self, peer: str) -> None:
        """It is not in contact."""
        for known in (self._met_s, self._asked_s, self._coming):
            known.pop(peer, None)
        self._ended.discard(peer)
        self._settled.discard(peer)

    def failed(self, peer: str) -> None:
        """Something did not reach it, though it is in contact: they compare soon."""
        now_s = self._desk.now_s
        self._due_s[peer] = min(self._due_s.get(peer, now_s + EVERY_S), now_s + _FAILED_S)
        self._met_s.setdefault(peer, now_s)

    def unsettled(self, peers: Iterable[str]) -> list[str]:
        """Those that this node has not settled with."""
        return [peer for peer in peers if peer not in self._settled]

    def taken(self, keys: Iterable[str]) -> None:
        """They have come, from whomever."""
        for peer in [one for one, coming in self._coming.items() if coming]:
            self._coming[peer].difference_update(keys)
            self._settle(peer)

    def _settle(self, peer: str) -> None:
        if peer in self._ended and not self._coming.get(peer):
            self._settled.add(peer)

    def tick(self) -> None:
        """Begin with who is due."""
        now_s = self._desk.now_s
        for peer, view in self._desk.view.peers.items():
            due_s = self._due_s.setdefault(peer, now_s)
            if peer in self._asked_s and self._asked_s[peer] + _QUIET_S <= now_s:
                del self._asked_s[peer]
                self._end(peer)
            if view.reachable and due_s <= now_s and peer not in self._busy and self._begins(peer):
                self._due_s[peer] = now_s + EVERY_S
                self._busy.add(peer)
                self._coming.pop(peer, None)
                self._desk.emit(Summarize(self._desk.token(partial(self._begin, peer))))
        for peer in set(self._due_s) - set(self._desk.view.peers):
            del self._due_s[peer]
            self.lost(peer)

    def _begins(self, peer: str) -> bool:
        if self._desk.node < peer:
            return True
        met_s = self._met_s.get(peer)
        return met_s is not None and met_s + _QUIET_S <= self._desk.now_s

    def _end(self, peer: str) -> None:
        self._met_s.pop(peer, None)
        self._ended.add(peer)
        self._settle(peer)

    def _begin(self, peer: str, sums: Mapping[bytes, bytes] | None) -> None:
        turn = _Round(peer, dict(sums or {}), sorted((sums or {}).items()))
        if sums is None:
            self._over(turn)
            return
        self._page(turn)

    def _page(self, turn: _Round) -> None:
        if not turn.rows:
            self._over(turn)
            self._end(turn.peer)
            return
        page, turn.rows = turn.rows[:SUMS_MAX], turn.rows[SUMS_MAX:]

        def answered(differs: Differs | None) -> None:
            if differs is None:
                self._over(turn)
                return
            asked = dict(page)
            turn.groups = [
                (group, theirs)
                for group, theirs in differs.sums
                if group in asked and self._compared.get((turn.peer, group)) != (asked[group], theirs)
            ]
            self._next(turn)

        self._desk.ask(turn.peer, Digest(self._desk.number(), tuple(page)), Differs, answered)

    def _over(self, turn: _Round) -> None:
        self._busy.discard(turn.peer)

    def _next(self, turn: _Round) -> None:
        if not turn.groups:
            self._page(turn)
            return
        (group, theirs), turn.groups = turn.groups[0], turn.groups[1:]

        def done() -> None:
            self._compared[turn.peer, group] = (turn.sums[group], theirs)
            if len(self._compared) > _COMPARED_MAX:
                self._compared.popitem(last=False)
            self._next(turn)

        def listed(names: Sequence[Name] | None) -> None:
            self._list(turn, group, list(names or ()), done)

        self._desk.emit(ListGroup(self._desk.token(listed), group))

    def _list(self, turn: _Round, group: bytes, names: list[Name], done: Callable[[], None]) -> None:
        page, rest = names[:ITEMS_MAX], names[ITEMS_MAX:]

        def answered(others: Others | None) -> None:
            if others is None:
                self._over(turn)
                return
            ours, theirs = dict(page), dict(others.names)
            if differ := ours.keys() & theirs.keys():
                self._push(turn.peer, {key: ours[key] for key in sorted(differ)})
                self._coming.setdefault(turn.peer, set()).update(
                    key for key in differ if theirs[key] > ours[key]
                )
                self._pull(turn.peer, {key: theirs[key] for key in sorted(differ)})
            if rest:
                self._list(turn, group, rest, done)
            elif differ:
                self._next(turn)
            else:
                done()

        self._desk.ask(turn.peer, Listing(self._desk.number(), group, tuple(page)), Others, answered)

    def digest(self, peer: str, digest: Digest) -> None:
        """Somebody compares sums."""
        self._asks(peer)

        def summed(sums: Mapping[bytes, bytes] | None) -> None:
            own = sums or {}
            differs = [
                (group, own[group]) for group, theirs in digest.sums if own.get(group, theirs) != theirs
            ]
            self._desk.reply(peer, Differs(digest.ask, tuple(differs)))

        self._desk.emit(Summarize(self._desk.token(summed)))

    def listing(self, peer: str, listing: Listing) -> None:
        """Somebody compares a group."""
        self._asks(peer)

        def listed(names: Sequence[Name] | None) -> None:
            theirs = dict(listing.names)
            own = dict(names or ())
            coming = {key for key, version in listing.names if key in own and own[key] < version}
            if coming:  # they are offered as well
                self._coming.setdefault(peer, set()).update(coming)
            others = [(key, version) for key, version in names or () if theirs.get(key, version) != version]
            self._desk.reply(peer, Others(listing.ask, tuple(others[:ITEMS_MAX])))

        self._desk.emit(ListGroup(self._desk.token(listed), listing.group))

    def _asks(self, peer: str) -> None:
        self._asked_s[peer] = self._desk.now_s
        self._met_s.pop(peer, None)
