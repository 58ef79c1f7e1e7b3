"""One admitted connection of the listener, on its own thread: ticket, then one transfer after the other."""

from __future__ import annotations

import hashlib
from typing import Any

import structlog

from edgeagent.hose import checksum
from edgeagent.hose.compression import unpack
from edgeagent.hose.errors import (
    ChecksumFailed,
    FrameRefused,
    HoseFault,
    LinkCut,
    LinkStalled,
    NoRoom,
    TransferRefused,
    fault_of,
)
from edgeagent.hose.frames import (
    NO_DIGEST,
    NONCE_BYTES,
    RESENT,
    ZSTD,
    Abort,
    Accept,
    Data,
    Done,
    Frame,
    Greeting,
    Hello,
    Offer,
    Ping,
    Pong,
    Welcome,
    identity_of,
)
from edgeagent.hose.inbox import Entry
from edgeagent.hose.remote_buffers import Buffer, Delivery
from edgeagent.hose.remote_incoming import Incoming, Room, Shared
from edgeagent.hose.remote_link import Link, worthwhile
from edgeagent.hose.remote_runs import RunEnd
from edgeagent.hose.tickets import Ticket, listener_proof
from edgeagent.hose.transfer import Complete, Effect, Receiver, Send, Take
from edgeagent.model.errors import EdgeError

__all__ = ["Session"]

log = structlog.get_logger("hose")

# Room for the next small transfer is kept ready for as long as it may follow at once.
ROOM_BYTES_MAX = 1 << 20
ROOM_S = 1.0


