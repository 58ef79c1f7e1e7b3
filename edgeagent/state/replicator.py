"""Who holds what, and who answers for it: every write of this node gets its copies elsewhere, and none is forgotten
before.

The replicator is told what happens and says what is to be done (:mod:`edgeagent.state.effects`): it has no clock, no
wire and no disk, so the simulator plays it as the daemon runs it. Each method returns the effects of what it was told.

``tick`` comes first, and a few times a second; ``restore`` once before anything else, with the notes of an earlier life
and with what the store's feed has since ``mark``. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from edgeagent.model.errors import Busy
from edgeagent.state.desk import Desk
from edgeagent.state.differences import Differences
from edgeagent.state.effects import Arrived, Effect, Load, NetworkView, Persist, Settled
from edgeagent.state.entry import Durability, Entry
from edgeagent.state.hlc import Version
from edgeagent.state.messages import (
    REQUESTS,
    Chunks,
    Coming,
    CommitRequest,
    Digest,
    Listing,
    Message,
    Name,
    Offer,
    Refusal,
    Release,
    Request,
    Want,
)
from edgeagent.state.obligations import ERRANDS_MAX, SPACE, Bundle, Obligations, read_note
from edgeagent.state.receiving import Receiving
from edgeagent.state.releasing import Releasing
from edgeagent.state.sending import Sending
from edgeagent.state.targets import hand_off_begins_ms, ranked
from edgeagent.state.wire import ITEMS_MAX

__all__ = ["MARK", "Replicator", "Status"]

MARK = "mark"  # the note that says up to which number of the store's feed all is noted or met
_NOTE_AFTER_S = 1.0
_DAMAGED_MAX = 1024
_ASK_AGAIN_S = 10.0


class Status(msgspec.Struct, frozen=True):
    """For metrics and views."""

    keys_owed: int
    errands: int
    sending: int
    flying_bytes: int
    open_offers: int
    leaving: int
    damaged: int
    counts: dict[str, int]


class Replicator:
    """Of one node. ``copies``: how many nodes hold a value, this one included; ``life``: see Desk."""

    def __init__(self, node: str, *, life: int, copies: int = 2, is_ground: bool = False) -> None:
        self._desk = Desk(node, life=life, is_ground=is_ground, copies=copies)
        self._owed = Obligations()
        self._sending = Sending(self._desk, self._owed, self._held)
        self._receiving = Receiving(self._desk, self._taken)
        self._releasing = Releasing(self._desk, self._release_again, self._owed.remove)
        self._differences = Differences(self._desk, self._sync, self._ask_for)
        self._damaged: dict[str, float] = {}  # keys, and when to ask for them again
        self._mark = 0
        self._marked = 0

    # -- what happens here ------------------------------------------------------------------------------------------

    def restore(self, notes: Mapping[str, bytes], feed: Sequence[tuple[int, Entry]] = ()) -> list[Effect]:
        """After a start: what was owed, and what was written since (``KeyStore.entries_since(mark)``, all of it)."""
        for name, raw in sorted(notes.items()):
            if name == MARK:
                continue
            bundle = read_note(raw, int(name, 16)) if len(name) == 16 else None
            if bundle is None:
                self._desk.counts["notes_damaged"] += 1
                self._owed.gone.add(name)
                continue
            self._sending.add(self._owed.add(bundle))
        # Where the feed's transactions begin and end is not known any more: all of it goes together.
        for at in range(0, len(feed), ITEMS_MAX):
            page = feed[at : at + ITEMS_MAX]
            self._owe([entry for _, entry in page], Durability.PEER)
            self._mark = page[-1][0]
        return self._done()

    def brings(self, chunks: Sequence[bytes]) -> bool:
        """Whether others are bringing some of these chunks now."""
        return self._receiving.brings(chunks)

    def number(self) -> int:
        """For a request that the shell makes by itself."""
        return self._desk.number()

    @staticmethod
    def mark_of(notes: Mapping[str, bytes]) -> int:
        """The number to read the store's feed from."""
        raw = notes.get(MARK, b"")
        return int.from_bytes(raw, "big") if len(raw) == 8 else 0

    def wrote(
        self,
        entries: Sequence[Entry],
        *,
        seq: int = 0,
        durability: Durability = Durability.PEER,
        by_utc_ms: int = 0,
    ) -> list[Effect]:
        """One transaction of this node is durable here. ``seq``: the highest number of the store's feed in it."""
        if entries:
            self._owe(entries, durability, by_utc_ms)
        self._mark = max(self._mark, seq)
        return self._done()

    def restamped(self, entries: Sequence[Entry], *, seq: int) -> list[Effect]:
        """The clock of this node was ahead, and is right again: these have other versions now."""
        self._desk.high_ms = 0
        return self.wrote(entries, seq=seq)

    def _owe(self, entries: Sequence[Entry], durability: Durability, by_utc_ms: int = 0) -> None:
        desk = self._desk
        desk.high_ms = max([desk.high_ms, *(entry.version.wall_ms for entry in entries)])
        ground = durability is Durability.GROUND
        if desk.copies < 2 and not ground:
            return
        bundle = Bundle(
            id=self._owed.number(),
            versions={entry.key: entry.version for entry in entries},
            copies=max(desk.copies, 2),
            ground=ground,
            by_utc_ms=by_utc_ms,
            size_bytes=sum(entry.size_bytes + 256 for entry in entries),
            born_s=desk.now_s,
            since=self._mark,
        )
        self._sending.add(self._owed.add(bundle))

    def push(
        self,
        names: Mapping[str, Version],
        to: str,
        *,
        by_utc_ms: int = 0,
        size_bytes: int = 0,
        custody: bool = False,
    ) -> list[Effect]:
        """Send these, and what was written together with them, to a node; ``Arrived`` tells. Raises Busy."""
        if self._owed.is_sent(to, names):
            return self._done()
        self._errand(dict(names), to, by_utc_ms=by_utc_ms, size_bytes=size_bytes, custody=custody)
        return self._done()

    def hand_off(
        self,
        names: Mapping[str, Version],
        *,
        size_bytes: int,
        set_utc_ms: int,
        by_utc_ms: int = 0,
        before_bytes: int = 0,
    ) -> list[Effect]:
        """The node sets at ``set_utc_ms``: somebody who stays in contact is to hold these by then, and answer for
        them. It begins as late as it may where ``before_bytes`` others go first.
        """
        versions = dict(names)
        peers = [peer for peer in self._desk.view.peers.values() if peer.reachable]
        begins_ms = [hand_off_begins_ms(before_bytes + size_bytes, peer, set_utc_ms) for peer in peers]
        bundle = Bundle(
            id=self._owed.number(),
            versions=versions,
            copies=max(self._desk.copies, 2),
            custody=True,
            by_utc_ms=by_utc_ms or set_utc_ms,
            not_before_ms=min(begins_ms, default=0),
            stays_until_ms=set_utc_ms + 1,
            size_bytes=size_bytes,
            born_s=self._desk.now_s,
        )
        self._sending.add(self._owed.add(bundle))
        return self._done()

    def evict(self, names: Mapping[str, Version], *, size_bytes: int = 0) -> list[Effect]:
        """Forget these here, once enough others hold them (``MayDrop`` tells); what is owed, or being forgotten
        already, stays. Raises Busy.
        """
        self._room_for_errand()
        going = self._owed.leaving()
        free = {k: v for k, v in names.items() if self._owed.of_key(k) is None and k not in going}
        if free:
            bundle = Bundle(
                id=self._owed.number(),
                versions=free,
                copies=self._desk.copies,
                release=True,
                size_bytes=size_bytes,
                born_s=self._desk.now_s,
            )
            self._sending.add(self._owed.add(bundle))
        return self._done()

    def damaged(self, keys: Sequence[str]) -> list[Effect]:
        """Copies here are damaged: ask who may have good ones. At most 1024 are remembered."""
        for key in keys:
            if len(self._damaged) < _DAMAGED_MAX:
                self._damaged.setdefault(key, self._desk.now_s)
        return self._done()

    # -- the network ------------------------------------------------------------------------------------------------

    def network(self, view: NetworkView) -> list[Effect]:
        """Who can be reached now, and how."""
        before, self._desk.view = self._desk.view, view
        for name, peer in view.peers.items():
            known = before.peers.get(name)
            if peer.reachable and not (known and known.reachable):
                self._sending.met(name)
                self._differences.met(name)
            elif not peer.reachable:
                self._differences.lost(name)
        return self._done()

    def message(self, peer: str, message: Message) -> list[Effect]:
        """A message of a node whose name is proven: a request, or the reply to one of ours."""
        if isinstance(message, REQUESTS):
            self._request(peer, message)
        else:
            self._desk.replied(peer, message)
        return self._done()

    def _request(self, peer: str, request: Request) -> None:
        match request:
            case Offer():
                self._receiving.offer(peer, request)
            case Chunks():
                self._receiving.chunks(peer, request)
            case CommitRequest():
                self._receiving.commit(peer, request)
            case Release():
                self._releasing.asked(peer, request, self._keeps)
            case Digest():
                self._differences.digest(peer, request)
            case Listing():
                self._differences.listing(peer, request)
            case Want():
                self._wanted(peer, request)

    def failed(self, request: Request) -> list[Effect]:
        """No reply will come to this one."""
        if peer := self._desk.failed(request.ask):
            self._differences.failed(peer)
        return self._done()

    # -- the shell's answers ----------------------------------------------------------------------------------------

    def loaded(self, token: int, entries: Sequence[Entry] | None) -> list[Effect]:
        return self._answer(token, entries)

    def looked(
        self, token: int, entries: Sequence[Entry] | None, missing: Sequence[bytes] | None
    ) -> list[Effect]:
        return self._answer(token, entries, missing)

    def read(self, token: int, pieces: Sequence[bytes] | None) -> list[Effect]:
        return self._answer(token, pieces)

    def stored(self, token: int, refused: Refusal = Refusal.NONE) -> list[Effect]:
        return self._answer(token, refused)

    def committed(self, token: int, merged: Sequence[Entry], refused: Refusal = Refusal.NONE) -> list[Effect]:
        return self._answer(token, merged, refused)

    def summed(self, token: int, sums: Mapping[bytes, bytes] | None) -> list[Effect]:
        return self._answer(token, sums)

    def listed(self, token: int, names: Sequence[Name] | None) -> list[Effect]:
        return self._answer(token, names)

    def dropped(self, token: int) -> list[Effect]:
        return self._answer(token)

    def _answer(self, token: int, *arguments: Any) -> list[Effect]:
        self._desk.answer(token, *arguments)
        return self._done()

    # -- time -------------------------------------------------------------------------------------------------------

    def tick(self, now_s: float, utc_ms: int, *, free_bytes: int) -> list[Effect]:
        """``now_s``: monotonic; ``free_bytes``: room for what other nodes hand over."""
        self._desk.now_s, self._desk.utc_ms, self._desk.free_bytes = now_s, utc_ms, free_bytes
        self._receiving.tick()
        self._differences.tick()
        self._ask_for_damaged()
        notes: dict[str, bytes | None] = {}
        for bundle in self._owed.unnoted(now_s - _NOTE_AFTER_S):
            name, note = self._owed.noted(bundle)
            notes[name] = note
        mark = self._owed.mark(self._mark)
        if mark > self._marked:
            self._marked = mark
            notes[MARK] = mark.to_bytes(8, "big")
        notes.update(dict.fromkeys(self._owed.gone))
        self._owed.gone.clear()
        if notes:
            self._desk.emit(Persist(SPACE, notes))
        return self._done()

    def _done(self) -> list[Effect]:
        self._sending.plan()
        return self._desk.take()

    # -- what is owed -----------------------------------------------------------------------------------------------

    def level_of(self, key: str, version: Version) -> Durability | None:
        """Where this version is, as far as it is still owed; None: nothing (more) is owed for it."""
        bundle = self._owed.of_key(key)
        if bundle is None or bundle.versions.get(key) != version:
            return None
        return bundle.level(here_is_ground=self._desk.is_ground)

    def unsettled(self, peers: Iterable[str]) -> list[str]:
        """Those of whom this node does not know yet whether they hold something newer than it does."""
        return self._differences.unsettled(peers)

    def status(self) -> Status:
        return Status(
            keys_owed=self._owed.keys_owed,
            errands=self._owed.errands,
            sending=self._sending.running,
            flying_bytes=self._sending.flying_bytes,
            open_offers=self._receiving.open,
            leaving=self._releasing.leaving,
            damaged=len(self._damaged),
            counts=dict(self._desk.counts),
        )

    def _held(
        self, peer: str, is_ground: bool, versions: Mapping[str, Version], bundles: Sequence[Bundle]
    ) -> None:
        # Somebody answers for these: whatever is owed of them counts it, pushed there or not.
        here_is_ground = self._desk.is_ground
        level = Durability.GROUND if is_ground or here_is_ground else Durability.PEER
        levels = dict.fromkeys(versions, level)
        for bundle in [*self._owed.covered(versions), *(one for one in bundles if one.to or one.release)]:
            bundle.holders[peer] = is_ground
            if not bundle.to and not bundle.release:
                reached = bundle.level(here_is_ground=here_is_ground)
                levels.update((key, max(level, reached, key=lambda one: one.rank)) for key in bundle.versions)
            if bundle.copies_owed() or bundle.ground_owed(here_is_ground=here_is_ground):
                continue
            if bundle.release:
                self._releasing.begin(bundle)
                continue
            if bundle.to:
                self._desk.emit(Arrived(peer, bundle.names))
            self._owed.remove(bundle)
        for key, reached in levels.items():
            self._desk.emit(Settled(key, versions[key], reached))

    def _taken(self, peer: str, merged: Sequence[Entry], custody: bool) -> None:
        versions = {entry.key: entry.version for entry in merged}
        self._desk.high_ms = max([self._desk.high_ms, *(version.wall_ms for version in versions.values())])
        for key in versions:
            self._damaged.pop(key, None)
        self._differences.taken(versions)
        renewed = self._owed.renew(versions)
        if renewed is not None:
            self._sending.add(renewed)
            if custody:
                self._desk.emit(Persist(SPACE, dict([self._owed.noted(renewed)])))
        elif custody:
            self._answer_for(versions, {peer: self._is_ground(peer)})

    def _keeps(self, peer: str, release: Release, names: Sequence[Name]) -> None:
        holders = {one: self._is_ground(one) for one in release.holders if one not in (self._desk.node, peer)}
        if names and len(holders) + 1 < self._desk.copies:
            self._answer_for(dict(names), holders)

    def _answer_for(self, versions: dict[str, Version], holders: dict[str, bool]) -> None:
        free = {key: version for key, version in versions.items() if self._owed.of_key(key) is None}
        if not free or len(holders) + 1 >= self._desk.copies:
            return
        bundle = Bundle(
            id=self._owed.number(), versions=free, copies=self._desk.copies, born_s=self._desk.now_s
        )
        bundle.holders = holders
        self._owed.add(bundle)
        self._desk.emit(Persist(SPACE, dict([self._owed.noted(bundle)])))
        self._sending.add(bundle)

    def _is_ground(self, peer: str) -> bool:
        known = self._desk.view.peers.get(peer)
        return bool(known and known.is_ground)

    def _room_for_errand(self) -> None:
        if self._owed.errands >= ERRANDS_MAX:
            raise Busy("too much is being moved already", hint="try again later", retry_after_s=1.0)

    def _errand(
        self,
        names: dict[str, Version],
        to: str,
        *,
        by_utc_ms: int = 0,
        size_bytes: int = 0,
        custody: bool = False,
    ) -> None:
        self._room_for_errand()
        bundle = Bundle(
            id=self._owed.number(),
            versions=names,
            copies=1,
            to=to,
            custody=custody,
            by_utc_ms=by_utc_ms,
            size_bytes=size_bytes,
            born_s=self._desk.now_s,
        )
        self._sending.add(self._owed.add(bundle))

    def _sync(self, peer: str, versions: dict[str, Version]) -> None:
        if self._owed.is_sent(peer, versions):
            return
        if self._owed.errands < ERRANDS_MAX // 2:
            self._errand(versions, peer)
        else:
            self._desk.counts["sync_put_off"] += 1

    def _release_again(self, bundle: Bundle) -> None:
        self._sending.again(bundle)

    # -- repair -----------------------------------------------------------------------------------------------------

    def _ask_for_damaged(self) -> None:
        now_s = self._desk.now_s
        due = [key for key, at_s in self._damaged.items() if at_s <= now_s][:ITEMS_MAX]
        reachable = [name for name, peer in self._desk.view.peers.items() if peer.reachable]
        if not due or not reachable:
            return
        for key in due:
            self._damaged[key] = now_s + _ASK_AGAIN_S
        for peer in ranked(due[0], reachable):
            self._ask_for(peer, due)

    def _ask_for(self, peer: str, keys: Iterable[str]) -> None:
        want = Want(self._desk.number(), tuple(keys))
        self._desk.ask(peer, want, Coming, _nothing)

    def _wanted(self, peer: str, want: Want) -> None:
        def loaded(entries: Sequence[Entry] | None) -> None:
            versions = {entry.key: entry.version for entry in entries or () if entry.key not in self._damaged}
            if versions:
                self._sync(peer, versions)
            self._desk.reply(peer, Coming(want.ask, tuple(versions)))

        self._desk.emit(Load(self._desk.token(loaded), want.keys))


def _nothing(_reply: Any) -> None:
    """Its offer is the answer that counts."""
