"""Payloads on their way to peers, and at them: one transfer for each payload and peer, however many need it there.

A transfer that came through is used again for as long as its payload lives, and released at the peer when the payload's
owner says that it is closed, or when it is collected. Bytes, of which that cannot be known, are released when the
requests that share them have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
import weakref
from collections.abc import AsyncIterator, Coroutine
from typing import Any
from urllib.parse import urlsplit

import msgspec
import structlog

from edgeagent.hose.errors import HoseFault, NoRoom, TooManyPeers, TransferTooLarge
from edgeagent.hose.frames import ID_BYTES
from edgeagent.hose.remote import SendReport, Ticket
from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import EdgeError, PeerFailed, StorageFull, TooLarge, Unavailable
from edgeagent.node.hose_lines import Address, Invitation, NoTicket, PeerLine, address_of
from edgeagent.node.meters import Meters
from edgeagent.node.peer_http import PeerHttp
from edgeagent.runtime.port import Payload

__all__ = ["TEXT_S", "Given", "NoHoses", "SendStats", "Shipments", "readable", "size_of"]

log = structlog.get_logger("hose")

TEXT_S = 10.0  # for requests that run nothing

Given = bytes | memoryview | Payload


class NoHoses(Unavailable):
    """A node takes no hoses; what would go by hose goes in bodies."""

    slug = "no-hoses"


class SendStats(msgspec.Struct):
    """What a node has sent to others since its start."""

    transfers: int = 0
    bytes: int = 0
    resumes: int = 0
    failed: int = 0

    def sent(self, report: SendReport) -> None:
        """A transfer came through."""
        self.transfers += 1
        self.bytes += report.length
        self.resumes += report.resumes

    def export(self, meters: Meters) -> None:
        """As counters of the node."""
        for name, doc, field in (
            ("hose_remote_sent", "transfers to other hosts", "transfers"),
            ("hose_remote_sent_bytes", "their bytes", "bytes"),
            ("hose_remote_sent_resumes", "times that one of them went on after a cut", "resumes"),
            ("hose_remote_failed", "transfers to other hosts that did not come through", "failed"),
        ):
            meters.counter(name, doc, lambda field=field: getattr(self, field))  # type: ignore[misc]


class _Shipment:
    """A payload that is at a peer, or on its way."""

    def __init__(self, given: Given, id_: bytes, sending: asyncio.Task[None]) -> None:
        self.id = id_.hex()
        self.sending = sending
        self.users = 0
        self.is_let_go = False
        self.watch: weakref.finalize[Any, Any] | None = None
        self._of = None if isinstance(given, bytes | memoryview) else weakref.ref(given)

    def is_of(self, given: Given) -> bool:
        """False when its payload is gone, and another one is where that lay."""
        return self._of is None or self._of() is given

    @property
    def is_there(self) -> bool:
        return self.sending.done() and not self.sending.cancelled() and self.sending.exception() is None


class Shipments:
    """On the event loop's thread."""

    def __init__(self, http: PeerHttp, stats: SendStats, node_id: str, tls: ssl.SSLContext | None) -> None:
        self._http = http
        self._stats = stats
        self._node_id = node_id
        self._tls = tls
        self._lines: dict[str, PeerLine] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._shipments: dict[tuple[str, int], _Shipment] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._shipments)

    def hosts(self) -> set[str]:
        """Where the configured peers are, as far as we know."""
        return self._http.hosts() | {line.address.host for line in self._lines.values()}

    @contextlib.asynccontextmanager
    async def shipped(self, peer: str, given: Given, *, again: bool = False) -> AsyncIterator[str]:
        """The id of the transfer, for as long as the request that names it runs; ``again`` when the peer has lost the
        last one.

        Raises NoHoses, PeerFailed, TooLarge, StorageFull, Unavailable.
        """
        key = (peer, id(given))
        shipment = self._shipments.get(key)
        if shipment is not None and not shipment.is_of(given):
            shipment = None  # it will be let go when the loop hears that its payload is gone
        if shipment is not None and again and shipment.is_there:
            self._forget(key, shipment)
            shipment = None
        if shipment is None:
            id_ = secrets.token_bytes(ID_BYTES)
            sending = asyncio.get_running_loop().create_task(self._send(peer, given, id_))
            shipment = self._shipments[key] = _Shipment(given, id_, sending)
        shipment.users += 1
        try:
            await asyncio.shield(shipment.sending)
            yield shipment.id
        finally:
            shipment.users -= 1
            if not shipment.users and self._shipments.get(key) is shipment:
                await self._unused(key, shipment, given)

    async def _unused(self, key: tuple[str, int], shipment: _Shipment, given: Given) -> None:
        if not shipment.is_there:
            del self._shipments[key]
            if not shipment.sending.done():
                shipment.sending.cancel()
                await asyncio.gather(shipment.sending, return_exceptions=True)
                self._spawn(self._release(key[0], shipment.id))  # it may have come through
        elif isinstance(given, bytes | memoryview):
            self._let_go(key, shipment)
        elif shipment.watch is None:
            loop = asyncio.get_running_loop()
            shipment.watch = weakref.finalize(given, _on_loop, loop, self._let_go, key, shipment)
            shipment.watch.atexit = False

    def drop(self, payload: Payload) -> None:
        """The payload is closed: nobody will ask for it again."""
        for key, shipment in list(self._shipments.items()):
            if key[1] == id(payload) and shipment.is_there and not shipment.users and shipment.is_of(payload):
                self._let_go(key, shipment)

    def _forget(self, key: tuple[str, int], shipment: _Shipment) -> None:
        if shipment.watch is not None:
            shipment.watch.detach()
        if self._shipments.get(key) is shipment:
            del self._shipments[key]

    def _let_go(self, key: tuple[str, int], shipment: _Shipment) -> None:
        if shipment.is_let_go:
            return
        shipment.is_let_go = True
        self._forget(key, shipment)
        self._spawn(self._release(key[0], shipment.id))

    async def _release(self, peer: str, id_: str) -> None:
        try:
            await self._http.request(peer, "DELETE", f"/v1/hoses/{id_}", b"", None, TEXT_S)
        except EdgeError as error:  # it expires there
            log.debug("a parcel was not released", peer=peer, why=error.message)

    async def _send(self, peer: str, given: Given, id_: bytes) -> None:
        data = given if isinstance(given, bytes | memoryview) else await asyncio.to_thread(readable, given)
        for is_last in (False, True):
            line = await self._line(peer, len(data))
            await self._http.cross(self._http.url(peer))
            try:
                report = await line.send(data, id_, is_new=not is_last)
            except HoseFault as fault:
                if line.has_moved:
                    await self._retire(peer, line)
                    if not is_last:
                        continue
                self._stats.failed += 1
                raise _error_of(fault, peer) from None
            self._stats.sent(report)
            return
        raise AssertionError("unreachable")

    async def _line(self, peer: str, size: int) -> PeerLine:
        async with self._locks.setdefault(peer, asyncio.Lock()):
            line = self._lines.get(peer)
            if line is None:
                address, ticket = await self._ask(peer, size)
                line = PeerLine(address, ticket, lambda: self._ask(peer, 0), self._tls)
                self._lines[peer] = line
            return line

    async def _retire(self, peer: str, line: PeerLine) -> None:
        if self._lines.get(peer) is line:
            del self._lines[peer]
        await line.retire()

    async def _ask(self, peer: str, size: int) -> tuple[Address, Ticket]:
        body = msgspec.json.encode({"peer": self._node_id, "bytes": size})
        headers = {"Content-Type": "application/json"}
        reply = await self._http.request(peer, "POST", "/v1/hoses/tickets", body, headers, TEXT_S)
        try:
            invitation = msgspec.json.decode(reply.body, type=Invitation)
        except UNDECODABLE:
            raise PeerFailed(f"the peer {peer} answered with no ticket", peer=peer) from None
        address = address_of(urlsplit(self._http.url(peer)).hostname or "", invitation)
        if address is None:
            raise NoHoses(
                f"the peer {peer} takes hoses on its loopback only",
                hint="set hose.listen there to an address that this node reaches",
            )
        if address.tls and self._tls is None:
            raise NoHoses(
                f"the peer {peer} takes hoses over TLS, and this node has no keys",
                hint="make keys with edgeagent keys, and name the folder in mesh.keys",
            )
        return address, invitation.as_ticket(peer)

    async def close(self) -> None:
        """Idempotent."""
        sendings = [shipment.sending for shipment in self._shipments.values()]
        for key, shipment in list(self._shipments.items()):
            shipment.sending.cancel()
            self._forget(key, shipment)
        await asyncio.gather(*sendings, return_exceptions=True)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for line in self._lines.values():
            await line.close()
        self._lines.clear()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _on_loop(loop: asyncio.AbstractEventLoop, call: Any, *arguments: Any) -> None:
    """A payload is gone, on whatever thread it went."""
    with contextlib.suppress(RuntimeError):  # the loop is closed: the peer finds out by itself
        loop.call_soon_threadsafe(call, *arguments)


def _error_of(fault: HoseFault, peer: str) -> EdgeError:
    """What a transfer that failed means for who wanted it."""
    if isinstance(fault, NoTicket):
        fault.error.details.setdefault("peer", peer)
        return fault.error
    kinds = ((TransferTooLarge, TooLarge), (NoRoom, StorageFull), (TooManyPeers, Unavailable))
    kind = next((ours for theirs, ours in kinds if isinstance(fault, theirs)), PeerFailed)
    again_s = fault.retry_after_s or (None if kind in {PeerFailed, TooLarge} else 1.0)
    return kind(f"the peer {peer} did not get the data: {fault.message}", retry_after_s=again_s, peer=peer)


def size_of(given: Given) -> int:
    """Bytes of what is given."""
    return len(given) if isinstance(given, bytes | memoryview) else given.size


def readable(payload: Payload) -> bytes | memoryview:
    """The payload's bytes, where they lie. Blocking."""
    payload.share()  # then it is read where it lies
    return payload.read()
