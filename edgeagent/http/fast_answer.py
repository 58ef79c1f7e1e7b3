"""What the fast lane answers: plain invocations of loaded functions that run inline."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
import structlog

from edgeagent.http.headers import new_traceparent, next_traceparent
from edgeagent.http.reply_meter import ReplyMeter
from edgeagent.model.errors import EdgeError, Internal
from edgeagent.node.node import Node

__all__ = ["FastAnswer"]

_PREFIX = "/functions/"
# Headers that change how a request is served: such requests go the ordinary way.
_SPECIAL = frozenset(
    (
        b"prefer",
        b"idempotency-key",
        b"edgeagent-deadline-ms",
        b"edgeagent-args",
        b"edgeagent-then",
        b"edgeagent-peer",
        b"edgeagent-hops",
        b"edgeagent-hose-input",
        b"edgeagent-hose-return",
        b"edgeagent-reservation",
        b"edgeagent-run",
        b"edgeagent-session",
        b"transfer-encoding",
        b"content-encoding",
        b"expect",
    )
)
_OK = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nEdgeagent-Node: %b\r\nEdgeagent-Backend: cpu\r\n"
    b"Edgeagent-Duration-Us: %d\r\nEdgeagent-Energy-Uj: %d\r\nEdgeagent-Hops: 0\r\nEdgeagent-Hose: copy\r\n"
    b"Edgeagent-Cold: 0\r\ntraceparent: %b\r\nContent-Length: %d\r\n\r\n%b"
)
_PROBLEM = (
    b"HTTP/1.1 %d %b\r\nContent-Type: application/problem+json\r\nEdgeagent-Node: %b\r\ntraceparent: %b\r\n"
    b"Content-Length: %d\r\n\r\n%b"
)


class FastAnswer:
    """Implements ``lane.Answer`` for a node."""

    def __init__(self, node: Node, meter: ReplyMeter) -> None:
        self._node = node
        self._meter = meter
        self._id = node.node_id.encode("ascii")
        self._log = structlog.get_logger("http")

    def __call__(self, path: str, raw_headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> bytes | None:
        if not path.startswith(_PREFIX):
            return None
        incoming = b""
        for key, value in raw_headers:
            lowered = key.lower()
            if lowered in _SPECIAL:
                return None
            if lowered == b"traceparent":
                incoming = value
        try:
            result = self._node.invoker.try_invoke(path[len(_PREFIX) :], body)
        except EdgeError as error:
            return self._problem(error, incoming)
        except Exception as error:  # noqa: BLE001 - the last door before the client
            self._log.exception("fast lane failed", error=repr(error))
            return self._problem(Internal("the request failed inside the node"), incoming)
        if result is None:
            return None
        output = result.output
        self._meter.replied(200)
        spent = result.duration_us, result.energy_uj
        return _OK % (self._id, *spent, _trace(incoming), len(output), output)

    def _problem(self, error: EdgeError, incoming: bytes) -> bytes:
        self._meter.replied(error.status)
        body = msgspec.json.encode(error.problem(), enc_hook=str)
        reason = HTTPStatus(error.status).phrase.encode("ascii")
        return _PROBLEM % (error.status, reason, self._id, _trace(incoming), len(body), body)


def _trace(incoming: bytes) -> bytes:
    if not incoming:
        return new_traceparent().encode("ascii")
    return next_traceparent(incoming.decode("ascii", "replace")).encode("ascii")
