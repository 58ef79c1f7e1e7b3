"""The OpenAPI 3.1 document, made from the route table that the router uses and from the msgspec types."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from edgeagent import __version__
from edgeagent.http.router import Route
from edgeagent.model.function import Deployed, Manifest
from edgeagent.model.workflow import Workflow
from edgeagent.node.hose_lines import Invitation, TicketRequest
from edgeagent.node.workflow_views import RunView
from edgeagent.state.calls import Group, GroupDone

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
    "Edgeagent-Energy-Uj": "microjoules that they drew over idle, an estimate",
    "Edgeagent-Hops": "1 where the last function ran at a peer",
    "Edgeagent-Hose": "how the last function got its input: copy, flip, share, or wire for what came from another node",
    "Edgeagent-Steps": "of a chain: JSON, one object for each function that ran",
    "Edgeagent-Hose-Output": "to another node: the hose transfer that is the output, instead of a body",
}
_TICKETS = "/v1/hoses/tickets"
_STATE_HEADERS = {
    "Edgeagent-Version": "write: only over this version",
    "Edgeagent-Durability": "write: wait until it is local, peer or ground",
    "Edgeagent-Deadline-Ms": "and so long at most",
    "Edgeagent-Session": "what the caller has seen",
    "Edgeagent-Mode": "write: once, owner or lww, of a new key",
    "Edgeagent-Ttl-Ms": "write: forget the key after this",
    "Edgeagent-Takeover": "write: 1 = become the key's owner",
}
_STATE_REPLY_HEADERS = {
    "Edgeagent-Version": "of the value",
    "Edgeagent-Durability": "that is reached",
    "Edgeagent-Session": "what the caller has seen now",
}
_RUN_HEADERS = {
    "Prefer": "respond-async: answer 202 with the Location of the run",
    "Idempotency-Key": "the same key and input run once; repeats get that run",
    "Edgeagent-Deadline-Ms": "milliseconds for the run, instead of the workflow's",
    "traceparent": "W3C trace context",
}
_RUN_REPLY_HEADERS = {
    "Edgeagent-Run": "the id of the run",
    "Edgeagent-Node": "where it began",
    "Edgeagent-Steps": "JSON, one object for each step: where it ran and why, what it took",
}


def openapi(routes: list[Route]) -> dict[str, Any]:
    """The document for ``routes``."""
    _, components = msgspec.json.schema_components(
        [Deployed, Manifest, TicketRequest, Invitation, Workflow, RunView, Group, GroupDone],
        ref_template="#/components/schemas/{name}",
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = route.path.replace("*}", "}")
        paths.setdefault(path, {})[route.method.lower()] = _operation(route)
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
    names = re.findall(r"\{(\w+)\*?\}", route.path)
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
        operation["parameters"] += _parameters(_INVOKE_HEADERS, where="header")
        operation["responses"]["200"]["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in _REPLY_HEADERS.items()
        }
    elif route.path.startswith("/v1/hoses/"):
        _between_nodes(route, operation)
    elif route.path.startswith("/v1/state"):
        _state(route, operation)
    elif "workflows" in route.path or route.path.startswith("/v1/runs"):
        _workflows(route, operation)
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


def _state(route: Route, operation: dict[str, Any]) -> None:
    responses, parameters = operation["responses"], operation["parameters"]
    if route.path.startswith("/v1/state/"):
        parameters += _parameters(_STATE_HEADERS, where="header")
        responses["200"]["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in _STATE_REPLY_HEADERS.items()
        }
        if route.method == "PUT":
            operation["requestBody"] = {"content": _BYTES}
        elif route.method == "GET":
            responses["200"]["content"] = _BYTES
    elif route.method == "GET":
        names = ("key",) if route.path.endswith("where") else ("prefix", "after", "limit", "here")
        parameters += _parameters(dict.fromkeys(names, "see docs/state.md"), where="query")
    elif route.path.endswith(":group"):
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Group"}}},
        }
        done = {"schema": {"$ref": "#/components/schemas/GroupDone"}}
        responses["200"]["content"] = {"application/json": done}
    else:
        packed = {"application/msgpack": {"schema": {"type": "string", "format": "binary"}}}
        operation["requestBody"] = {"required": True, "content": packed}
        responses["200"]["content"] = packed


def _workflows(route: Route, operation: dict[str, Any]) -> None:
    responses, parameters = operation["responses"], operation["parameters"]
    spec = {"schema": {"$ref": "#/components/schemas/Workflow"}}
    if route.method == "PUT":
        toml = {"schema": {"type": "string"}}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/toml": toml, "application/json": spec},
        }
        responses["201"] = {"description": "deployed"}
    elif route.method == "POST":
        operation["requestBody"] = {"content": _BYTES}
        parameters += _parameters(_RUN_HEADERS, where="header")
        responses["200"]["content"] = _BYTES
        responses["200"]["headers"] = {
            name: {"description": text, "schema": {"type": "string"}}
            for name, text in _RUN_REPLY_HEADERS.items()
        }
        responses["202"] = {"description": "accepted; Location names the run"}
    elif route.path.endswith("/events"):
        responses["200"]["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
        parameters += _parameters({"Last-Event-ID": "go on behind the event of this number"}, where="header")
    elif route.path.endswith("/output"):
        responses["200"]["content"] = _BYTES
    elif route.path == "/v1/runs/{id}":
        view = {"schema": {"$ref": "#/components/schemas/RunView"}}
        responses["200"]["content"] = {"application/json": view}
    elif route.path == "/v1/runs":
        parameters += _parameters({"workflow": "of this one only", "limit": "at most so many"}, where="query")


def _parameters(names: dict[str, str], *, where: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": where, "description": text, "schema": {"type": "string"}}
        for name, text in names.items()
    ]


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
