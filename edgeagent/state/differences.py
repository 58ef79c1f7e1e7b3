"""After a partition: two nodes find out which keys that both have differ, and offer these to each other.

Sums of groups first, lists of the groups that differ then, values last. What only one of them holds stays there: who
gets a copy is not decided here. With a key go its siblings, what its node wrote in the same transaction, so that no
replica shows half of a group. Both directions are offered, and merging decides. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from edgeagent.state.desk import Desk
from edgeagent.state.effects import ListGroup, Summarize
from edgeagent.state.hlc import Version
from edgeagent.state.messages import Differs, Digest, Listing, Name, Wanted
from edgeagent.state.wire import ITEMS_MAX, SUMS_MAX

__all__ = ["EVERY_S", "Differences"]

EVERY_S = 60.0
_COMPARED_MAX = 1 << 16

_Push = Callable[[str, dict[str, Version]], None]


class Differences:
    """``push(peer, versions)``: send these there."""

    def __init__(self, desk: Desk, push: _Push) -> None:
        self._desk = desk
        self._push = push
        self._due_s: dict[str, float] = {}
        self._busy: set[str] = set()
        self._compared: OrderedDict[tuple[str, bytes], tuple[bytes, bytes]] = OrderedDict()

    def met(self, peer: str) -> None:
        """A contact begins."""
        self._due_s[peer] = self._desk.now_s

    def tick(self) -> None:
        """Begin with who is due; of two nodes, the one whose name comes first begins."""
        now_s = self._desk.now_s
        for peer, view in self._desk.view.peers.items():
            due_s = self._due_s.setdefault(peer, now_s)
            if view.reachable and due_s <= now_s and self._desk.node < peer and peer not in self._busy:
                self._due_s[peer] = now_s + EVERY_S
                self._busy.add(peer)
                self._desk.emit(Summarize(self._desk.token(partial(self._begin, peer))))
        for peer in set(self._due_s) - set(self._desk.view.peers):
            del self._due_s[peer]

    def _begin(self, peer: str, sums: Mapping[bytes, bytes] | None) -> None:
        own = dict(sums or {})
        self._page(peer, own, sorted(own.items()))

    def _page(self, peer: str, sums: dict[bytes, bytes], rows: list[tuple[bytes, bytes]]) -> None:
        if not rows:
            self._busy.discard(peer)
            return
        page, rest = rows[:SUMS_MAX], rows[SUMS_MAX:]

        def answered(differs: Differs | None) -> None:
            if differs is None:
                self._busy.discard(peer)
                return
            asked = dict(page)
            found = [
                (group, theirs)
                for group, theirs in differs.sums
                if group in asked and self._compared.get((peer, group)) != (asked[group], theirs)
            ]
            self._groups(peer, sums, found, rest)

        self._desk.ask(peer, Digest(self._desk.number(), tuple(page)), Differs, answered)

    def _groups(
        self,
        peer: str,
        sums: dict[bytes, bytes],
        found: list[tuple[bytes, bytes]],
        rest: list[tuple[bytes, bytes]],
    ) -> None:
        if not found:
            self._page(peer, sums, rest)
            return
        (group, theirs), left = found[0], found[1:]

        def listed(names: Sequence[Name] | None) -> None:
            self._list(peer, group, list(names or ()), lambda is_equal: over(is_equal=is_equal))

        def over(*, is_equal: bool | None) -> None:
            if is_equal is None:
                self._busy.discard(peer)
                return
            if is_equal:
                self._compared[peer, group] = (sums[group], theirs)
                if len(self._compared) > _COMPARED_MAX:
                    self._compared.popitem(last=False)
            self._groups(peer, sums, left, rest)

        self._desk.emit(ListGroup(self._desk.token(listed), group))

    def _list(
        self,
        peer: str,
        group: bytes,
        names: list[Name],
        over: Callable[[bool | None], None],
        *,
        equal: bool = True,
    ) -> None:
        page, rest = names[:ITEMS_MAX], names[ITEMS_MAX:]
        if not page:
            over(equal)
            return

        def answered(wanted: Wanted | None) -> None:
            if wanted is None:
                over(None)
                return
            held = dict(page)
            versions = {key: held[key] for key in wanted.keys if key in held}
            if versions:
                self._push(peer, _with_siblings(versions, page))
            self._list(peer, group, rest, over, equal=equal and not wanted.keys and not wanted.coming)

        self._desk.ask(peer, Listing(self._desk.number(), group, tuple(page)), Wanted, answered)

    def digest(self, peer: str, digest: Digest) -> None:
        """Somebody compares sums."""

        def summed(sums: Mapping[bytes, bytes] | None) -> None:
            own = sums or {}
            differs = [
                (group, own[group]) for group, theirs in digest.sums if own.get(group, theirs) != theirs
            ]
            self._desk.reply(peer, Differs(digest.ask, tuple(differs)))

        self._desk.emit(Summarize(self._desk.token(summed)))

    def listing(self, peer: str, listing: Listing) -> None:
        """Somebody compares a group."""

        def listed(names: Sequence[Name] | None) -> None:
            own, theirs = dict(names or ()), dict(listing.names)
            differ = [key for key, version in theirs.items() if own.get(key, version) != version]
            versions = {key: own[key] for key in differ}
            if versions:
                self._push(peer, _with_siblings(versions, own.items()))
            self._desk.reply(peer, Wanted(listing.ask, tuple(differ), len(versions)))

        self._desk.emit(ListGroup(self._desk.token(listed), listing.group))


def _with_siblings(versions: Mapping[str, Version], names: Iterable[Name]) -> dict[str, Version]:
    moments = {(version.node, version.wall_ms) for version in versions.values()}
    found = dict(versions)
    for key, version in names:
        if (version.node, version.wall_ms) in moments and len(found) < ITEMS_MAX:
            found[key] = version
    return found
