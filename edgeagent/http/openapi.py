"""The OpenAPI 3.1 document, made from the route table that the router uses and from the msgspec types."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from edgeagent import __version__
from edgeagent.http.router import Route
from edgeagent.model.function import Deployed, Manifest
from edgeagent.node.hose_lines import Invitation, TicketRequest

__all__ = ["openapi"]

_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_JSON = {"application/json": {"schema": {"type": "object"}}}
_INVOKE_HEADERS = {
    "Prefer": "respond-async: answer 202 with the Location of the invocation",
    "Idempotency-Key": "the same key and request run once; repeats get the recorded result",
    "Edgeagent-Deadline-Ms": "milliseconds for the whole request, queueing included",
    "Edgeagent-Args": "JSON array of strings: arguments of a command function",
    "Edgeagent-Then": "steps that run next, each on the output before it, separated by commas: NAME, NAME@PEER, or "
    "several joined by + that get the same input",
    "Edgeagent-Peer": "from another node: its id",
    "Edgeagent-Hops": "from another node: how many hosts passed the request on",
    "Edgeagent-Hose-Input": "from another node: the hose transfer that is the input, instead of a body",
    "Edgeagent-Hose-Return": "from another node: a ticket (JSON) for a large output to come back by hose",
    "traceparent": "W3C trace context",
}


_REPLY_HEADERS = {
    "Edgeagent-Node": "who ran it",
    "Edgeagent-Duration-Us": "how long the functions ran",
    "Edgeagent-Hops": "1 where the last function ran at a peer",
    "Edgeagent-Hose": "how the last function got its input: copy, flip, share, or wire for what came from another node",
    "Edgeagent-Steps": "of a chain: JSON, one object for each function that ran",
    "Edgeagent-Hose-Output": "to another node: the hose transfer that is the output, instead of a body",
}
_TICKETS = "/v1/hoses/tickets"


def openapi(routes: list[Route]) -> dict[str, Any]:
    """The document for ``routes``."""
    _, components = msgspec.json.schema_components(
        [Deployed, Manifest, TicketRequest, Invitation], ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    problem = {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "hint": {"type": "string"},
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "edgeagent", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {"schemas": {**components, "Problem": problem}},
    }


def _operation(route: Route) -> dict[str, Any]:
    invokes = route.method == "POST" and route.path.startswith("/function")
    names = re.findall(r"\{(\w+)\}", route.path)
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}{re.sub(r'[^a-z0-9]+', '_', route.path)}".rstrip("_"),
        "summary": route.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ],
        "responses": {
            "200": {"description": "ok", "content": _BYTES if invokes else _JSON},
            "default": {
                "description": "a problem (RFC 9457)",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
    }
    if invokes:
        operation["requestBody"] = {"content": _BYTES}
        operation["responses"]["202"] = {"description": "accepted; Location names the invocation"}
        operation["parameters"] += [
            {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
            for name, text in _INVOKE_HEADERS.items()
        ]
        operation["responses"]["200"]["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in _REPLY_HEADERS.items()
        }
    elif route.path.startswith("/v1/hoses/"):
        _between_nodes(route, operation)
    elif route.method == "PUT":
        operation["requestBody"] = {
            "required": True,
            "content": {
                "application/wasm": {"schema": {"type": "string", "format": "binary"}},
                "multipart/form-data": {"schema": {"type": "object", "required": ["wasm"]}},
            },
        }
        operation["responses"]["201"] = {"description": "deployed"}
    if route.method == "DELETE":
        operation["responses"]["204"] = {"description": "gone"}
    return operation


def _between_nodes(route: Route, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    del responses["200"]
    if route.path == _TICKETS:
        refs = {
            kind: {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind}"}}}
            for kind in ("TicketRequest", "Invitation")
        }
        operation["requestBody"] = {"required": True, "content": refs["TicketRequest"]}
        responses["201"] = {"description": "a ticket", "content": refs["Invitation"]}
        return
    if route.method == "POST":
        operation["requestBody"] = {"content": _BYTES}
    responses["204"] = {"description": "done"}
    if "streams" in route.path:
        operation["parameters"] += [
            {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}
            for name in ("Edgeagent-Peer", "Edgeagent-Hose-Sender")
        ]
