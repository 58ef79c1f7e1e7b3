"""Chains and messages that go on at another host: who sends what over which hose, once per host.

A payload of at least ``bytes_min`` travels by hose (docs/hose-wire.md) and is named in the HTTP request that uses it;
smaller ones are the request's body. What comes back is sent the same way, to the ticket that came with the request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import quote, urlsplit

import msgspec
import structlog

from edgeagent.hose.errors import HoseFault
from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import BadRequest, DeadlineExceeded, EdgeError, NotFound, PeerFailed
from edgeagent.model.run_tag import SESSION_HEADER
from edgeagent.node.hose_inbox import RETURN_USES, HoseInbox
from edgeagent.node.hose_lines import Address, BackLine, Invitation, is_here
from edgeagent.node.meters import Meters
from edgeagent.node.peer_http import PeerHttp, PeerReply
from edgeagent.node.result import Result, Step
from edgeagent.node.shipments import TEXT_S, Given, NoHoses, SendStats, Shipments, readable, size_of
from edgeagent.runtime.port import Payload

__all__ = ["HOPS_MAX", "WIRE", "RemoteHoses"]

log = structlog.get_logger("hose")

HOPS_MAX = 8
WIRE = "wire"  # the tier of what came from another host
BACK_LINES_MAX = 16


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
        self.stats = SendStats()
        self.stats.export(meters)
        self._http = http
        self._inbox = inbox
        self._bytes_min = bytes_min
        self._tls = tls
        self._shipments = Shipments(http, self.stats, node_id, tls)
        self._back: dict[Address, BackLine] = {}

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
        headers: Mapping[str, str] | None = None,
    ) -> Result:
        """Run the steps at the peer, on ``given``, which stays the caller's; the result has their ``steps``, and a
        ``payload`` (the caller's to close) where the output came by hose. ``headers`` go with the request.

        Raises UnknownPeer for one that is not configured, BadRequest at the hop limit, PeerFailed, DeadlineExceeded,
        TooLarge, StorageFull and Unavailable where the peer has no room for the data, and what the peer raised.
        """
        if hops >= HOPS_MAX:
            raise BadRequest(
                f"the chain has gone over {hops} hosts",
                hint=f"at most {HOPS_MAX}: do its steps send it in a circle?",
            )
        headers = {"Edgeagent-Hops": str(hops + 1), **(headers or {})}
        if steps[1:]:
            headers["Edgeagent-Then"] = ",".join(steps[1:])
        if wall_ms > 0:
            headers["Edgeagent-Deadline-Ms"] = f"{wall_ms:.6f}"
        if traceparent:
            headers["traceparent"] = traceparent
        back = self._invite_back(peer)
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
        return self._result(peer, reply, size_of(given))

    def _invite_back(self, peer: str) -> Invitation | None:
        """A ticket for the output, where the peer can reach us with it."""
        here_only = is_here(self._inbox.host) and not is_here(urlsplit(self._http.url(peer)).hostname or "")
        if not self._inbox.is_open or here_only:
            return None
        try:
            return self._inbox.invite(peer, uses=RETURN_USES)
        except EdgeError as error:  # the output comes in the reply
            log.warning("no ticket for what a peer returns", peer=peer, why=error.message)
            return None

    def _result(self, peer: str, reply: PeerReply, sent_bytes: int) -> Result:
        try:
            steps = msgspec.json.decode(reply.headers["edgeagent-steps"], type=tuple[Step, ...])
        except (*UNDECODABLE, KeyError):
            raise PeerFailed(
                f"the peer {peer} did not say what it ran: is it an edgeagent?", peer=peer
            ) from None
        node = reply.headers.get("edgeagent-node", "")
        steps = tuple(msgspec.structs.replace(step, node=step.node or node) for step in steps)
        if steps:
            first = msgspec.structs.replace(steps[0], hose=WIRE, wire_bytes=sent_bytes)
            steps = (first, *steps[1:])
        result = Result(
            output=b"",
            duration_us=sum(step.duration_us for step in steps),
            energy_uj=sum(step.energy_uj for step in steps),
            gpu_us=sum(step.gpu_us for step in steps),
            steps=steps,
            session=reply.headers.get(SESSION_HEADER.lower(), ""),
            backend="gpu" if reply.headers.get("edgeagent-backend") == "gpu" else "cpu",
        )
        id_ = reply.headers.get("edgeagent-hose-output")
        if id_ is None:
            result.output = reply.body
            return result
        try:
            result.payload = self._inbox.parcels.take(id_)
        except NotFound:
            raise PeerFailed(f"the output of the peer {peer} is not here", peer=peer) from None
        return result

    async def ask(
        self,
        peer: str,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 0.0,
    ) -> PeerReply:
        """A request to a peer or a member that runs nothing. Raises as :meth:`PeerHttp.request` does."""
        return await self._http.request(peer, method, path, body, headers, timeout_s)

    async def exchange(self, peer: str, path: str, data: bytes | memoryview, timeout_s: float) -> PeerReply:
        """As ``deliver``, and the answer."""
        return await self._post(peer, path, data, {}, timeout_s)

    async def deliver(self, peer: str, path: str, data: bytes | memoryview, timeout_s: float) -> None:
        """Data for a path of a peer, by hose where they are many. Raises as ``call`` does."""
        await self._post(peer, path, data, {}, timeout_s)

    def members(self, url_of: Callable[[str], str | None]) -> None:
        """From now on members of the mesh are peers, by their ids."""
        self._http.member_url = url_of

    def check(self, peer: str) -> None:
        """Raises UnknownPeer for one that is not configured."""
        self._http.url(peer)

    def drop(self, payload: Payload) -> None:
        """The payload, which was given to ``call``, is closed. Who does not say so keeps it alive at the peers for
        longer: until it is collected, or until nobody has used it there for a while.
        """
        self._shipments.drop(payload)

    async def _post(
        self, peer: str, path: str, given: Given, headers: dict[str, str], timeout_s: float
    ) -> PeerReply:
        if size_of(given) >= self._bytes_min:
            try:
                return await self._post_id(peer, path, given, headers, timeout_s)
            except NoHoses:
                headers.pop("Edgeagent-Hose-Input", None)
        body = given if isinstance(given, bytes | memoryview) else await asyncio.to_thread(given.read)
        return await self._http.request(peer, "POST", path, body, headers, timeout_s)

    async def _post_id(
        self, peer: str, path: str, given: Given, headers: dict[str, str], timeout_s: float
    ) -> PeerReply:
        for again in (False, True):
            async with self._shipments.shipped(peer, given, again=again) as id_:
                headers["Edgeagent-Hose-Input"] = id_
                try:
                    return await self._http.request(peer, "POST", path, b"", headers, timeout_s)
                except NotFound as error:
                    if again or error.details.get("parcel") != id_:
                        raise  # else nothing was run: it has expired there, or the peer was started again
        raise AssertionError("unreachable")

    # -- messages ------------------------------------------------------------------------------------------------------

    async def send(self, peer: str, name: str, payload: Payload, sender: str) -> None:
        """A message to NAME at the peer; returns when it has room for it. Raises as ``call`` does."""
        headers = {"Edgeagent-Hose-Sender": sender, "Edgeagent-Hops": str(payload.hops)}
        try:
            await self._post(peer, f"/v1/hoses/streams/{quote(name)}", payload, headers, 0)
        finally:
            self.drop(payload)  # a message has one receiver

    async def open(self, peer: str, name: str, sender: str) -> None:
        """The stream does not end before ``close``."""
        await self._tell(peer, "PUT", name, sender)

    async def close_stream(self, peer: str, name: str, sender: str) -> None:
        """The sender sends no more."""
        await self._tell(peer, "DELETE", name, sender)

    async def _tell(self, peer: str, method: str, name: str, sender: str) -> None:
        headers = {"Edgeagent-Hose-Sender": sender}
        await self._http.request(peer, method, f"/v1/hoses/streams/{quote(name)}", b"", headers, TEXT_S)

    def emulate(self, crossing: Callable[[str], Awaitable[None]]) -> None:
        """From now on what is sent to peers takes its time on the way."""
        self._http.crossing = crossing

    # -- what comes back -----------------------------------------------------------------------------------------------

    async def give_back(self, host: str, invitation: Invitation, peer: str, payload: Payload) -> str | None:
        """Send an output to who asked for it, at the address that the request came from; its id, or None where that
        does not work: then it goes in the reply's body.
        """
        address = self._way_back(host, invitation) if payload.size >= self._bytes_min else None
        if address is None:
            return None
        await self._http.cross(peer)
        data = await asyncio.to_thread(readable, payload)
        line = self._back.pop(address, None) or BackLine(address, self._tls)
        self._back[address] = line  # the one used last comes last
        try:
            report = await line.send_with(invitation.as_ticket(peer), RETURN_USES, data)
        except HoseFault as fault:
            log.warning("an output goes back over HTTP", peer=peer, why=fault.message)
            self.stats.failed += 1
            return None
        finally:
            while len(self._back) > BACK_LINES_MAX:
                await self._back.pop(next(iter(self._back))).retire()
        self.stats.sent(report)
        return report.transfer.hex()

    def _way_back(self, host: str, invitation: Invitation) -> Address | None:
        """Who asks says where it listens, but cannot make us call others than itself and the peers."""
        named = invitation.host or host
        if invitation.tls and self._tls is None:
            return None
        known = named == host or (is_here(named) and is_here(host)) or named in self._shipments.hosts()
        return Address(named, invitation.port, named, invitation.tls) if named and known else None

    async def close(self) -> None:
        """Idempotent."""
        await self._shipments.close()
        for line in self._back.values():
            await line.close()
        self._back.clear()
        await self._http.close()
