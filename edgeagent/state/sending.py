"""The sending end of transfers: what is owed goes to nodes that can be reached, most urgent and smallest first.

Bundles for one node travel together. A transfer that fails ends, and what it was for waits and is offered again:
only pieces that are missing by then travel, so every acknowledged message of pieces is a checkpoint. Pure.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence

import msgspec

from edgeagent.state.desk import Desk, has_bit
from edgeagent.state.effects import Load, ReadPieces
from edgeagent.state.entry import Entry
from edgeagent.state.hlc import Version
from edgeagent.state.messages import (
    Ack,
    Chunks,
    CommitRequest,
    Custody,
    Have,
    Offer,
    Part,
    Refusal,
    pieces_of,
    seal_of,
)
from edgeagent.state.obligations import Bundle, Obligations
from edgeagent.state.targets import choose
from edgeagent.state.wire import ITEMS_MAX, PARTS_BYTES_MAX, PARTS_MAX, PIECES_MAX

__all__ = ["DIRECT_BYTES_MAX", "TRANSFERS_MAX", "TRANSFERS_PER_PEER_MAX", "Sending"]

TRANSFERS_PER_PEER_MAX = 4
TRANSFERS_MAX = 16
DIRECT_BYTES_MAX = 1 << 20  # goes without an offer
FLYING_BYTES_MAX = 64 << 20  # read, and not acknowledged
CHECKPOINT_BYTES_MIN = 1 << 20
CHECKPOINT_S = 0.5
_WINDOW = 2  # messages of pieces under way at once in a transfer
_TRAVELS_INLINE_BYTES = 2 << 10  # in an offer
_LOOKED_AT_ONCE = 256
_BACKOFF_S = (0.5, 60.0)
_AVOID_S = 30.0
_REST_S = 5.0
_ERRAND_TRIES_MAX = 8  # of one without a time
_ERRAND_LATE_MS = 3_600_000
_ERRAND_S = 3600.0  # of one without a time whose node is not met
_RELEASE_S = 600.0  # then it was not to be
_ELSEWHERE = {Refusal.QUOTA, Refusal.CLOCK, Refusal.EXPIRED, Refusal.STORE, Refusal.INVALID, Refusal.REFUSED}

_Held = Callable[[str, bool, Mapping[str, Version], Sequence[Bundle]], None]


class _Transfer(msgspec.Struct):
    number: int
    peer: str
    bundles: list[Bundle]
    versions: dict[str, Version] = {}
    pieces: list[tuple[bytes, str]] = []  # as in ReadPieces
    sizes: list[int] = []
    todo: list[int] = []  # places of pieces, the next one last
    flying: int = 0
    seal: bytes = b""
    custody: bool = False
    is_over: bool = False


class Sending:
    """``held(peer, is_ground, versions, bundles)`` hears of custody."""

    def __init__(self, desk: Desk, owed: Obligations, held: _Held) -> None:
        self._desk = desk
        self._owed = owed
        self._held = held
        self._running: dict[int, _Transfer] = {}
        self._ready: list[tuple[tuple[int, int, int], Bundle]] = []
        self._waiting: list[tuple[float, int, Bundle]] = []
        self._queued: set[int] = set()
        self._flying_bytes = 0
        self._order = 0

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def flying_bytes(self) -> int:
        return self._flying_bytes

    def add(self, bundle: Bundle) -> None:
        """It is due now."""
        if id(bundle) not in self._queued and not bundle.is_over:
            self._queued.add(id(bundle))
            heapq.heappush(self._ready, (bundle.urgency, bundle))  # urgency ends in a number of its own

    def _wait(self, bundle: Bundle, until_s: float) -> None:
        if id(bundle) not in self._queued and not bundle.is_over:
            self._queued.add(id(bundle))
            self._order += 1
            heapq.heappush(self._waiting, (until_s, self._order, bundle))

    def again(self, bundle: Bundle) -> None:
        """Not at once."""
        self._wait(bundle, self._desk.now_s + self._pause_s(bundle))

    def _pause_s(self, bundle: Bundle) -> float:
        low_s, high_s = _BACKOFF_S
        jitter: float = 0.5 + (bundle.id * 2654435761 + bundle.tries * 40503) % 1000 / 1000
        return float(min(high_s, low_s * 2 ** min(max(bundle.tries - 1, 0), 10))) * jitter

    def met(self, peer: str) -> None:
        """A contact begins: what waits may go there at once."""
        waiting, self._waiting = self._waiting, []
        for _, _, bundle in waiting:
            self._queued.discard(id(bundle))
            bundle.avoid.pop(peer, None)
            bundle.tries = 0
            self.add(bundle)

    def _tidy(self) -> None:
        # Bundles that were fused into others lie about until their turn comes; there are to be few of them.
        if len(self._ready) + len(self._waiting) > 2 * len(self._owed) + 1024:
            self._ready = [one for one in self._ready if not one[-1].is_over]
            self._waiting = [one for one in self._waiting if not one[-1].is_over]
            heapq.heapify(self._ready)
            heapq.heapify(self._waiting)
            self._queued = {id(one[-1]) for one in (*self._ready, *self._waiting)}

    def _ripen(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._desk.now_s:
            _, _, bundle = heapq.heappop(self._waiting)
            self._queued.discard(id(bundle))
            self.add(bundle)

    def plan(self) -> None:
        """Start what can be started."""
        self._tidy()
        now_s = self._desk.now_s
        self._ripen()
        if len(self._running) >= TRANSFERS_MAX or not self._ready:
            return
        batches: dict[str, list[Bundle]] = {}
        again: list[Bundle] = []
        for _ in range(min(_LOOKED_AT_ONCE, len(self._ready))):
            _, bundle = heapq.heappop(self._ready)
            self._queued.discard(id(bundle))
            if bundle.is_over or not self._is_due(bundle):
                continue
            target = self._target(bundle)
            if not target:
                self._wait(bundle, now_s + _REST_S)
            elif self._to(target) >= TRANSFERS_PER_PEER_MAX:
                again.append(bundle)
            else:
                bundle.moving.add(target)
                batches.setdefault(target, []).append(bundle)
                if self._wants(bundle):
                    again.append(bundle)
        for bundle in again:
            self.add(bundle)
        self._start_all(batches)

    def _start_all(self, batches: Mapping[str, Sequence[Bundle]]) -> None:
        for peer, bundles in batches.items():
            for batch in _batches(bundles):
                if self._to(peer) < TRANSFERS_PER_PEER_MAX and len(self._running) < TRANSFERS_MAX:
                    self._start(peer, batch)
                    continue
                for bundle in batch:
                    bundle.moving.discard(peer)
                    self.add(bundle)

    def _is_due(self, bundle: Bundle) -> bool:
        utc_ms = self._desk.utc_ms
        if bundle.to and (
            (bundle.by_utc_ms and bundle.by_utc_ms + _ERRAND_LATE_MS < utc_ms)
            or (
                not bundle.by_utc_ms
                and (bundle.tries > _ERRAND_TRIES_MAX or self._desk.now_s - bundle.born_s > _ERRAND_S)
            )
        ):
            self._desk.counts["errands_given_up"] += 1
            self._owed.remove(bundle)
            return False
        if bundle.release and self._desk.now_s - bundle.born_s > _RELEASE_S:
            self._desk.counts["evictions_given_up"] += 1
            self._owed.remove(bundle)
            return False
        if bundle.not_before_ms > utc_ms:
            self._wait(bundle, self._desk.now_s + min(_REST_S, (bundle.not_before_ms - utc_ms) / 1000))
            return False
        return self._wants(bundle)

    def _wants(self, bundle: Bundle) -> bool:
        moving = bundle.moving
        if bundle.ground_owed(here_is_ground=self._desk.is_ground) and not any(
            peer.is_ground for name, peer in self._desk.view.peers.items() if name in moving
        ):
            return True
        return bundle.copies_owed() > len(moving)

    def _target(self, bundle: Bundle) -> str:
        peers, now_s = self._desk.view.peers, self._desk.now_s
        without = {*bundle.holders, *bundle.moving}
        without.update(name for name, until_s in bundle.avoid.items() if until_s > now_s)
        if bundle.to:
            known = peers.get(bundle.to)
            return bundle.to if known and known.reachable and bundle.to not in without else ""
        found = ""
        for ground in (True, False):
            if ground and not bundle.ground_owed(here_is_ground=self._desk.is_ground):
                continue
            if not ground and bundle.copies_owed() <= len(bundle.moving):
                continue
            found = found or choose(
                self._desk.ranking(bundle.group),
                self._desk.view,
                size_bytes=bundle.size_bytes,
                utc_ms=self._desk.utc_ms,
                without=without,
                ground=ground,
                stays_until_ms=bundle.stays_until_ms,
            )
        return found

    def _to(self, peer: str) -> int:
        return sum(1 for one in self._running.values() if one.peer == peer)

    def _start(self, peer: str, bundles: list[Bundle]) -> None:
        transfer = _Transfer(self._desk.number(), peer, bundles)
        transfer.custody = any(bundle.custody for bundle in bundles)
        self._running[transfer.number] = transfer
        keys = tuple({key: None for bundle in bundles for key in bundle.versions})
        self._desk.emit(Load(self._desk.token(lambda entries: self._loaded(transfer, entries)), keys))

    def _loaded(self, transfer: _Transfer, entries: Sequence[Entry] | None) -> None:
        if entries is None:
            self._fail(transfer, Refusal.STORE, here=True)
            return
        held = {entry.key: entry for entry in entries if not entry.is_expired(self._desk.utc_ms)}
        asked = {key for bundle in transfer.bundles for key in bundle.versions}
        if len(held) > ITEMS_MAX and len(transfer.bundles) > 1:
            self._fail(transfer, Refusal.INVALID, here=True)  # each by itself, then
            return
        for bundle in list(transfer.bundles):
            self._renew(bundle, held)
            if bundle.is_over or not bundle.versions:
                transfer.bundles.remove(bundle)
                bundle.moving.discard(transfer.peer)
                self._owed.remove(bundle)
        wanted = {key for bundle in transfer.bundles for key in bundle.versions}
        moments = {held[key].version.moment for key in wanted}
        together = [entry for key, entry in held.items() if key in wanted or entry.version.moment in moments]
        together.sort(key=lambda entry: (entry.key not in asked, entry.key))
        self._send(together[:ITEMS_MAX], transfer)

    def _renew(self, bundle: Bundle, held: Mapping[str, Entry]) -> None:
        # What is held now is what goes; what was written together with it was loaded together with it.
        for key, version in list(bundle.versions.items()):
            entry = held.get(key)
            if entry is None or (bundle.release and entry.version != version):
                self._owed.forget(bundle, key)
            else:
                bundle.versions[key] = entry.version

    def _send(self, entries: list[Entry], transfer: _Transfer) -> None:
        if not transfer.bundles:
            self._end(transfer)
            return
        transfer.versions = {entry.key: entry.version for entry in entries}
        transfer.seal = seal_of(transfer.number, entries)
        number, custody = transfer.number, transfer.custody
        if sum(
            len(one.inline or b"") + 33 * len(one.chunks) for one in entries
        ) <= DIRECT_BYTES_MAX and not any(one.chunks for one in entries):
            self._commit(transfer, tuple(entries))
            return
        offered = tuple(
            msgspec.structs.replace(one, inline=None)
            if one.inline is not None and len(one.inline) > _TRAVELS_INLINE_BYTES
            else one
            for one in entries
        )
        for entry in offered:
            own = pieces_of((entry,))
            transfer.pieces += [(one.sha256, "" if entry.chunks else entry.key) for one in own]
            transfer.sizes += [one.size_bytes for one in own]
        if len(transfer.pieces) > PIECES_MAX:
            self._fail(transfer, Refusal.INVALID)
            return
        offer = Offer(self._desk.number(), number, offered, custody)
        self._desk.ask(transfer.peer, offer, Have, lambda have: self._have(transfer, have))

    def _have(self, transfer: _Transfer, have: Have | None) -> None:
        if have is None or have.refused:
            self._fail(transfer, have.refused if have else None)
            return
        transfer.todo = [place for place in range(len(transfer.sizes)) if has_bit(have.missing, place)]
        self._desk.counts["pieces_known"] += len(transfer.sizes) - len(transfer.todo)
        transfer.todo.reverse()
        self._pump(transfer)

    def _pump(self, transfer: _Transfer) -> None:
        peer = self._desk.view.peers.get(transfer.peer)
        link_bytes = int((peer.rate_bit_s if peer else 0.0) / 8 * CHECKPOINT_S)
        checkpoint_bytes = min(PARTS_BYTES_MAX, max(CHECKPOINT_BYTES_MIN, link_bytes))
        while transfer.todo and transfer.flying < _WINDOW and not transfer.is_over:
            if self._flying_bytes >= FLYING_BYTES_MAX:
                return  # whoever is acknowledged next goes on
            places: list[int] = []
            size_bytes = 0
            while transfer.todo and len(places) < PARTS_MAX:
                size_bytes += transfer.sizes[transfer.todo[-1]]
                if places and size_bytes > checkpoint_bytes:
                    size_bytes -= transfer.sizes[transfer.todo[-1]]
                    break
                places.append(transfer.todo.pop())
            self._fly(transfer, places, size_bytes)
        if not transfer.todo and not transfer.flying and not transfer.is_over:
            self._commit(transfer, ())

    def _fly(self, transfer: _Transfer, places: list[int], size_bytes: int) -> None:
        transfer.flying += 1
        self._flying_bytes += size_bytes

        def landed() -> None:
            transfer.flying -= 1
            self._flying_bytes -= size_bytes

        def acked(ack: Ack | None) -> None:
            landed()
            if transfer.is_over:
                pass
            elif ack is None or ack.refused or set(ack.durable) != set(places):
                self._fail(transfer, ack.refused if ack else None)
            else:
                for bundle in transfer.bundles:
                    bundle.tries = 0
                self._pump(transfer)
            for other in list(self._running.values()):
                if other.todo:
                    self._pump(other)

        def was_read(pieces: Sequence[bytes] | None) -> None:
            if transfer.is_over or pieces is None:
                landed()
                self._fail(transfer, Refusal.STORE, here=True)
                return
            parts = tuple(Part(place, piece) for place, piece in zip(places, pieces, strict=True))
            self._desk.counts["pieces_out"] += len(parts)
            chunks = Chunks(self._desk.number(), transfer.number, parts)
            self._desk.ask(transfer.peer, chunks, Ack, acked)

        wanted = tuple(transfer.pieces[place] for place in places)
        self._desk.emit(ReadPieces(self._desk.token(was_read), wanted))

    def _commit(self, transfer: _Transfer, entries: tuple[Entry, ...]) -> None:
        request = CommitRequest(self._desk.number(), transfer.number, entries, transfer.custody)
        self._desk.ask(transfer.peer, request, Custody, lambda custody: self._custody(transfer, custody))

    def _custody(self, transfer: _Transfer, custody: Custody | None) -> None:
        if custody is None or custody.refused:
            self._fail(transfer, custody.refused if custody else None)
            return
        if custody.seal != transfer.seal:
            self._desk.counts["custody_forged"] += 1
            self._fail(transfer, Refusal.INVALID)
            return
        self._end(transfer)
        for bundle in transfer.bundles:
            bundle.tries = 0
        self._held(transfer.peer, custody.is_ground, transfer.versions, transfer.bundles)
        for bundle in transfer.bundles:
            if not bundle.is_over and (self._wants(bundle)):
                self.add(bundle)

    def _end(self, transfer: _Transfer) -> None:
        transfer.is_over = True
        self._running.pop(transfer.number, None)
        for bundle in transfer.bundles:
            bundle.moving.discard(transfer.peer)

    def _fail(self, transfer: _Transfer, refused: Refusal | None, *, here: bool = False) -> None:
        if transfer.is_over:
            return
        self._end(transfer)
        name = "none" if refused is None else refused.value
        self._desk.counts[f"transfers_failed_{name}"] += 1
        now_s = self._desk.now_s
        is_batch = len(transfer.bundles) > 1
        for bundle in transfer.bundles:
            if refused in _ELSEWHERE and is_batch:
                bundle.alone = True  # one of them is to blame, and each is to show whether it is
                self.add(bundle)
                continue
            if refused in _ELSEWHERE and not here:
                bundle.avoid[transfer.peer] = now_s + _AVOID_S
            bundle.tries += 1
            if refused is None and bundle.tries % 3 == 0:
                bundle.avoid[transfer.peer] = now_s + _AVOID_S
            self.again(bundle)


def _batches(bundles: Sequence[Bundle]) -> list[list[Bundle]]:
    """Together what fits one request."""
    made: list[list[Bundle]] = []
    keys, size_bytes, is_open = 0, 0, False
    for bundle in bundles:
        fits = keys + len(bundle.versions) <= ITEMS_MAX and size_bytes + bundle.size_bytes <= DIRECT_BYTES_MAX
        if not is_open or bundle.alone or not fits:
            made.append([])
            keys = size_bytes = 0
        made[-1].append(bundle)
        keys += len(bundle.versions)
        size_bytes += bundle.size_bytes
        is_open = not bundle.alone
    return made
