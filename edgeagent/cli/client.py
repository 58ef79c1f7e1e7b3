"""A small HTTP client over the standard library: commands must not wait for aiohttp to be imported."""

from __future__ import annotations

import http.client
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from edgeagent.cli.output import Failed
from edgeagent.model.errors import BadRequest, PeerFailed

__all__ = ["KEYS_VARIABLE", "Reply", "call", "connect", "expect"]

KEYS_VARIABLE = "EDGEAGENT_KEYS"
_TLS_HINT = "both need keys of one cluster, and the node's must name this address (keys issue --address)"
TIMEOUT_S = 600.0


class _Told(dict[str, Any]):
    """What a daemon said; whoever answers without what is asked for is none."""

    def __missing__(self, key: str) -> Any:
        raise PeerFailed(
            f"the answer has no {key!r}", hint="is it an edgeagent of this version that listens there?"
        )


class Reply(msgspec.Struct, frozen=True):
    """``headers`` have lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The document that came; raises PeerFailed when it is none."""
        try:
            return _Told(json.loads(self.body))
        except (ValueError, TypeError, RecursionError):
            raise PeerFailed(
                f"the answer (HTTP {self.status}) is not a JSON object",
                hint="is it an edgeagent that listens there?",
            ) from None


def call(
    node: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Reply:
    """One request; raises PeerFailed when no daemon answers, BadRequest for a bad --node."""
    connection = connect(node)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        reply = connection.getresponse()
        return Reply(reply.status, _Told((k.lower(), v) for k, v in reply.getheaders()), reply.read())
    except ConnectionRefusedError:
        raise PeerFailed(f"no daemon at {node}", hint="start one with: edgeagent run") from None
    except OSError as error:  # a certificate that is refused is a ValueError as well
        hint = _TLS_HINT if type(error).__module__ == "ssl" else ""
        raise _no_answer(node, error, hint) from None
    except (http.client.InvalidURL, UnicodeError, ValueError) as error:
        raise BadRequest(
            f"{method} {path!r} to {node!r} is not a request that can be sent: {error}"
        ) from None
    except http.client.HTTPException as error:
        raise _no_answer(node, error) from None
    finally:
        connection.close()


def _no_answer(node: str, error: Exception, hint: str = "") -> PeerFailed:
    return PeerFailed(f"the daemon at {node} did not answer: {str(error) or type(error).__name__}", hint=hint)


def connect(node: str) -> http.client.HTTPConnection:
    """Not opened yet. Raises BadRequest for what is no URL, or where keys are missing."""
    scheme, host, port = _address(node)
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    from edgeagent.mesh.tls import tls_context

    keys = os.environ.get(KEYS_VARIABLE, "")
    if not keys:
        raise BadRequest(
            f"{node} takes keys", hint="name a folder of edgeagent keys by --keys, or in EDGEAGENT_KEYS"
        )
    context = tls_context(Path(keys), server=False)
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)


def _address(node: str) -> tuple[str, str, int]:
    """Scheme, host and port of --node; raises BadRequest."""
    try:
        parts = urlsplit(node if "://" in node else f"http://{node}")
        default = 443 if parts.scheme == "https" else 80
        host, port = parts.hostname or "", default if parts.port is None else parts.port
        host.encode("idna")
    except ValueError as error:  # UnicodeError is one
        raise BadRequest(f"--node {node!r} is not an http:// URL: {error}") from None
    if parts.scheme not in {"http", "https"} or not host or not host.isprintable() or " " in host:
        raise BadRequest(f"--node {node!r} is not an http:// URL")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise BadRequest(f"--node {node!r} is more than http://HOST:PORT")
    return parts.scheme, host, port


def expect(reply: Reply) -> Reply:
    """The reply if it is a success; else Failed with the problem that came."""
    if reply.status < 400:
        return reply
    try:
        problem = reply.json()
    except PeerFailed:
        problem = {"title": "bad reply", "status": reply.status, "detail": f"HTTP {reply.status}"}
    raise Failed(problem)
