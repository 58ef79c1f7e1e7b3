"""What a node remembers of transfers that come in: for resuming after a cut, and against doubles.

Pure: the shell brings the clock, holds the lock, and owns the buffers, one in each entry's ``attachment``. A transfer
belongs to the peer that its ticket names, so nobody resumes another's. An entry lives while a connection carries it,
then ``keep_s`` for the sender to come back; after delivery it stays as long as a mere note, so that an offer that is
repeated because the ACK got lost is acknowledged and not delivered twice.
"""

from __future__ import annotations

from typing import Any

from edgeagent.hose.errors import (
    DuplicateTransfer,
    FrameRefused,
    NoRoom,
    StaleGeneration,
    TooManyPeers,
    TransferTooLarge,
)
from edgeagent.hose.frames import Offer
from edgeagent.hose.transfer import Receiver, stripe_of

__all__ = ["Entry", "Inbox"]


class Entry:
    """One transfer of one peer, with a Receiver for each stripe that has been offered."""

    def __init__(self, peer: str, offer: Offer) -> None:
        self.peer = peer
        self.offer = offer  # of the first stripe that came: the identity of the transfer
        self.receivers: dict[int, Receiver] = {}
        self.active: set[int] = set()
        self.confirmed: set[int] = set()
        self.delivered = False
        self.expires_s = 0.0
        self.attachment: Any = None

    @property
    def key(self) -> tuple[str, bytes]:
        """How the inbox finds it."""
        return self.peer, self.offer.transfer

    @property
    def whole(self) -> bool:
        """True when every stripe is."""
        return len(self.receivers) == self.offer.stripes and all(r.whole for r in self.receivers.values())


class Inbox:
    """At most ``transfers_max`` entries, whose undelivered buffers are at most ``held_bytes_max`` together."""

    def __init__(
        self,
        *,
        transfers_max: int = 1024,
        held_bytes_max: int = 1 << 30,
        window_bytes: int = 32 << 20,
        payload_bytes_max: int = 2 << 20,
        keep_s: float = 60.0,
    ) -> None:
        self._entries: dict[tuple[str, bytes], Entry] = {}
        self._max = transfers_max
        self._held_max = held_bytes_max
        self._window = window_bytes
        self._payload_max = payload_bytes_max
        self._keep_s = keep_s
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def open(
        self, peer: str, offer: Offer, bytes_max: int, now_s: float
    ) -> tuple[Entry, Receiver, list[Entry]]:
        """The entry and the stripe's Receiver, now active, and the entries that were given up for it.

        Raises a HoseFault, by which nothing changes but that expired entries are due to ``expire``.
        """
        if (offer.base, offer.length) != stripe_of(offer.total, offer.stripes, offer.stripe):
            raise FrameRefused("the stripe is not the one of this number")
        if offer.total > bytes_max:
            raise TransferTooLarge(f"{offer.total} bytes, and the ticket is for {bytes_max}")
        known = self._entries.get((peer, offer.transfer))
        given_up: list[Entry] = []
        if known is not None and self._supersedes(known, offer):
            given_up.append(known)
            self.forget(known)
            known = None
        if known is None:
            known = self._new(peer, offer)
        receiver = known.receivers.get(offer.stripe)
        if receiver is None:
            receiver = Receiver(offer, window_bytes=self._window, payload_bytes_max=self._payload_max)
            known.receivers[offer.stripe] = receiver
        known.active.add(offer.stripe)
        known.expires_s = now_s + self._keep_s
        return known, receiver, given_up

    def take(self, peer: str, offer: Offer, bytes_max: int, now_s: float) -> Entry | None:
        """``open`` for what is here already, all of it, under an id that is not known; None for one that is. ``settle``
        or ``forget`` follow.
        """
        if (peer, offer.transfer) in self._entries:
            return None
        if offer.total > bytes_max:
            raise TransferTooLarge(f"{offer.total} bytes, and the ticket is for {bytes_max}")
        entry = self._new(peer, offer)
        entry.active.add(offer.stripe)
        entry.expires_s = now_s + self._keep_s
        return entry

    def settle(self, entry: Entry, now_s: float) -> None:
        """What was taken is delivered, and its connection has let go of it."""
        offer = entry.offer
        receiver = Receiver(offer, window_bytes=self._window, payload_bytes_max=self._payload_max)
        receiver.on_whole()
        entry.receivers[offer.stripe] = receiver
        self.suspend(entry, offer.stripe, now_s)

    def _supersedes(self, known: Entry, offer: Offer) -> bool:
        was = known.offer
        if offer.generation < was.generation:
            raise StaleGeneration(f"generation {was.generation} is known already")
        if offer.generation > was.generation:
            if known.active:
                raise DuplicateTransfer("an earlier generation is still coming in")
            self._check_room(offer.total - (0 if known.delivered else was.total))
            return True
        if (was.total, was.stripes, was.sha256) != (offer.total, offer.stripes, offer.sha256):
            raise DuplicateTransfer("this transfer was offered before with another length, split or hash")
        if offer.stripe in known.active:
            raise DuplicateTransfer("this transfer is coming in on another connection")
        return False

    def _check_room(self, more: int) -> None:
        if self.held_bytes + more > self._held_max:
            raise NoRoom(f"transfers hold {self.held_bytes} of {self._held_max} bytes", retry_after_s=1.0)

    def _new(self, peer: str, offer: Offer) -> Entry:
        if len(self._entries) >= self._max:
            raise TooManyPeers(f"{self._max} transfers are remembered", retry_after_s=self._keep_s)
        self._check_room(offer.total)
        entry = Entry(peer, offer)
        self._entries[entry.key] = entry
        self.held_bytes += offer.total
        return entry

    def carrying(self, peer: str, offer: Offer) -> Entry | None:
        """The entry of this very transfer whose stripe another connection still carries: the sender has noticed a cut
        that we have not, or offers it twice.
        """
        known = self._entries.get((peer, offer.transfer))
        if known is None or offer.stripe not in known.active:
            return None
        was = known.offer
        same = (was.generation, was.total, was.stripes, was.sha256)
        return known if same == (offer.generation, offer.total, offer.stripes, offer.sha256) else None

    def suspend(self, entry: Entry, stripe: int, now_s: float) -> None:
        """The stripe's connection has ended."""
        entry.receivers[stripe].on_cut()
        entry.active.discard(stripe)
        entry.expires_s = now_s + self._keep_s

    def deliver(self, entry: Entry) -> None:
        """The application has accepted the bytes; they no longer count as held."""
        if self._entries.get(entry.key) is entry and not entry.delivered:
            self.held_bytes -= entry.offer.total
        entry.delivered = True

    def confirm(self, entry: Entry, stripe: int) -> None:
        """The sender knows that it was delivered: it has offered something else on the same connection."""
        entry.confirmed.add(stripe)
        if entry.delivered and len(entry.confirmed) == entry.offer.stripes:
            self.forget(entry)

    def forget(self, entry: Entry) -> None:
        """Give an entry up, with what it holds."""
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
            if not entry.delivered:
                self.held_bytes -= entry.offer.total

    def expire(self, now_s: float) -> list[Entry]:
        """Forget what nobody came back for; the shell closes their buffers."""
        gone = [entry for entry in self._entries.values() if not entry.active and now_s >= entry.expires_s]
        for entry in gone:
            self.forget(entry)
        return gone

    def remembered(self) -> list[Entry]:
        """All entries, for the end of a node."""
        return list(self._entries.values())
