"""Views of the node, health, metrics, and invocations that were started asynchronously."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from aiohttp import web

from edgeagent import __version__
from edgeagent.http.body import read_body
from edgeagent.http.openapi import openapi
from edgeagent.http.router import Route
from edgeagent.http.routes_functions import json_reply
from edgeagent.model.errors import BadRequest, Conflict
from edgeagent.node.node import Node
from edgeagent.node.result import InvocationView

__all__ = ["NodeRoutes"]

_EPHEMERIS_BYTES_MAX = 1400
_INLINE_RESULT_BYTES_MAX = 64 << 10


class NodeRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node
        self.all_routes: list[Route] = []

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/", self.index, "What this is, and where to look next"),
            Route("GET", "/v1/node", self.node, "This node: identity, versions, load, limits"),
            Route("GET", "/v1/peers", self.peers, "The other members: state, place, contact, load"),
            Route("GET", "/v1/contacts", self.contacts, "When this node sees which others; ?peer=ID&hours=3"),
            Route(
                "GET", "/v1/accel", self.accel, "CPU or GPU: each function's mode and backend, and the GPUs"
            ),
            Route("POST", "/v1/elements", self.elements, "An ephemeris that an operator signed for a member"),
            Route("GET", "/livez", self.live, "200 while the process serves"),
            Route(
                "GET", "/readyz", self.ready, "200 when invocations are accepted, else 503 with the reasons"
            ),
            Route("GET", "/metrics", self.metrics, "Prometheus metrics"),
            Route("GET", "/openapi.json", self.openapi, "This document"),
            Route(
                "GET", "/invocations/{id}", self.invocation, "State and result of an asynchronous invocation"
            ),
            Route("GET", "/invocations/{id}/result", self.result, "The raw bytes of its result"),
        ]

    async def index(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        return json_reply(
            {
                "edgeagent": __version__,
                "node": self._node.node_id,
                "see": ["/v1/node", "/openapi.json", "/metrics"],
            }
        )

    async def node(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        return json_reply(self._node.view())

    async def peers(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        return json_reply(self._node.membership.peers())

    async def contacts(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        text = request.query.get("hours", "3")
        try:
            hours = float(text)
        except ValueError:
            raise BadRequest(f"hours={text!r:.40} is no number", hint="for instance hours=6") from None
        return json_reply(await self._node.membership.contacts(request.query.get("peer", ""), hours))

    async def accel(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        return json_reply({**self._node.accel.view(), "node": self._node.node_id, "load": self._node.load()})

    async def elements(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        blob = await read_body(request, _EPHEMERIS_BYTES_MAX, self._node.config.http.body_timeout_ms / 1000)
        return json_reply(self._node.membership.adopt_elements(blob))

    async def live(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def ready(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        if self._node.store.full:  # there may be room by now
            await self._node.store.look_for_room()
        is_ready, reasons = self._node.ready()
        return json_reply({"ready": is_ready, "reasons": reasons}, status=200 if is_ready else 503)

    async def metrics(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        body = self._node.meters.render()
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def openapi(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        return json_reply(openapi(self.all_routes))

    async def invocation(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        view = await self._node.invoker.status(path["id"])
        return json_reply(_view_json(view))

    async def result(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        view = await self._node.invoker.status(path["id"])
        if view.state != "succeeded":
            raise Conflict(f"invocation {view.id} is {view.state}", state=view.state)
        return web.Response(body=view.output, content_type="application/octet-stream")


def _view_json(view: InvocationView) -> dict[str, Any]:
    document: dict[str, Any] = {
        name: value
        for name, value in msgspec.structs.asdict(view).items()
        if name != "output" and value not in ("", None)
    }
    if view.state == "succeeded":
        document["result"] = f"/invocations/{view.id}/result"
        document["bytes_out"] = len(view.output)
        if len(view.output) <= _INLINE_RESULT_BYTES_MAX:
            document["result_base64"] = base64.b64encode(view.output).decode("ascii")
    return document
