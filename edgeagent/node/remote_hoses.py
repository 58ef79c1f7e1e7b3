"""Chains and messages that go on at another host: who sends what over which hose, once per host.

A payload of at least ``bytes_min`` travels by hose (docs/hose-wire.md) and is named in the HTTP request that uses it;
smaller ones are the request's body. While one payload is on its way or in use at a peer, further requests for it there
name the same transfer. What comes back is sent the same way, to the ticket that came with the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import structlog

from edgeagent.hose.errors import HoseFault, LinkCut
from edgeagent.hose.remote import RemoteClient, RemoteSettings, Scope, Ticket
from edgeagent.model.errors import BadRequest, DeadlineExceeded, EdgeError, PeerFailed, Unavailable
from edgeagent.node.hose_inbox import HoseInbox, Invitation
from edgeagent.node.meters import Meters
from edgeagent.node.peer_http import PeerHttp, PeerReply
from edgeagent.node.result import Result, Step
from edgeagent.runtime.port import Payload

__all__ = ["HOPS_MAX", "RemoteHoses"]

log = structlog.get_logger("hose")

HOPS_MAX = 8
BACK_LINES_MAX = 16
_TEXT_S = 10.0  # for requests that run nothing

Given = bytes | memoryview | Payload


class _Line:
    """Connections to one hose listener."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self.port = port
        self.tickets: list[Ticket] = []
        self.client = RemoteClient(
            host, port, self._ticket, RemoteSettings(), random_bytes=secrets.token_bytes, tls=tls
        )

    async def _ticket(self) -> Ticket:
        if not self.tickets:
            raise LinkCut("no ticket is left for another connection")
        return self.tickets.pop()