class Session:
    """Raises the HoseFault that ends the connection, for its owner to tell the peer."""

    def __init__(self, link: Link, shared: Shared, *, compress: bool) -> None:
        self._link = link
        self._shared = shared
        self._settings = shared.settings
        self._compress = compress and shared.settings.compression != "never"
        if shared.settings.compression == "always":
            self._compress = True
        self._ticket: Ticket | None = None
        self._check = checksum.check_of(checksum.Checksum.CRC32, b"")
        self._last: tuple[Entry, int] | None = None
        self._scratch = bytearray()
        self._number = 0  # of offers so far
        self._has_runs = False
        self._room = Room(shared.allocate)

    def handshake(self) -> None:
        """Greet, check the ticket, welcome."""
        nonce = self._shared.random_bytes(NONCE_BYTES)
        self._link.write(Greeting(nonce, worthwhile()))
        frame = self._link.read()
        if isinstance(frame, Abort):
            raise fault_of(frame.code, frame.text)
        if not isinstance(frame, Hello):
            raise FrameRefused(f"{type(frame).__name__} before a ticket")
        agreed = checksum.choose(frame.checksums, worthwhile())
        with self._shared.lock:
            ticket = self._shared.book.admit(
                frame.ticket, frame.proof, frame.nonce, nonce, self._shared.clock()
            )
        self._ticket = ticket
        self._check = checksum.check_of(agreed, checksum.key_of(ticket.secret, frame.nonce, nonce))
        self._compress = self._compress and bool(frame.compressions & ZSTD)
        self._has_runs = self._link.has_runs and agreed is checksum.Checksum.CRC32
        proof = listener_proof(ticket.id, ticket.secret, frame.nonce, nonce)
        self._link.write(
            Welcome(
                proof,
                agreed,
                ZSTD if self._compress else 0,
                self._settings.payload_bytes,
                ticket.scope.transfer_bytes_max,
            )
        )

    def run(self) -> None:
        """Serve until the connection ends."""
        try:
            while not self._shared.stopped and self._serve():
                pass
        finally:
            self._room.close()

    def _serve(self) -> bool:
        """Whatever comes next; False at the end."""
        self._link.set_stall(self._settings.stall_s)
        try:
            frame, came = self._next()
        except (LinkCut, LinkStalled):
            return False  # between transfers that is no fault
        match frame:
            case Offer() if came is not None and came.is_whole:
                self._receive_whole(frame)
            case Offer():
                self._receive(frame, came)
            case Ping(token):
                self._link.write(Pong(token))
            case Abort():
                return False
            case _:
                raise FrameRefused(f"{type(frame).__name__} is out of turn")
        return True

    def _next(self) -> tuple[Frame, RunEnd | None]:
        """What comes next, and what came along with it to the room."""
        wait_s = self._settings.idle_s
        if self._room.view is not None:
            along = self._link.read_along(self._room.view, self._settings.payload_bytes, min(ROOM_S, wait_s))
            if along is not None:
                return along
            self._room.close()
            wait_s = max(wait_s - ROOM_S, 0.0)
        return self._link.read(wait_s), None

    def _receive_whole(self, offer: Offer) -> None:
        """All of it is in the room. As little as can be is done before the ACK, for which the sender waits."""
        assert self._ticket is not None
        shared, scope = self._shared, self._ticket.scope
        with shared.lock:
            self._confirm(offer)
            entry = shared.inbox.take(scope.peer, offer, scope.transfer_bytes_max, shared.clock())
        if entry is None:
            last = Done(offer.transfer, offer.generation, offer.end)
            self._receive(offer, RunEnd(offer.end, last))
            return
        self._number += 1
        buffer = self._room.take()
        try:
            self._link.accept_whole()
            payload = _published(offer, buffer)
            self._hand_over(Delivery(scope.peer, offer.transfer, offer.generation, offer.total, payload))
            with shared.lock:
                shared.inbox.deliver(entry)
                shared.stats.bytes += offer.total
                shared.stats.transfers += 1
            self._link.acknowledge_whole()
        finally:
            with shared.lock:
                if entry.delivered:
                    shared.inbox.settle(entry, shared.clock())
                else:
                    shared.inbox.forget(entry)
            buffer.close()
        self._last = (entry, offer.stripe)
        self._room.prepare(offer.total)

    def _receive(self, offer: Offer, came: RunEnd | None) -> None:
        assert self._ticket is not None
        self._number += 1
        shared, peer = self._shared, self._ticket.scope.peer
        with shared.lock:
            carrying = shared.inbox.carrying(peer, offer)
            opened = self._open(peer, offer) if carrying is None else None
        if carrying is not None:
            self._take_over(carrying, offer.stripe)
            with shared.lock:
                opened = self._open(peer, offer)
        assert opened is not None
        entry, receiver, given_up = opened
        incoming: Incoming = entry.attachment
        shared.close(given_up)
        try:
            if came is not None and (entry.delivered or not incoming.adopt(self._room.take())):
                raise FrameRefused("data came along with an offer that was made before")
            empty = entry.delivered
            with memoryview(b"") if empty else incoming.memory(shared.allocate, offer.total) as view:
                self._drive(entry, incoming, receiver, view, came)
        except BaseException as fault:
            self._end(entry, offer.stripe, fault)
            raise
        with shared.lock:
            shared.inbox.suspend(entry, offer.stripe, shared.clock())
        incoming.free(offer.stripe)
        self._last = (entry, offer.stripe)
        if self._has_runs and 0 < offer.total <= ROOM_BYTES_MAX:
            self._room.prepare(offer.total)

    def _open(self, peer: str, offer: Offer) -> tuple[Entry, Receiver, list[Entry]]:
        """With the lock held."""
        assert self._ticket is not None
        shared = self._shared
        self._confirm(offer)
        bytes_max = self._ticket.scope.transfer_bytes_max
        entry, receiver, given_up = shared.inbox.open(peer, offer, bytes_max, shared.clock())
        if entry.attachment is None:
            entry.attachment = Incoming()
        shared.stats.resumes += receiver.verified > offer.base
        entry.attachment.links[offer.stripe] = self._link
        return entry, receiver, given_up

    def _confirm(self, offer: Offer) -> None:
        """Who offers something else knows that the last was delivered. With the lock held."""
        if self._last is not None and self._last[0].offer.transfer != offer.transfer:
            self._shared.inbox.confirm(*self._last)
            self._last = None

    def _take_over(self, carrying: Entry, stripe: int) -> None:
        """End the connection that still carries what is offered here: its sender has come back, so it is dead."""
        incoming: Incoming | None = carrying.attachment
        link = incoming.links.get(stripe) if incoming is not None else None
        if incoming is not None and link is not None:
            link.interrupt()
            incoming.wait_free(stripe, link, self._settings.handshake_s)

    def _end(self, entry: Entry, stripe: int, fault: BaseException) -> None:
        """The stripe's connection ends by a fault: keep what is verified, or give the transfer up."""
        hopeless = isinstance(fault, NoRoom | ChecksumFailed | TransferRefused) or (
            isinstance(fault, HoseFault) and fault.from_peer and not fault.resumable
        )
        with self._shared.lock:
            self._shared.inbox.suspend(entry, stripe, self._shared.clock())
            give_up = hopeless and not entry.active and not entry.delivered
            if give_up:
                self._shared.inbox.forget(entry)
        entry.attachment.free(stripe)
        if give_up:
            self._shared.close([entry])

    def _acknowledge(self, receiver: Receiver) -> None:
        for last in receiver.on_accepted():
            assert isinstance(last, Send)
            self._link.write(last.frame)

    def _drive(
        self, entry: Entry, incoming: Incoming, receiver: Receiver, view: memoryview, came: RunEnd | None
    ) -> None:
        effects = receiver.on_offer(receiver.offer)
        if came is not None:
            effects += self._run_came(receiver, receiver.offer.base, came, view)
        # Who may have sent all of it along does not wait for the answer: it need not be a packet of its own.
        may_be_along = (
            self._has_runs and came is None and receiver.offer.length <= self._settings.payload_bytes
        )
        while True:
            answer: Frame | None = None
            for effect in effects:
                match effect:
                    case Send(Accept() as frame) if may_be_along:
                        answer = frame
                    case Send(frame):
                        self._link.write(frame)
                    case Complete():
                        self._finish(entry, incoming, receiver.offer.stripe, view)
                        self._acknowledge(receiver)
                        return
            effects = self._more(receiver, view, answer)

    def _more(self, receiver: Receiver, view: memoryview, answer: Frame | None) -> list[Effect]:
        run = receiver.run() if self._has_runs else None
        if run is None:
            if answer is not None:
                self._link.write(answer)
            return self._one(receiver, self._link.read(), view)
        offer = receiver.offer
        last = Done(offer.transfer, offer.generation, offer.end)
        came = self._link.read_run(identity_of(offer), run, view, last, answer)
        return self._run_came(receiver, run.next, came, view)

    def _run_came(self, receiver: Receiver, begin: int, came: RunEnd, view: memoryview) -> list[Effect]:
        effects: list[Effect] = []
        if came.end > begin:
            with self._shared.lock:
                self._shared.stats.bytes += came.end - begin
            effects += receiver.on_run(came.end)
        if came.fault is not None:
            raise came.fault  # what came before it stays
        if came.frame is None:
            return effects
        if not came.is_damaged:
            return effects + self._one(receiver, came.frame, view)
        receiver.on_message(came.frame)  # its payload is in its place already
        return effects + self._taken(receiver, length=0)

    def _one(self, receiver: Receiver, frame: Frame, view: memoryview) -> list[Effect]:
        effects = receiver.on_message(frame)
        if effects and isinstance(effects[0], Take):
            return self._take(receiver, effects[0].frame, view)
        return effects

    def _take(self, receiver: Receiver, frame: Data, view: memoryview) -> list[Effect]:
        good = self._payload(frame, view[frame.offset : frame.offset + frame.length])
        return self._taken(receiver, length=frame.length if good else 0)

    def _taken(self, receiver: Receiver, length: int) -> list[Effect]:
        """A payload is in place; of a damaged one no byte counts."""
        with self._shared.lock:
            self._shared.stats.bytes += length
            self._shared.stats.frames_again += not length
        return receiver.on_payload(good=length > 0)

    def _payload(self, frame: Data, place: memoryview) -> bool:
        nonce = checksum.nonce_of(self._number, frame.offset, resent=bool(frame.flags & RESENT))
        if not frame.flags & ZSTD:
            self._link.read_payload(place)
            return self._check(place, nonce) == frame.check
        if not self._compress:
            raise FrameRefused("compression was not agreed")
        if len(self._scratch) < frame.stored:
            self._scratch = bytearray(self._settings.payload_bytes)
        stored = memoryview(self._scratch)[: frame.stored]
        self._link.read_payload(stored)
        if self._check(stored, nonce) != frame.check:
            return False
        place[:] = unpack(stored, frame.length)
        return True

    def _finish(self, entry: Entry, incoming: Incoming, stripe: int, view: memoryview) -> None:
        """The stripe is whole: the last one to come here delivers, the others wait for that."""
        view.release()  # before the buffer is published: whoever publishes is the only one left
        with self._shared.lock:
            if entry.delivered:
                return
            incoming.arrived.add(stripe)
            mine = len(incoming.arrived) == entry.offer.stripes and not incoming.delivering
            incoming.delivering |= mine
        if mine:
            self._deliver(entry, incoming)
            return
        incoming.wait_over(self._settings.ack_s)
        if incoming.fault is not None:
            raise TransferRefused(incoming.fault.message)
        if not entry.delivered:
            raise LinkStalled("the other stripes did not come")

    def _deliver(self, entry: Entry, incoming: Incoming) -> None:
        offer = entry.offer
        try:
            with incoming.changed:
                assert incoming.buffer is not None
                payload = _published(offer, incoming.buffer)
            self._hand_over(Delivery(entry.peer, offer.transfer, offer.generation, offer.total, payload))
        except HoseFault as fault:
            incoming.fault = fault
            raise
        else:
            with self._shared.lock:
                self._shared.inbox.deliver(entry)
                self._shared.stats.transfers += 1
        finally:
            incoming.end()
        incoming.close()

    def _hand_over(self, delivery: Delivery) -> None:
        try:
            self._shared.deliver(delivery, self._settings.ack_s)
        except HoseFault:
            raise
        except EdgeError as error:
            raise TransferRefused(error.message) from None
        except TimeoutError:
            raise TransferRefused("the application did not take it in time") from None
        except Exception:
            log.exception("hose delivery failed", peer=delivery.peer, bytes=delivery.length)
            raise TransferRefused("the application failed") from None


def _published(offer: Offer, buffer: Buffer) -> Any:
    if offer.sha256 != NO_DIGEST:
        with buffer.view[: offer.total] as view:
            digest = hashlib.sha256(view).digest()
        if digest != offer.sha256:
            raise ChecksumFailed("the whole is not what was offered")
    try:
        return buffer.publish(offer.total)
    except Exception:
        log.exception("hose buffer cannot be published", bytes=offer.total)
        raise TransferRefused("the node cannot publish what it received") from None
