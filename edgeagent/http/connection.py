"""One client connection: aiohttp's handler plus the bounds that keep slow or too many clients from hurting others."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from edgeagent.http.lane import Answer, LaneParser
from edgeagent.http.problems import problem_reply
from edgeagent.model.errors import BadRequest, Internal, TooLarge, Unavailable

__all__ = ["BoundedServer", "Connection"]

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b"
)


class Connection(RequestHandler):
    """Closes a connection whose request head is not complete in time; answers protocol errors as problems."""

    __slots__ = ("_head_timer", "_server")

    def __init__(self, server: BoundedServer, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._server = server
        self._head_timer: asyncio.TimerHandle | None = None
        if server.answer is not None:
            self._parser = LaneParser(self._parser, self, server.answer)  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        server = self._server
        if len(server.connections) >= server.connections_max:
            server.on_refused()
            transport.write(server.full_reply)  # type: ignore[attr-defined]
            transport.close()
            return
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._heads()
        super().data_received(data)
        if self._heads() != before:
            if self._head_timer is not None:
                self._stop_head_timer()
        elif self._head_timer is None and self._waiter is not None and not self._waiter.done():
            self._await_head()  # between requests, and the next head has begun but is not complete

    def _heads(self) -> int:
        """Request heads that this connection has completed."""
        parser: Any = self._parser
        served = parser.served if isinstance(parser, LaneParser) else 0
        return int(self._request_count) + served

    def _await_head(self) -> None:
        self._head_timer = self._loop.call_later(self._server.head_timeout_s, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        self._server.on_slow()
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What aiohttp itself refuses (malformed HTTP, over-long heads): a problem, then the connection closes."""
        # What the parser stumbled over stays out of it: it may be long, and is the client's own.
        text = (message or "").strip().split("\n")[0].split(" when reading")[0].rstrip(": ")[:300]
        text = text or "malformed request"
        if status >= 500:
            error: Any = Internal("the request failed inside the node")
        else:
            error = TooLarge(text) if status == 413 else BadRequest(text)
        reply = problem_reply(error)
        reply.force_close()
        return reply


class BoundedServer(web.Server):
    """aiohttp's low-level server over our connections. ``answer`` = None turns the fast lane off."""

    def __init__(
        self,
        handler: Any,
        *,
        answer: Answer | None,
        connections_max: int,
        head_timeout_s: float,
        on_refused: Any,
        on_slow: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(handler, **kwargs)
        self.answer = answer
        self.connections_max = connections_max
        self.head_timeout_s = head_timeout_s
        self.on_refused = on_refused
        self.on_slow = on_slow
        full = problem_reply(Unavailable(f"{connections_max} connections are open already", retry_after_s=1))
        body = bytes(full.body)  # type: ignore[arg-type]
        self.full_reply = _FULL % (len(body), body)

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)
