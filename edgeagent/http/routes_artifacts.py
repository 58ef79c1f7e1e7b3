"""Modules by digest, for nodes that lack them."""

from __future__ import annotations

from aiohttp import web

from edgeagent.http.router import Route
from edgeagent.model.errors import NotFound
from edgeagent.node.node import Node

__all__ = ["ArtifactRoutes"]


class ArtifactRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[Route]:
        return [
            Route(
                "GET", "/v1/artifacts/{sha256}", self.get, "The module of a deployed function, by its SHA-256"
            )
        ]

    async def get(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        sha256 = path["sha256"]
        functions = self._node.functions
        if not any(one.sha256 == sha256 for one in functions.list()):
            raise NotFound(f"no function here has the module {sha256[:64]!r}")
        headers = {"ETag": f'"{sha256}"', "Edgeagent-Node": self._node.node_id}
        if any(tag.value in {sha256, "*"} for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        wasm = await functions.wasm(sha256)
        return web.Response(body=wasm, headers=headers, content_type="application/wasm")
