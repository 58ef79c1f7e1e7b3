"""The sending side of cross-host hoses: persistent connections to one remote host, one transfer at a time.

Each stream is a connection with a thread of its own (remote_link says why). A cut is repaired in here: the stream
asks for another ticket, connects again and goes on where the receiver says.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from edgeagent.hose import checksum
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
    ID_BYTES,
    NO_DIGEST,
    NONCE_BYTES,
    STRIPES_MAX,
    ZSTD,
    Abort,
    Data,
    Frame,
    Greeting,
    Hello,
    Offer,
    Ping,
    Pong,
    Welcome,
    Window,
)
from edgeagent.hose.remote_link import Link, is_loopback, worthwhile
from edgeagent.hose.remote_settings import RemoteSettings, SendReport, check_plain
from edgeagent.hose.tickets import Ticket, client_proof, listener_proof, proofs_equal
from edgeagent.hose.transfer import Effect, Released, Send, SendData, Sender, stripe_of

__all__ = ["RemoteClient"]

T = TypeVar("T")


class _Cancelled(Exception):
    """The transfer is no longer wanted."""


class _Job:
    """One stripe on its way, with its counts."""

    def __init__(self, offer: Offer, view: memoryview) -> None:
        self.offer = offer
        self.view = view
        self.cancelled = threading.Event()
        self.sent_bytes = 0
        self.stored_bytes = 0
        self.connections = 0


class _Stream:
    """One connection and what was agreed on it. All methods on the stream's thread, except ``interrupt``."""

    def __init__(
        self,
        address: tuple[str, int],
        settings: RemoteSettings,
        ticket: Callable[[], Ticket],
        random_bytes: Callable[[int], bytes],
        tls: ssl.SSLContext | None,
        server_hostname: str | None,
    ) -> None:
        self._address = address
        self._settings = settings
        self._ticket = ticket
        self._random = random_bytes
        self._tls = tls
        self._hostname = server_hostname
        self._link: Link | None = None
        self._payload_max = settings.payload_bytes
        self._bytes_max = 0
        self._check = checksum.check_of(checksum.Checksum.CRC32, b"")
        self._gate = CompressionGate(allowed=False)

    def send(self, job: _Job) -> None:
        """Send one stripe, over as many connections as it takes. Raises the HoseFault that ended it."""
        settings = self._settings
        sender = Sender(
            job.offer, chunk_bytes=settings.payload_bytes, stall_s=settings.stall_s, ack_s=settings.ack_s
        )
        idle_tries, best = 0, job.offer.base
        while True:
            try:
                link = self._link or self._connect(job)
                self._drive(link, sender, job)
                return
            except HoseFault as fault:
                self._drop(fault, job.offer.transfer)
                sender.on_cut()
                if sender.resumed > best:
                    idle_tries, best = 0, sender.resumed
                idle_tries += 1
                # A receiver that has not noticed yet that we were cut takes us for a double.
                again = fault.resumable or isinstance(fault, DuplicateTransfer)
                if not again or idle_tries > settings.retries:
                    raise
                if job.cancelled.wait(settings.retry_wait_s):
                    raise
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

    def _connect(self, job: _Job | None) -> Link:
        if job is not None:
            if job.cancelled.is_set():
                raise _Cancelled
            job.connections += 1
        ticket = self._ticket()
        try:
            sock = socket.create_connection(self._address, timeout=self._settings.handshake_s)
        except OSError as error:
            raise LinkCut(f"no connection to {self._address[0]}: {error}") from None
        try:
            link = Link(sock, stall_s=self._settings.handshake_s)
        except BaseException:
            sock.close()
            raise
        self._link = link  # from here an interrupt reaches it
        if job is not None and job.cancelled.is_set():
            raise _Cancelled
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
        self._bytes_max = welcome.transfer_bytes_max
        self._gate = CompressionGate(
            allowed=wanted and bool(welcome.compressions & ZSTD),
            always=self._settings.compression == "always",
        )

    def _drive(self, link: Link, sender: Sender, job: _Job) -> None:
        if job.offer.total > self._bytes_max:
            raise TransferTooLarge(f"{job.offer.total} bytes, and the ticket is for {self._bytes_max}")
        sender.limit_chunk(self._payload_max)
        effects: list[Effect] = sender.start(time.monotonic())
        meter = _Meter(self._gate)
        while True:
            for effect in effects:
                match effect:
                    case Send(frame):
                        link.write(frame)
                    case SendData():
                        self._send_data(link, effect, job)
                    case Released():
                        return
            if job.cancelled.is_set():
                raise _Cancelled
            effects = sender.pump(time.monotonic())
            answer = link.poll()
            if answer is None and not effects:
                answer = _await(link, sender)
            if answer is not None:
                if isinstance(answer, Window):
                    meter.on_window(answer.credit, job)
                effects += sender.on_message(answer, time.monotonic())

    def _send_data(self, link: Link, order: SendData, job: _Job) -> None:
        raw = stored = job.view[order.offset : order.offset + order.length]
        flags = order.flags
        if self._gate.wanted():
            start_s = time.monotonic()
            packed = self._gate.pack(raw)
            size = len(raw) if packed is None else len(packed)
            self._gate.on_compressed(len(raw), size, time.monotonic() - start_s)
            if packed is not None:
                stored, flags = memoryview(packed), flags | ZSTD
        job.sent_bytes += len(raw)
        job.stored_bytes += len(stored)
        offer = job.offer
        link.write_data(
            Data(
                offer.transfer,
                offer.generation,
                order.offset,
                len(raw),
                len(stored),
                flags,
                self._check(stored),
            ),
            stored,
        )

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

    def on_window(self, credit: int, job: _Job) -> None:
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