class _PeerLine(_Line):
    """To a configured peer, which is asked for tickets as they are needed."""

    def __init__(
        self, owner: RemoteHoses, peer: str, host: str, first: Invitation, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(host, first.port, tls)
        self.has_moved = False
        self._owner = owner
        self._peer = peer
        self.tickets.append(_ticket_of(first, peer))

    async def _ticket(self) -> Ticket:
        if self.tickets:
            return self.tickets.pop()
        try:
            invitation = await self._owner.invitation(self._peer)
        except EdgeError as error:
            raise LinkCut(error.message) from None
        if invitation.port != self.port:  # it was started again, and listens elsewhere
            self.has_moved = True
            raise LinkCut(f"{self._peer} listens on another port now")
        return _ticket_of(invitation, self._peer)


class _Shipment:
    """A payload that is at a peer, or on its way."""

    def __init__(self, sending: asyncio.Task[str]) -> None:
        self.sending = sending
        self.users = 0


class RemoteHoses:
    """On the event loop's thread."""

    def __init__(
        self,
        http: PeerHttp,
        inbox: HoseInbox,
        meters: Meters,
        *,
        node_id: str,
        bytes_min: int,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._http = http
        self._inbox = inbox
        self._meters = meters
        self._node_id = node_id
        self._bytes_min = bytes_min
        self._tls = tls
        self._lines: dict[str, _PeerLine] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._back: dict[tuple[str, int, str], _Line] = {}
        self._shipments: dict[tuple[str, int], _Shipment] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- chains --------------------------------------------------------------------------------------------------------

    async def call(
        self,
        peer: str,
        steps: Sequence[str],
        given: Given,
        *,
        wall_ms: float = 0,
        hops: int = 0,
        traceparent: str = "",
    ) -> Result:
        """Run the steps at the peer, on ``given``, which stays the caller's; the result has their ``steps``, and a
        ``payload`` (the caller's to close) where the output came by hose.

        Raises NotFound for a peer that is not configured, BadRequest at the hop limit, PeerFailed, DeadlineExceeded,
        and what the peer raised.
        """
        if hops >= HOPS_MAX:
            raise BadRequest(
                f"the chain has gone over {hops} hosts",
                hint=f"at most {HOPS_MAX}: do its steps send it in a circle?",
            )
        headers = {"Edgeagent-Hops": str(hops + 1)}
        if steps[1:]:
            headers["Edgeagent-Then"] = ",".join(steps[1:])
        if wall_ms > 0:
            headers["Edgeagent-Deadline-Ms"] = f"{wall_ms:.6f}"
        if traceparent:
            headers["traceparent"] = traceparent
        back = self._inbox.invite(peer) if self._inbox.is_open else None
        if back is not None:
            headers["Edgeagent-Hose-Return"] = msgspec.json.encode(back).decode()
        path = f"/functions/{quote(steps[0], safe='@+')}"
        try:
            async with asyncio.timeout(wall_ms / 1000 if wall_ms > 0 else None):
                reply = await self._post(peer, path, given, headers, wall_ms / 1000)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the deadline passed before the peer {peer} had answered", peer=peer
            ) from None
        finally:
            if back is not None:
                self._inbox.revoke(back)
        return self._result(peer, reply, _size(given))

    def _result(self, peer: str, reply: PeerReply, sent_bytes: int) -> Result:
        try:
            steps = msgspec.json.decode(reply.headers["edgeagent-steps"], type=tuple[Step, ...])
        except (KeyError, msgspec.DecodeError):
            raise PeerFailed(
                f"the peer {peer} did not say what it ran: is it an edgeagent?", peer=peer
            ) from None
        node = reply.headers.get("edgeagent-node", "")
        steps = tuple(
            msgspec.structs.replace(
                step, node=step.node or node, wire_bytes=step.wire_bytes or (sent_bytes if i == 0 else 0)
            )
            for i, step in enumerate(steps)
        )
        duration_us = sum(step.duration_us for step in steps)
        id_ = reply.headers.get("edgeagent-hose-output")
        if id_ is None:
            return Result(output=reply.body, duration_us=duration_us, steps=steps)
        return Result(output=b"", duration_us=duration_us, steps=steps, payload=self._inbox.parcels.take(id_))

    def check(self, peer: str) -> None:
        """Raises NotFound for a peer that is not configured."""
        self._http.url(peer)

    # -- messages ------------------------------------------------------------------------------------------------------

    async def send(self, peer: str, name: str, payload: Payload, sender: str) -> None:
        """A message to NAME at the peer; returns when it has room for it. Raises as ``call`` does."""
        headers = {"Edgeagent-Hose-Sender": sender, "Edgeagent-Hops": str(payload.hops)}
        await self._post(peer, f"/v1/hoses/streams/{quote(name)}", payload, headers, 0)

    async def open(self, peer: str, name: str, sender: str) -> None:
        """The stream does not end before ``close``."""
        await self._tell(peer, "PUT", name, sender)

    async def close_stream(self, peer: str, name: str, sender: str) -> None:
        """The sender sends no more."""
        await self._tell(peer, "DELETE", name, sender)

    async def _tell(self, peer: str, method: str, name: str, sender: str) -> None:
        headers = {"Edgeagent-Hose-Sender": sender}
        await self._http.request(peer, method, f"/v1/hoses/streams/{quote(name)}", b"", headers, _TEXT_S)

    # -- what comes back -----------------------------------------------------------------------------------------------

    async def give_back(self, host: str, invitation: Invitation, peer: str, payload: Payload) -> str | None:
        """Send an output to who asked for it, at the address that the request came from; its id, or None where that
        does not work: then it goes in the reply's body.
        """
        if payload.size < self._bytes_min:
            return None
        key = (host, invitation.port, peer)
        line = self._back.pop(key, None)
        if line is None:
            line = _Line(host, invitation.port, self._tls)
        self._back[key] = line  # the one used last comes last
        line.tickets[:] = [_ticket_of(invitation, peer)]
        try:
            return await self._ship(line, payload)
        except HoseFault as fault:
            log.warning("an output goes back over HTTP", peer=peer, why=fault.message)
            self._meters.count("hose_remote_failed")
            del self._back[key]
            await line.client.close()
            return None
        finally:
            while len(self._back) > BACK_LINES_MAX:
                self._spawn(self._back.pop(next(iter(self._back))).client.close())

    # -- transfers -----------------------------------------------------------------------------------------------------

    async def invitation(self, peer: str) -> Invitation:
        """Ask the peer for a ticket. Raises Unavailable where it takes no hoses, PeerFailed."""
        reply = await self._http.request(peer, "POST", "/v1/hoses/tickets", b"", None, _TEXT_S)
        try:
            return msgspec.json.decode(reply.body, type=Invitation)
        except msgspec.DecodeError:
            raise PeerFailed(f"the peer {peer} answered with no ticket", peer=peer) from None

    async def _post(
        self, peer: str, path: str, given: Given, headers: dict[str, str], timeout_s: float
    ) -> PeerReply:
        if _size(given) >= self._bytes_min:
            try:
                async with self._shipped(peer, given) as id_:
                    headers["Edgeagent-Hose-Input"] = id_
                    return await self._http.request(peer, "POST", path, b"", headers, timeout_s)
            except Unavailable as error:
                if "no_hoses" not in error.details:
                    raise
                headers.pop("Edgeagent-Hose-Input", None)
        body = given if isinstance(given, bytes | memoryview) else await asyncio.to_thread(given.read)
        return await self._http.request(peer, "POST", path, body, headers, timeout_s)

    @contextlib.asynccontextmanager
    async def _shipped(self, peer: str, given: Given) -> AsyncIterator[str]:
        """The id of the transfer, for as long as the request that names it runs."""
        key = (peer, id(given))
        shipment = self._shipments.get(key)
        if shipment is None:
            shipment = _Shipment(asyncio.get_running_loop().create_task(self._ship_to(peer, given)))
            self._shipments[key] = shipment
        shipment.users += 1
        try:
            yield await asyncio.shield(shipment.sending)
        finally:
            shipment.users -= 1
            if not shipment.users:
                del self._shipments[key]
                await self._unship(peer, shipment.sending)

    async def _unship(self, peer: str, sending: asyncio.Task[str]) -> None:
        if not sending.done():
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        if not sending.cancelled() and sending.exception() is None:
            self._spawn(self._release(peer, sending.result()))

    async def _release(self, peer: str, id_: str) -> None:
        try:
            await self._http.request(peer, "DELETE", f"/v1/hoses/{id_}", b"", None, _TEXT_S)
        except EdgeError as error:  # it expires there
            log.debug("a parcel was not released", peer=peer, why=error.message)

    async def _ship_to(self, peer: str, given: Given) -> str:
        for is_last in (False, True):
            line = await self._line(peer)
            try:
                return await self._ship(line, given)
            except HoseFault as fault:
                self._lines.pop(peer, None)
                await line.client.close()
                self._meters.count("hose_remote_failed")
                if isinstance(fault, LinkCut) and line.has_moved and not is_last:
                    continue
                raise PeerFailed(
                    f"the peer {peer} did not get the data: {fault.message}", peer=peer
                ) from None
        raise AssertionError("unreachable")

    async def _line(self, peer: str) -> _PeerLine:
        async with self._locks.setdefault(peer, asyncio.Lock()):
            line = self._lines.get(peer)
            if line is None:
                host = urlsplit(self._http.url(peer)).hostname or ""
                line = self._lines[peer] = _PeerLine(self, peer, host, await self.invitation(peer), self._tls)
            return line

    async def _ship(self, line: _Line, given: Given) -> str:
        data = given if isinstance(given, bytes | memoryview) else await asyncio.to_thread(_readable, given)
        report = await line.client.send(data)
        self._meters.count("hose_remote_sent")
        self._meters.count("hose_remote_sent_bytes", report.length)
        return report.transfer.hex()

    async def close(self) -> None:
        """Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for line in (*self._lines.values(), *self._back.values()):
            await line.client.close()
        self._lines.clear()
        self._back.clear()
        await self._http.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _size(given: Given) -> int:
    return len(given) if isinstance(given, bytes | memoryview) else given.size


def _readable(payload: Payload) -> bytes | memoryview:
    payload.share()  # then it is read where it lies
    return payload.read()


def _ticket_of(invitation: Invitation, peer: str) -> Ticket:
    scope = Scope(peer, invitation.transfer_bytes_max)
    try:
        id_, secret = bytes.fromhex(invitation.ticket), bytes.fromhex(invitation.secret)
    except ValueError:
        raise LinkCut("the ticket is no ticket") from None
    return Ticket(id_, secret, invitation.expires_s, scope)
