"""What other nodes ask of this one's hoses: tickets, the end of a parcel, and streams."""

from __future__ import annotations

import re
import time

import msgspec
from aiohttp import web

from edgeagent.http.body import read_body
from edgeagent.http.headers import check_peer, read_hops, read_peer
from edgeagent.http.router import Route
from edgeagent.http.routes_functions import json_reply
from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import BadRequest
from edgeagent.node.hose_lines import TicketRequest
from edgeagent.node.mailboxes import Message
from edgeagent.node.node import Node

__all__ = ["HoseRoutes"]

_TICKET_BYTES_MAX = 4096
_SENDER = re.compile(r"[\x21-\x7e]{1,64}")


class HoseRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._body_s = node.config.http.body_timeout_ms / 1000

    def routes(self) -> list[Route]:
        stream = "/v1/hoses/streams/{name}"
        return [
            Route("POST", "/v1/hoses/tickets", self.ticket, "From another node: a ticket for the hose port"),
            Route(
                "DELETE",
                "/v1/hoses/{id}",
                self.release,
                "From another node: a transfer is not needed any more",
            ),
            Route("POST", stream, self.message, "From another node: a message to a function or hose"),
            Route("PUT", stream, self.open, "From another node: it will send messages"),
            Route("DELETE", stream, self.close, "From another node: it sends no more"),
        ]

    async def ticket(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        try:
            wanted = msgspec.json.decode(
                await read_body(request, _TICKET_BYTES_MAX, self._body_s), type=TicketRequest
            )
        except UNDECODABLE as error:
            raise BadRequest(
                f"a ticket is asked for by JSON: {error}",
                hint='{"peer": NODE ID, "bytes": SIZE OF THE PAYLOAD}',
            ) from None
        check_peer(wanted.peer, "peer")
        invitation = self._node.hose_inbox.invite(wanted.peer, count=wanted.bytes)
        return json_reply(msgspec.to_builtins(invitation), status=201)

    async def release(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        self._node.hose_inbox.parcels.release(path["id"])
        return web.Response(status=204)

    async def message(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        sender = _sender(request)
        hops = read_hops(request.headers)
        id_ = request.headers.get("Edgeagent-Hose-Input", "")
        body = await read_body(request, self._node.config.http.body_bytes_max, self._body_s)
        if id_ and body:
            raise BadRequest("a message has a body or Edgeagent-Hose-Input, not both")
        message = self._of_parcel(id_) if id_ else Message(self._node.engine.payload_of(body))
        message.payload.hops = max(hops, message.payload.hops)
        await self._node.streams_in.message(path["name"], message, sender)
        return web.Response(status=204)

    def _of_parcel(self, id_: str) -> Message:
        parcels = self._node.hose_inbox.parcels
        payload = parcels.use(id_)
        return Message(payload, lambda: parcels.done(id_, time.monotonic()), owned=False)

    async def open(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        self._node.streams_in.open(path["name"], _sender(request))
        return web.Response(status=204)

    async def close(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        self._node.streams_in.close(path["name"], _sender(request))
        return web.Response(status=204)


def _peer(request: web.BaseRequest) -> str:
    peer = read_peer(request.headers)
    if not peer:
        raise BadRequest("Edgeagent-Peer is missing", hint="it says which node asks")
    return peer


def _sender(request: web.BaseRequest) -> tuple[str, str]:
    sender = request.headers.get("Edgeagent-Hose-Sender", "")
    if not _SENDER.fullmatch(sender):
        raise BadRequest("Edgeagent-Hose-Sender must be 1 to 64 visible ASCII characters")
    return _peer(request), sender