class RemoteClient:
    """Sends to one listener. ``tickets`` is awaited on the loop for each connection that is opened: it asks the
    remote node over HTTP. Methods on the loop's thread.

    ``server_hostname`` is what the certificate is checked against, ``host`` by default.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tickets: Callable[[], Awaitable[Ticket]],
        settings: RemoteSettings,
        *,
        random_bytes: Callable[[int], bytes],
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> None:
        self._settings = settings
        self._tickets = tickets
        self._random = random_bytes
        self._lock = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        count = max(1, min(settings.streams, STRIPES_MAX))
        self._pool = ThreadPoolExecutor(count, "hose-send")
        self._streams = [
            _Stream(
                (host, port),
                settings,
                self._ticket,
                random_bytes,
                tls,
                server_hostname or host if tls else None,
            )
            for _ in range(count)
        ]

    def _ticket(self) -> Ticket:
        assert self._loop is not None

        async def on_loop() -> Ticket:
            return await self._tickets()

        future = asyncio.run_coroutine_threadsafe(on_loop(), self._loop)
        try:
            return future.result(self._settings.stall_s)
        except TimeoutError:
            future.cancel()
            raise LinkCut("no ticket in time") from None

    async def send(
        self,
        data: bytes | bytearray | memoryview,
        *,
        transfer: bytes | None = None,
        generation: int = 0,
        hashed: bool = False,
        on_released: Callable[[bytes], None] | None = None,
    ) -> SendReport:
        """Send ``data`` and wait until the remote application has it; only then may its bytes change.

        ``hashed`` adds a SHA-256 over the whole to the checksums of the frames. ``on_released(transfer)`` is called
        once, just before this returns. Raises a HoseFault; then, and after cancellation, nothing reads ``data`` any
        more, and to send other bytes under the same id takes a higher ``generation``.
        """
        view = memoryview(data).cast("B")
        id_ = transfer or self._random(ID_BYTES)
        async with self._lock:
            self._loop = asyncio.get_running_loop()
            digest = await asyncio.to_thread(_sha256, view) if hashed else NO_DIGEST
            stripes = len(self._streams) if len(view) >= self._settings.stripe_bytes_min else 1
            jobs = [
                _Job(
                    Offer(id_, generation, len(view), *stripe_of(len(view), stripes, k), k, stripes, digest),
                    view,
                )
                for k in range(stripes)
            ]
            await self._run(jobs)
        if on_released is not None:
            on_released(id_)
        return SendReport(
            id_,
            len(view),
            sum(job.sent_bytes for job in jobs),
            sum(job.stored_bytes for job in jobs),
            sum(job.connections for job in jobs),
        )

    async def _run(self, jobs: list[_Job]) -> None:
        loop = asyncio.get_running_loop()
        futures = [
            loop.run_in_executor(self._pool, stream.send, job)
            for stream, job in zip(self._streams, jobs, strict=False)
        ]
        try:
            await asyncio.gather(*futures)
        except BaseException:
            for job, stream in zip(jobs, self._streams, strict=False):
                job.cancelled.set()
                stream.interrupt()
            # The threads read the caller's memory: whatever happens, they end first.
            await _settled(futures)
            raise

    async def ping(self) -> float:
        """Round trip in seconds. Raises a HoseFault."""
        async with self._lock:
            self._loop = asyncio.get_running_loop()
            token = int.from_bytes(self._random(8), "little")
            return await self._loop.run_in_executor(self._pool, self._streams[0].ping, token)

    async def close(self) -> None:
        """Close the connections, after the transfer that is running. Idempotent."""
        async with self._lock:
            for stream in self._streams:
                await asyncio.to_thread(stream.close)
            self._pool.shutdown(wait=False)


def _sha256(view: memoryview) -> bytes:
    return hashlib.sha256(view).digest()


async def _settled(futures: list[asyncio.Future[None]]) -> None:
    pending = {future for future in futures if not future.done()}
    while pending:
        try:
            _, pending = await asyncio.wait(pending)
        except asyncio.CancelledError:
            pending = {future for future in pending if not future.done()}
    for future in futures:
        if not future.cancelled():
            future.exception()  # seen, whichever of them is raised
