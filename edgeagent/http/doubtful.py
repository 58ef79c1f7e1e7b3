"""Requests that could be read in two ways: refused before anything is done with them."""

from __future__ import annotations

from aiohttp import web

from edgeagent.model.errors import BadRequest, UnsupportedType

__all__ = ["refuse_doubtful"]

_ONCE = (
    "Edgeagent-Deadline-Ms",
    "Edgeagent-Args",
    "Edgeagent-Then",
    "Edgeagent-Peer",
    "Edgeagent-Hops",
    "Edgeagent-Hose-Input",
    "Edgeagent-Hose-Return",
    "Edgeagent-Hose-Sender",
    "Edgeagent-Reservation",
    "Edgeagent-Run",
    "Edgeagent-Session",
    "Idempotency-Key",
    "traceparent",
)


def refuse_doubtful(request: web.BaseRequest) -> None:
    """Raises UnsupportedType for a body that would need decoding, BadRequest for one of our headers given twice."""
    headers = request.headers
    codings = ",".join(headers.getall("Transfer-Encoding", ("chunked",)))
    if codings.strip().lower() != "chunked":
        raise UnsupportedType("of transfer codings only chunked is accepted", hint="send the body as it is")
    for name in _ONCE:
        if len(headers.getall(name, ())) > 1:
            raise BadRequest(f"{name} is there more than once")
