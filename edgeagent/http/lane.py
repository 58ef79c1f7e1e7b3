"""The fast lane: a complete, plain invocation is answered where it is parsed: no task, no request objects.

aiohttp parses every byte (its C parser), so that there is one idea of where a request ends. What the lane saves is
what comes after: waking the connection's task, building the request, the response and their header maps. Rules:

1. The lane takes a request only when the connection is idle, nothing is pipelined behind it, the body has arrived whole
   and the connection may stay open. Anything else goes the ordinary way.
2. ``answer`` either returns the whole reply or None; None means that nothing has happened yet and that the ordinary
   way must serve the request. It never blocks and never raises.
3. A client that does not read its replies gets the ordinary way, which waits for the transport to drain.

The lane leans on private attributes of aiohttp's handler and stream; :func:`lane_fits` looks for them at start,
and without them every request goes the ordinary way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

__all__ = ["Answer", "LaneParser", "lane_fits"]

# (path, raw headers, body) -> the whole reply, or None to decline
Answer = Callable[[str, tuple[tuple[bytes, bytes], ...], bytes], bytes | None]

_WRITE_BACKLOG_BYTES_MAX = 256 << 10
_BODY_BYTES_MAX = 16 << 10


def lane_fits() -> bool:
    """Whether this aiohttp still has what the lane needs."""
    slots = set(RequestHandler.__slots__)
    return {
        "_messages",
        "_waiter",
        "_next_keepalive_close_time",
    } <= slots and "_buffer" in StreamReader.__slots__


class LaneParser:
    """Stands before a connection's parser and keeps back the requests that it has answered itself."""

    __slots__ = ("_answer", "_feed", "_inner", "_protocol", "served")

    def __init__(self, inner: Any, protocol: Any, answer: Answer) -> None:
        self._inner = inner
        self._feed = inner.feed_data
        self._protocol = protocol
        self._answer = answer
        self.served = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def feed_data(self, data: bytes) -> tuple[Any, bool, bytes]:
        parsed = self._feed(data)
        messages = parsed[0]
        if len(messages) == 1 and self._serve(messages[0][0], messages[0][1]):
            return (), parsed[1], parsed[2]
        return parsed  # type: ignore[no-any-return]

    def _serve(self, message: RawRequestMessage, payload: Any) -> bool:
        protocol = self._protocol
        transport = protocol.transport
        if (
            message.method != "POST"
            or message.should_close
            or message.upgrade
            or not payload.is_eof()
            or protocol._waiter is None
            or protocol._waiter.done()
            or protocol._messages
            or transport is None
            or transport.get_write_buffer_size() > _WRITE_BACKLOG_BYTES_MAX
        ):
            return False
        # The body is looked at, not read: if the lane declines, the ordinary way finds it in the stream. One that is
        # this small never paused the transport, so that it may also be dropped unread.
        pieces: Any = getattr(payload, "_buffer", ())
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if len(body) > _BODY_BYTES_MAX:
            return False
        reply = self._answer(message.path, message.raw_headers, body)
        if reply is None:
            return False
        self._inner.message_consumed()
        transport.write(reply)
        self.served += 1
        protocol._next_keepalive_close_time = protocol._loop.time() + protocol.keepalive_timeout
        return True
