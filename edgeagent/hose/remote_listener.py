"""The listening side of cross-host hoses: admits invited peers and receives straight into given buffers.

The loop accepts and delivers; each connection has a thread (remote_link says why), and their number is bounded, those
that have not shown a ticket apart from those that have.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from edgeagent.hose.errors import FrameRefused, HoseFault, TicketRefused
from edgeagent.hose.inbox import Inbox
from edgeagent.hose.remote_buffers import Allocate, Delivery
from edgeagent.hose.remote_incoming import Shared
from edgeagent.hose.remote_link import Link, is_loopback, tune
from edgeagent.hose.remote_session import Session
from edgeagent.hose.remote_settings import ListenerStats, RemoteSettings, check_plain
from edgeagent.hose.tickets import Scope, Ticket, TicketBook

__all__ = ["RemoteListener"]

log = structlog.get_logger("hose")

BACKLOG = 64
ACCEPT_RETRY_S = 0.1
REAP_EVERY_S = 1.0


class RemoteListener:
    """``deliver`` gets each whole transfer; when it returns the sender gets its ACK, and what it raises refuses the
    transfer. A coroutine function runs on the loop, any other on the connection's thread, which saves going to the loop
    and back. All methods on the loop's thread.

    ``clock`` and ``random_bytes`` are ``time.monotonic`` and ``secrets.token_bytes`` in a node.
    """

    def __init__(
        self,
        settings: RemoteSettings,
        allocate: Allocate,
        deliver: Callable[[Delivery], Awaitable[None] | None],
        *,
        clock: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.settings = settings
        self.stats = ListenerStats()
        self._tls = tls
        book = TicketBook(random_bytes, tickets_max=settings.tickets_max)
        inbox = Inbox(
            transfers_max=settings.transfers_max,
            held_bytes_max=settings.held_bytes_max,
            window_bytes=settings.window_bytes,
            payload_bytes_max=settings.payload_bytes,
            keep_s=settings.keep_s,
        )
        self._shared = Shared(settings, self.stats, book, inbox, allocate, clock, random_bytes, self._deliver)
        self._app_deliver = deliver
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sockets: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        # Guarded by the shared lock: threads leave on their own.
        self._links: dict[Link, threading.Thread] = {}
        self._handshakes: Counter[str] = Counter()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; returns the port. Raises PlainLinkRefused beyond loopback without TLS, and OSError."""
        self._loop = asyncio.get_running_loop()
        found = await self._loop.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
        addresses = [(family, address) for family, _, _, _, address in found]
        if self._tls is None:
            for _, address in addresses:
                check_plain(str(address[0]))
        try:
            for family, address in addresses:
                bound = (address[0], self.port if self._sockets and not port else port, *address[2:])
                self._sockets.append(_listening(family, bound))
        except OSError:
            self._close_sockets()
            raise
        self._tasks = [asyncio.create_task(self._accept(sock)) for sock in self._sockets]
        self._tasks.append(asyncio.create_task(self._reap()))
        return self.port

    @property
    def host(self) -> str:
        """The address that is listened on."""
        return str(self._sockets[0].getsockname()[0])

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._sockets[0].getsockname()[1])

    def issue_ticket(self, scope: Scope, *, ttl_s: float = 60.0, uses: int = 1) -> Ticket:
        """A ticket for the HTTP side to hand out. Raises TooManyPeers."""
        with self._shared.lock:
            return self._shared.book.issue(scope, self._shared.clock(), ttl_s=ttl_s, uses=uses)

    def revoke_ticket(self, ticket: bytes) -> bool:
        """Take a ticket back; connections that it has opened stay."""
        with self._shared.lock:
            return self._shared.book.revoke(ticket)

    async def stop(self) -> None:
        """Close the listener and every connection; buffers of unfinished transfers are closed. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._close_sockets()
        self._shared.stop()
        with self._shared.lock:
            links = dict(self._links)
        for link in links:
            link.interrupt()
        for thread in links.values():
            await asyncio.to_thread(thread.join)
        self._shared.close_all()

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listening)
            except OSError as error:
                # Out of descriptors, most likely: what is open will close, and the backlog waits.
                log.warning("hose accept failed", error=str(error))
                await asyncio.sleep(ACCEPT_RETRY_S)
                continue
            self._admit(sock, str(address[0]))

    def _admit(self, sock: socket.socket, host: str) -> None:
        with self._shared.lock:
            full = (
                len(self._links) >= self.settings.connections_max
                or self._handshakes.total() >= self.settings.handshakes_max
                or self._handshakes[host] >= self.settings.handshakes_max_per_host
            )
        if full:
            self.stats.connections_refused += 1
            sock.close()
            return
        try:
            link = Link(sock, stall_s=self.settings.handshake_s)
        except (OSError, HoseFault):
            sock.close()
            return
        thread = threading.Thread(target=self._serve, args=(link, host), name="hose-link", daemon=True)
        with self._shared.lock:
            self.stats.connections += 1
            self._links[link] = thread
            self._handshakes[host] += 1
        try:
            thread.start()
        except RuntimeError:  # no thread to be had
            self._handshake_over(host)
            self._gone(link)

    def _serve(self, link: Link, host: str) -> None:
        """One connection, on its thread, from its first byte to its last."""
        try:
            try:
                if self._tls is not None:
                    link.secure(self._tls, server_side=True)
                session = Session(link, self._shared, compress=not is_loopback(host))
                session.handshake()
            finally:
                self._handshake_over(host)
            session.run()
        except HoseFault as fault:
            self._count(fault)
            link.end(fault)
        except Exception:
            log.exception("hose connection failed", peer=host)
            link.end(HoseFault("a fault of the node"))
        finally:
            self._gone(link)

    def _count(self, fault: HoseFault) -> None:
        with self._shared.lock:
            self.stats.tickets_refused += isinstance(fault, TicketRefused)
            self.stats.faults += 1
        if isinstance(fault, FrameRefused | TicketRefused):
            # Anybody can cause these: the counters tell, and the log does not fill up.
            log.debug("hose connection refused", reason=fault.message)

    def _handshake_over(self, host: str) -> None:
        with self._shared.lock:
            self._handshakes[host] -= 1
            if not self._handshakes[host]:
                del self._handshakes[host]  # bounded by those at the door, not by all who ever came

    def _gone(self, link: Link) -> None:
        link.close()
        with self._shared.lock:
            self._links.pop(link, None)

    def _deliver(self, delivery: Delivery, within_s: float) -> None:
        """On a connection's thread: have the application take a transfer. Raises what it raises, or TimeoutError."""
        assert self._loop is not None
        taken = self._app_deliver(delivery)
        if taken is None:
            return

        async def take() -> None:
            await taken

        future = asyncio.run_coroutine_threadsafe(take(), self._loop)
        try:
            future.result(within_s)
        except TimeoutError:
            future.cancel()
            raise

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(min(REAP_EVERY_S, self.settings.keep_s))
            # Unmapping a large buffer takes tens of milliseconds.
            with suppress(RuntimeError):
                await asyncio.to_thread(self._shared.expire)


def _listening(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        tune(sock)  # before listen: the window's scale is settled with the first packet
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
