"""The receiving end of transfers: nothing is taken that was not asked for, nothing is answered for that is not on disk.

An offer whose pieces another offer of the same peer is bringing waits a moment for these: nothing travels twice.

What other nodes can make this one keep in memory is bounded: open offers for each peer and in all, bytes that are being
written. What they can make it keep on disk is bounded by the room that the shell names (``Desk.free_bytes``). Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from edgeagent.state.desk import Desk, bits_of
from edgeagent.state.effects import Commit, Look, ReadPieces, StoreChunks
from edgeagent.state.entry import Entry
from edgeagent.state.hlc import SKEW_MS_MAX, UNSET_BEFORE_MS
from edgeagent.state.messages import (
    Ack,
    Chunks,
    CommitRequest,
    Custody,
    Have,
    Offer,
    Piece,
    Refusal,
    pieces_of,
    seal_of,
)

__all__ = ["COMING_S", "IDLE_S", "OFFERS_MAX", "OFFERS_PER_PEER_MAX", "STORING_BYTES_MAX", "Receiving"]

OFFERS_PER_PEER_MAX = 8
OFFERS_MAX = 64
OFFERED_BYTES_MAX = 64 << 20  # of manifests, with what is inline in them
STORING_BYTES_MAX = 64 << 20  # between the wire and the disk
IDLE_S = 120.0
COMING_S = 5.0  # so long a peer that brings nothing is believed to go on

_Taken = Callable[[str, Sequence[Entry], bool], None]


class _Inbound(msgspec.Struct):
    # One offer that is open. ``asked``: the pieces that its peer was told are missing.
    peer: str
    offer: Offer
    pieces: list[Piece]
    size_bytes: int
    last_s: float
    asked: set[int] = set()
    missing: set[int] = set()
    is_looked: bool = False
    is_committing: bool = False
    is_held: bool = False  # others bring what is missing


class Receiving:
    """``taken(peer, entries, custody)`` hears of what has become durable."""

    def __init__(self, desk: Desk, taken: _Taken) -> None:
        self._desk = desk
        self._taken = taken
        self._open: dict[tuple[str, int], _Inbound] = {}
        self._committing: set[tuple[str, int]] = set()
        self._storing_bytes = 0
        self._offered_bytes = 0

    @property
    def open(self) -> int:
        return len(self._open)

    @property
    def reserved_bytes(self) -> int:
        """What the open offers will still bring."""
        return sum(one.pieces[place].size_bytes for one in self._open.values() for place in one.missing)

    def tick(self) -> None:
        """Forget offers that nobody goes on with; what came of them stays on disk for a while."""
        for key, inbound in list(self._open.items()):
            if self._desk.now_s - inbound.last_s > IDLE_S and not inbound.is_committing:
                self._close(key)
        for peer in dict.fromkeys(whose for (whose, _), one in self._open.items() if one.is_held):
            self._look_again(peer)

    def offer(self, peer: str, offer: Offer) -> None:
        key = (peer, offer.transfer)
        known = self._open.get(key)
        if known is not None:
            known.last_s = self._desk.now_s
            if known.is_looked:
                self._have(known, offer.ask)
            return
        size_bytes = sum(len(one.inline or b"") + 32 * len(one.chunks) + 256 for one in offer.entries)
        refused = self._refuses(offer.entries)
        if not refused and (
            len(self._open) >= OFFERS_MAX
            or self._offered_bytes + size_bytes > OFFERED_BYTES_MAX
            or sum(1 for whose, _ in self._open if whose == peer) >= OFFERS_PER_PEER_MAX
        ):
            refused = Refusal.BUSY
        if refused:
            self._count(refused)
            self._desk.reply(peer, Have(offer.ask, offer.transfer, refused=refused))
            return
        inbound = _Inbound(peer, offer, pieces_of(offer.entries), size_bytes, self._desk.now_s)
        self._open[key] = inbound
        self._offered_bytes += size_bytes
        self._look(key, inbound)

    def _look(self, key: tuple[str, int], inbound: _Inbound) -> None:
        chunks = tuple({piece.sha256: None for piece in inbound.pieces})
        token = self._desk.token(lambda _entries, missing: self._looked(key, missing))
        self._desk.emit(Look(token, (), chunks))

    def _is_coming(self, peer: str, wanted: set[bytes]) -> bool:
        """Whether the peer is bringing some of these by another offer."""
        return any(
            whose == peer
            and self._desk.now_s - one.last_s < COMING_S
            and any(one.pieces[place].sha256 in wanted for place in one.missing)
            for (whose, _), one in self._open.items()
        )

    def brings(self, chunks: Sequence[bytes]) -> bool:
        """Whether anybody is bringing some of these now."""
        wanted = set(chunks)
        return any(self._is_coming(peer, wanted) for peer in {whose for whose, _ in self._open})

    def _look_again(self, peer: str) -> None:
        """Offers of the peer that were held, where nothing of them is coming any more."""
        for key, inbound in list(self._open.items()):
            if key[0] == peer and inbound.is_held:
                wanted = {piece.sha256 for piece in inbound.pieces}
                if not self._is_coming(peer, wanted):
                    inbound.is_held = False
                    self._look(key, inbound)

    def _refuses(self, entries: Sequence[Entry]) -> Refusal:
        utc_ms = self._desk.utc_ms
        latest_ms = max(entry.version.wall_ms for entry in entries)
        if utc_ms >= UNSET_BEFORE_MS and latest_ms > max(utc_ms + SKEW_MS_MAX, self._desk.high_ms):
            return Refusal.CLOCK
        if all(entry.is_expired(utc_ms) for entry in entries):
            return Refusal.EXPIRED
        return Refusal.NONE

    def _count(self, refused: Refusal) -> None:
        self._desk.counts[f"refused_{refused.value}"] += 1

    def _looked(self, key: tuple[str, int], missing: Sequence[bytes] | None) -> None:
        inbound = self._open.get(key)
        if inbound is None:
            return
        refused = Refusal.STORE if missing is None else Refusal.NONE
        first: dict[bytes, int] = {}
        wanted = set(missing or ())
        if wanted and self._is_coming(key[0], wanted):
            inbound.is_held = True
            return
        for place, piece in enumerate(inbound.pieces):
            if piece.sha256 in wanted:
                first.setdefault(piece.sha256, place)  # what is in it twice travels once
        needed_bytes = sum(inbound.pieces[place].size_bytes for place in first.values())
        if not refused and needed_bytes + self.reserved_bytes > self._desk.free_bytes and needed_bytes:
            refused = Refusal.QUOTA
        if refused:
            self._close(key)
            self._count(refused)
            self._desk.reply(key[0], Have(inbound.offer.ask, key[1], refused=refused))
            return
        inbound.asked = set(first.values())
        inbound.missing = set(first.values())
        inbound.is_looked = True
        self._have(inbound, inbound.offer.ask)

    def _have(self, inbound: _Inbound, ask: int) -> None:
        bits = bits_of([place in inbound.missing for place in range(len(inbound.pieces))])
        self._desk.reply(inbound.peer, Have(ask, inbound.offer.transfer, bits))

    def chunks(self, peer: str, chunks: Chunks) -> None:
        """Only what was asked for, of the size that was offered; all else is refused and counted."""
        inbound = self._open.get((peer, chunks.transfer))
        size_bytes = sum(len(part.data) for part in chunks.parts)
        refused = Refusal.NONE
        if inbound is None:
            refused = Refusal.UNKNOWN
        elif any(
            part.index not in inbound.asked or len(part.data) != inbound.pieces[part.index].size_bytes
            for part in chunks.parts
        ):
            refused = Refusal.UNASKED
        elif self._storing_bytes + size_bytes > STORING_BYTES_MAX:
            refused = Refusal.BUSY
        if refused or inbound is None:
            self._count(refused)
            self._desk.reply(peer, Ack(chunks.ask, chunks.transfer, refused=refused))
            return
        inbound.last_s = self._desk.now_s
        new = [part for part in chunks.parts if part.index in inbound.missing]
        self._desk.counts["pieces_again"] += len(chunks.parts) - len(new)
        self._desk.counts["pieces_in"] += len(new)
        places = tuple(part.index for part in chunks.parts)
        if not new:
            self._desk.reply(peer, Ack(chunks.ask, chunks.transfer, places))
            return
        self._storing_bytes += size_bytes
        held = inbound

        def stored(refused: Refusal) -> None:
            self._storing_bytes -= size_bytes
            if refused:
                self._count(refused)
            else:
                held.missing -= set(places)
                self._look_again(peer)
            self._desk.reply(peer, Ack(chunks.ask, chunks.transfer, () if refused else places, refused))

        pieces = tuple((inbound.pieces[part.index].sha256, part.data) for part in new)
        self._desk.emit(StoreChunks(self._desk.token(stored), pieces))

    def commit(self, peer: str, request: CommitRequest) -> None:
        key = (peer, request.transfer)
        if key in self._committing:
            self._desk.counts["commits_again"] += 1  # the first one will be answered
            return
        inbound = self._open.get(key)
        entries = request.entries or (inbound.offer.entries if inbound is not None else ())
        size_bytes = sum(len(entry.inline or b"") + 256 for entry in entries)
        refused = Refusal.NONE
        if not entries or (inbound is not None and (inbound.missing or not inbound.is_looked)):
            refused = Refusal.UNKNOWN
        elif self._storing_bytes + size_bytes > STORING_BYTES_MAX:
            refused = Refusal.BUSY
        elif request.entries and size_bytes > self._desk.free_bytes - self.reserved_bytes:
            refused = Refusal.QUOTA
        else:
            refused = self._refuses(entries)
        if refused:
            self._count(refused)
            self._desk.reply(peer, Custody(request.ask, request.transfer, refused=refused))
            return
        self._committing.add(key)
        self._storing_bytes += size_bytes
        if inbound is not None:
            inbound.is_committing = True
        self._fill(peer, request, entries, size_bytes)

    def _fill(self, peer: str, request: CommitRequest, entries: Sequence[Entry], size_bytes: int) -> None:
        # Small values that came as pieces are put where they belong.
        left = [entry for entry in entries if entry.inline is None and not entry.chunks and not entry.deleted]
        if not left:
            self._write(peer, request, tuple(entries), size_bytes)
            return

        def filled(pieces: Sequence[bytes] | None) -> None:
            if pieces is None:
                self._end(peer, request, entries, size_bytes, Refusal.UNKNOWN)
                return
            values = {entry.key: piece for entry, piece in zip(left, pieces, strict=True)}
            whole = tuple(
                msgspec.structs.replace(entry, inline=values.get(entry.key, entry.inline))
                for entry in entries
            )
            self._write(peer, request, whole, size_bytes)

        token = self._desk.token(filled)
        self._desk.emit(ReadPieces(token, tuple((entry.sha256, "") for entry in left)))

    def _write(self, peer: str, request: CommitRequest, entries: tuple[Entry, ...], size_bytes: int) -> None:
        def committed(merged: Sequence[Entry], refused: Refusal) -> None:
            if not refused:
                self._taken(peer, merged, request.custody)
            self._end(peer, request, entries, size_bytes, refused)

        self._desk.emit(Commit(self._desk.token(committed), entries, request.custody))

    def _end(
        self, peer: str, request: CommitRequest, entries: Sequence[Entry], size_bytes: int, refused: Refusal
    ) -> None:
        self._storing_bytes -= size_bytes
        self._committing.discard((peer, request.transfer))
        self._close((peer, request.transfer))
        if refused:
            self._count(refused)
        else:
            self._desk.counts["custody_taken"] += 1
        seal = b"" if refused else seal_of(request.transfer, entries)
        self._desk.reply(peer, Custody(request.ask, request.transfer, seal, self._desk.is_ground, refused))

    def _close(self, key: tuple[str, int]) -> None:
        inbound = self._open.pop(key, None)
        if inbound is not None:
            self._offered_bytes -= inbound.size_bytes
            self._look_again(key[0])
