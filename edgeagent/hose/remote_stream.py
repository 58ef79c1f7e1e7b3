"""One connection of a client, with its thread: shows a ticket, sends, and repairs cuts.

A cut is repaired in here: the stream asks for another ticket, connects again and goes on where the receiver says.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from edgeagent.hose import checksum
from edgeagent.hose.checks_ahead import AHEAD_FRAMES_MIN, ChecksAhead
from edgeagent.hose.checksum import nonce_of
from edgeagent.hose.compression import CompressionGate
from edgeagent.hose.errors import (
    DuplicateTransfer,
    FrameRefused,
    HoseFault,
    LinkCut,
    LinkStalled,
    TicketRefused,
    TransferTooLarge,
    fault_of,
)
from edgeagent.hose.frames import (
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
    Window,
    encode,
    identity_of,
)
from edgeagent.hose.remote_link import Link, is_loopback, worthwhile
from edgeagent.hose.remote_runs import Exchanged, Outgoing
from edgeagent.hose.remote_settings import RemoteSettings, check_plain
from edgeagent.hose.tickets import Ticket, client_proof, listener_proof, proofs_equal
from edgeagent.hose.transfer import Effect, Released, Send, SendData, Sender

__all__ = ["ANSWERS", "Job", "Stream"]

T = TypeVar("T")

# Looking for an answer takes the socket's lock from the kernel's own work: 17 us, a twelfth of sending a megabyte.
FRAMES_UNHEARD_MAX = 4
# Of a frame in a run: it stays in the second-level cache from its check to its end on the wire.
RUN_FRAME_BYTES = 512 << 10
# Whole transfers of at most so many bytes are sent by the event loop: 0.2 ms, less than it takes to wake a thread and
# be woken by it. Of larger ones the loop sends what keeps the peer busy until the thread is there.
ALONG_BYTES_MAX = 1 << 20
AHEAD_BYTES = 512 << 10
# A plain connection does not leave the machine, so who answers needs its processor more than the loop does: it is
# waited for as long as it takes to take a megabyte. Where that is not enough, such as through a tunnel, it is not
# waited for at all, for a while.
ANSWER_S = 0.0005
ANSWERS = 2  # ACCEPT and ACK
UNANSWERED_TRANSFERS = 32


class Cancelled(Exception):
    """The transfer is no longer wanted."""


_NEVER = threading.Event()


class Job:
    """One stripe on its way, with its counts."""

    def __init__(self, offer: Offer, view: memoryview, *, is_new: bool) -> None:
        self.offer = offer
        self.view = view
        self.is_new = is_new  # nobody has offered it before
        self.cancelled = _NEVER
        self.sender: Sender | None = None  # once it was begun
        self.left: Outgoing | None = None  # of what the loop could not send at once
        self.fault: HoseFault | None = None  # by which what was begun on the loop has ended
        # Connections in a row that brought no progress beyond ``best``.
        self.idle_tries = 0
        self.best = offer.base
        self.is_released = False
        # To the loop, once all of it is sent: it waits for the answer while we are not waited for.
        self.may_return = False
        self.sent_bytes = 0
        self.stored_bytes = 0
        self.connections = 0
        self.resumes = 0

    def for_threads(self) -> None:
        """Before a thread gets it: from here it can be cancelled."""
        self.cancelled = threading.Event()


class Stream:
    """One connection and what was agreed on it. All methods on the stream's thread, except ``interrupt``; and except
    ``exchange``, ``go_on_from``, ``go_on`` and ``close``, which the loop calls while the thread has no job, and which
    wait for no more than ``ANSWER_S``.
    """

    def __init__(
        self,
        address: tuple[str, int],
        settings: RemoteSettings,
        ticket: Callable[[], Ticket],
        random_bytes: Callable[[int], bytes],
        tls: ssl.SSLContext | None,
        server_hostname: str | None,
        helpers: ThreadPoolExecutor,
    ) -> None:
        self._helpers = helpers
        self._address = address
        self._settings = settings
        self._ticket = ticket
        self._random = random_bytes
        self._tls = tls
        self._hostname = server_hostname
        self._link: Link | None = None
        self._payload_max = self._chunk_bytes = settings.payload_bytes
        self._frame_bytes = RUN_FRAME_BYTES
        self._unanswered = 0  # transfers for which the loop does not wait
        self._bytes_max = 0
        self._check = checksum.check_of(checksum.Checksum.CRC32, b"")
        self._gate = CompressionGate(allowed=False)
        self._number = 0  # of offers on this connection
        self._ahead: ChecksAhead | None = None
        self._run_bytes = 0  # that are sent at once, where the extension checks and sends them

    def exchange(self, identity: bytes, view: memoryview) -> Exchanged | None:
        """Offer what is new, with what may go along, if there is a connection that this can be done on at once. Unless
        all its answers came, ``go_on_from`` follows.
        """
        link, total = self._link, len(view)
        if link is None or not self._run_bytes or total > self._bytes_max:
            return None
        self._number += 1
        ahead = min(total if total <= ALONG_BYTES_MAX else AHEAD_BYTES, self._chunk_bytes)
        answer_s = 0.0 if self._unanswered else ANSWER_S
        exchanged = link.exchange(identity, view, ahead, self._frame_bytes, answer_s)
        if self._unanswered:
            self._unanswered -= 1
        elif ahead == total and exchanged.answers < ANSWERS:
            self._unanswered = UNANSWERED_TRANSFERS
        return exchanged

    def go_on_from(self, exchanged: Exchanged, job: Job) -> bool:
        """Make of it what its Sender would have done. True where all of it is on its way, and what comes is for
        ``go_on``; else it is a job for ``send``.
        """
        now_s, offer, ahead = time.monotonic(), job.offer, exchanged.ahead
        job.fault = exchanged.fault
        job.sent_bytes = job.stored_bytes = ahead
        sender = job.sender = self._sender(job)
        sender.limit_chunk(self._payload_max)
        done = sender.start_along(now_s, ahead)
        if exchanged.answers:
            sender.on_message(Accept(offer.transfer, offer.generation, 0, offer.end), now_s)
        if exchanged.is_cut_short:
            before = b"" if exchanged.offset else encode(offer)
            job.left = self._run_of(job, exchanged.offset, ahead, done, before, exchanged.skip)
        return done is not None and not exchanged.is_cut_short and exchanged.fault is None

    def go_on(self, job: Job) -> bool:
        """Something came. True where the loop need not wait any longer: the job is released, or it is one for ``send``.
        Raises a HoseFault, for ``send`` to repair.
        """
        link, sender = self._link, job.sender
        assert link is not None
        assert sender is not None
        while (answer := link.poll()) is not None:
            job.is_released = bool(sender.on_message(answer, time.monotonic()))
            if job.is_released or sender.owes:
                return True
        return False

    @property
    def link(self) -> Link:
        """The connection that a job was begun on."""
        assert self._link is not None
        return self._link

    def _sender(self, job: Job) -> Sender:
        settings = self._settings
        return Sender(
            job.offer,
            chunk_bytes=settings.payload_bytes,
            stall_s=settings.stall_s,
            ack_s=settings.ack_s,
            eager=job.is_new,
        )

    def send(self, job: Job) -> None:
        """Send one stripe, or go on with what was begun, over as many connections as it takes, until it is released; or
        until all of it is on its way, where the job may return, and what comes is for ``go_on``. Raises the HoseFault
        that ended it.
        """
        settings = self._settings
        sender = job.sender = job.sender or self._sender(job)
        while True:
            try:
                if (found := job.fault) is not None:
                    job.fault = None
                    raise found
                link = self._link or self._connect(job)
                self._drive(link, sender, job)
                return
            except HoseFault as fault:
                self._drop(fault, job.offer.transfer)
                sender.on_cut()
                if sender.resumed > job.best:
                    job.idle_tries, job.best = 0, sender.resumed
                job.idle_tries += 1
                # A receiver that has not noticed yet that we were cut takes us for a double.
                again = fault.resumable or isinstance(fault, DuplicateTransfer)
                if not again or job.idle_tries > settings.retries:
                    raise
                if job.cancelled.wait(settings.retry_wait_s * 2 ** (job.idle_tries - 1)):
                    raise
                job.resumes += job.sent_bytes > 0
            except BaseException:
                self._drop(None, job.offer.transfer)
                raise

    def _drop(self, fault: HoseFault | None, transfer: bytes) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.end(fault, transfer)

    def interrupt(self) -> None:
        """From any thread: end what the stream waits for."""
        link = self._link
        if link is not None:
            link.interrupt()

    def close(self) -> None:
        """Close the connection."""
        self._drop(None, b"")

    def _connect(self, job: Job | None) -> Link:
        if job is not None:
            if job.cancelled.is_set():
                raise Cancelled
            job.connections += 1
        ticket = self._ticket()
        try:
            sock = socket.create_connection(self._address, timeout=self._settings.handshake_s)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that is none
            raise LinkCut(f"no connection to {self._address[0]}: {error}") from None
        try:
            link = Link(sock, stall_s=self._settings.handshake_s)
        except BaseException:
            sock.close()
            raise
        self._number = 0
        self._link = link  # from here an interrupt reaches it
        if job is not None and job.cancelled.is_set():
            raise Cancelled
        if self._tls is None:
            check_plain(link.remote_host)
        else:
            link.secure(self._tls, server_side=False, server_hostname=self._hostname)
        self._greet(link, ticket)
        link.set_stall(self._settings.stall_s)
        return link

    def _greet(self, link: Link, ticket: Ticket) -> None:
        greeting = _expect(link, Greeting)
        checksum.choose(greeting.checksums, worthwhile())
        nonce = self._random(NONCE_BYTES)
        wanted = self._settings.compression == "always" or (
            self._settings.compression == "auto" and not is_loopback(link.remote_host)
        )
        proof = client_proof(ticket.id, ticket.secret, nonce, greeting.nonce)
        link.write(Hello(ticket.id, nonce, proof, worthwhile(), ZSTD if wanted else 0))
        welcome = _expect(link, Welcome)
        if not proofs_equal(welcome.proof, listener_proof(ticket.id, ticket.secret, nonce, greeting.nonce)):
            raise TicketRefused("the other side does not know the ticket that it is said to have issued")
        self._check = checksum.check_of(
            welcome.checksum, checksum.key_of(ticket.secret, nonce, greeting.nonce)
        )
        self._payload_max = welcome.payload_bytes_max
        self._chunk_bytes = min(self._settings.payload_bytes, self._payload_max)
        self._frame_bytes = min(RUN_FRAME_BYTES, self._payload_max)
        self._bytes_max = welcome.transfer_bytes_max
        self._gate = CompressionGate(
            allowed=wanted and bool(welcome.compressions & ZSTD),
            always=self._settings.compression == "always",
        )
        has_runs = link.has_runs and welcome.checksum == checksum.Checksum.CRC32 and not self._gate.allowed
        self._run_bytes = FRAMES_UNHEARD_MAX * self._payload_max if has_runs else 0

    def _drive(self, link: Link, sender: Sender, job: Job) -> None:
        if job.offer.total > self._bytes_max:
            raise TransferTooLarge(f"{job.offer.total} bytes, and the ticket is for {self._bytes_max}")
        if sender.is_apart:
            sender.limit_chunk(self._payload_max)
            self._number += 1
        try:
            self._exchange(link, sender, job)
        finally:
            if self._ahead is not None:
                self._ahead.close()
                self._ahead = None

    def _exchange(self, link: Link, sender: Sender, job: Job) -> None:
        effects = self._begun(link, sender, job)
        meter, unheard = _Meter(self._gate), 0
        while True:
            for effect in effects:
                match effect:
                    case Send(frame):
                        link.write(frame)
                    case SendData():
                        self._send_data(link, effect, job, sender.finish(time.monotonic()))
                    case Released():
                        job.is_released = True
                        return
            if job.may_return and self._run_bytes and sender.is_sent:
                return
            if job.cancelled.is_set():
                raise Cancelled
            effects = sender.pump(time.monotonic(), self._run_bytes)
            unheard += 1
            if effects and unheard < FRAMES_UNHEARD_MAX and not self._run_bytes:
                continue
            answer = link.poll() if effects else _await(link, sender)
            if answer is None:
                unheard = 0
                continue
            if isinstance(answer, Window):
                meter.on_window(answer.credit, job)
            effects += sender.on_message(answer, time.monotonic())
            if isinstance(answer, Accept):
                self._ahead = self._checks_ahead(sender, job)

    def _begun(self, link: Link, sender: Sender, job: Job) -> list[Effect]:
        if sender.is_apart:
            return sender.start(time.monotonic())
        left, job.left = job.left, None
        if left is not None:
            link.write_run(left)
        return []

    def _checks_ahead(self, sender: Sender, job: Job) -> ChecksAhead | None:
        if (
            self._run_bytes
            or self._gate.allowed
            or job.offer.end - sender.sent < AHEAD_FRAMES_MIN * sender.chunk_bytes
        ):
            return None
        ahead = ChecksAhead(
            self._check, self._number, job.view, sender.sent, job.offer.end, sender.chunk_bytes
        )
        self._helpers.submit(ahead.run)
        return ahead

    def _send_data(self, link: Link, order: SendData, job: Job, done: Done | None) -> None:
        if self._run_bytes and not order.flags:
            self._send_run(link, order, job, done)
            return
        # Views are released by hand: a traceback that somebody keeps would keep the caller's memory pinned.
        with job.view[order.offset : order.offset + order.length] as raw:
            packed = self._packed(raw)
            if packed is None:
                check = self._ahead.take(order) if self._ahead is not None else None
                self._send_stored(link, order, job, raw, check, done)
                return
        self._send_stored(link, order, job, memoryview(packed), None, done)

    def _send_run(self, link: Link, order: SendData, job: Job, done: Done | None) -> None:
        job.sent_bytes += order.length
        job.stored_bytes += order.length
        link.write_run(self._run_of(job, order.offset, order.offset + order.length, done))

    def _run_of(
        self, job: Job, offset: int, end: int, done: Done | None, before: bytes = b"", skip: int = 0
    ) -> Outgoing:
        after = b"" if done is None else encode(done)
        return Outgoing(identity_of(job.offer), job.view, offset, end, self._frame_bytes, before, after, skip)

    def _packed(self, raw: memoryview) -> bytes | None:
        if not self._gate.wanted():
            return None
        start_s = time.monotonic()
        packed = self._gate.pack(raw)
        size = len(raw) if packed is None else len(packed)
        self._gate.on_compressed(len(raw), size, time.monotonic() - start_s)
        return packed

    def _send_stored(
        self,
        link: Link,
        order: SendData,
        job: Job,
        stored: memoryview,
        check: bytes | None,
        done: Done | None,
    ) -> None:
        size, offer = len(stored), job.offer
        flags = order.flags if size == order.length else order.flags | ZSTD
        job.sent_bytes += order.length
        job.stored_bytes += size
        if check is None:
            check = self._check(stored, nonce_of(self._number, order.offset, resent=bool(flags & RESENT)))
        head = Data(offer.transfer, offer.generation, order.offset, order.length, size, flags, check)
        link.write_data(head, stored, done)

    def ping(self, token: int) -> float:
        """Round trip in seconds, over a connection that is opened if need be."""
        try:
            link = self._link or self._connect(None)
            start_s = time.monotonic()
            link.write(Ping(token))
            if _expect(link, Pong).token != token:
                raise FrameRefused("the answer to another ping")
        except HoseFault as fault:
            self._drop(fault, b"")
            raise
        return time.monotonic() - start_s


class _Meter:
    """The rate of the link, from the credits that come back."""

    def __init__(self, gate: CompressionGate) -> None:
        self._gate = gate
        self._last: tuple[float, int] | None = None

    def on_window(self, credit: int, job: Job) -> None:
        now_s = time.monotonic()
        if self._last is not None:
            share = job.stored_bytes / max(job.sent_bytes, 1)
            self._gate.on_link((credit - self._last[1]) * share, now_s - self._last[0])
        self._last = (now_s, credit)


def _await(link: Link, sender: Sender) -> Frame:
    """Nothing can be sent: wait as long as the sender does."""
    assert sender.deadline_s is not None
    try:
        return link.read(sender.deadline_s - time.monotonic())
    except LinkStalled:
        sender.on_timer(sender.deadline_s)  # which knows what it was that did not come
        raise


def _expect(link: Link, kind: type[T]) -> T:
    frame = link.read()
    if isinstance(frame, Abort):
        raise fault_of(frame.code, frame.text)
    if not isinstance(frame, kind):
        raise FrameRefused(f"{type(frame).__name__} where {kind.__name__} was to come")
    return frame
