"""The HTTP server: one handler over the router, typed errors as problems, bounded connections, graceful end."""

from __future__ import annotations

import asyncio
import resource
import secrets
from pathlib import Path

import aiohttp.http_parser
import structlog
from aiohttp import web

from edgeagent.http.callers import refuse_unentitled
from edgeagent.http.connection import BoundedServer
from edgeagent.http.doubtful import refuse_doubtful
from edgeagent.http.fast_answer import FastAnswer
from edgeagent.http.lane import lane_fits
from edgeagent.http.problems import problem_reply
from edgeagent.http.reply_meter import ReplyMeter
from edgeagent.http.router import Router
from edgeagent.http.routes_artifacts import ArtifactRoutes
from edgeagent.http.routes_functions import FunctionRoutes
from edgeagent.http.routes_hoses import HoseRoutes
from edgeagent.http.routes_node import NodeRoutes
from edgeagent.http.routes_placement import PlacementRoutes
from edgeagent.http.routes_state import StateRoutes
from edgeagent.http.routes_workflows import WorkflowRoutes
from edgeagent.http.site import Site
from edgeagent.mesh.tls import tls_context
from edgeagent.model.errors import BadConfig, EdgeError, Internal, Unavailable
from edgeagent.node.config import ListenAddress, listen_address
from edgeagent.node.node import Node

__all__ = ["Server"]

# Descriptors kept back for the store, artifacts, compile workers and the engine.
_RESERVED_FDS = 128


class Server:
    """Serves ``node``; ``url`` and ``tls_url`` are known after ``start``."""

    def __init__(self, node: Node) -> None:
        if aiohttp.http_parser.HttpRequestParser is aiohttp.http_parser.HttpRequestParserPy:
            raise Unavailable(
                "aiohttp is installed without its C parser, and its Python one is not safe enough here",
                hint="pip install --force-reinstall aiohttp (and unset AIOHTTP_NO_EXTENSIONS)",
            )
        self._node = node
        self._log = structlog.get_logger("http")
        self._meter = ReplyMeter()
        node_routes = NodeRoutes(node)
        self._router = Router(
            [
                *FunctionRoutes(node).routes(),
                *ArtifactRoutes(node).routes(),
                *HoseRoutes(node).routes(),
                *PlacementRoutes(node).routes(),
                *StateRoutes(node).routes(),
                *WorkflowRoutes(node).routes(),
                *node_routes.routes(),
            ]
        )
        node_routes.all_routes = self._router.routes
        self._runner: web.ServerRunner | None = None
        self.url = ""
        self.tls_url = ""  # beyond this machine; that of ``url`` where it is the same

    async def start(self) -> None:
        http = self._node.config.http
        self._node.meters.registry.register(self._meter)
        listen = listen_address(http.listen)
        server = BoundedServer(
            self._handle,
            answer=FastAnswer(self._node, self._meter) if http.fast_lane and lane_fits() else None,
            connections_max=_connections_max(http.connections_max),
            head_timeout_s=http.header_timeout_ms / 1000,
            on_refused=lambda: self._node.meters.count("connections_refused"),
            on_slow=lambda: self._node.meters.count("slow_heads"),
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=http.keepalive_ms / 1000,
            max_line_size=http.header_bytes_max,
            max_field_size=http.header_bytes_max,
            lingering_time=2.0,
            auto_decompress=False,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await self._runner.setup()
        self.url = await self._listen(listen, secure=not listen.is_loopback)
        self.tls_url = "" if listen.is_loopback else self.url
        if http.listen_tls:
            self.tls_url = await self._listen(listen_address(http.listen_tls, "http.listen_tls"), secure=True)

    async def _listen(self, address: ListenAddress, *, secure: bool) -> str:
        """Returns the URL. Raises BadConfig."""
        assert self._runner is not None
        keys = self._node.config.mesh.keys
        tls = await asyncio.to_thread(tls_context, Path(keys), server=True) if secure else None
        handshake_s = self._node.config.http.header_timeout_ms / 1000
        site = Site(self._runner, address.host, address.port, tls, handshake_s)
        try:
            await site.start()
        except OSError as error:
            raise BadConfig(
                f"cannot listen on {address.host}:{address.port}: {error.strerror}",
                hint="is another daemon running? choose another port with --listen 127.0.0.1:0",
            ) from None
        return site.name

    async def stop(self) -> None:
        """Stop accepting and close the connections; calls are over by then (the node has drained)."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            refuse_doubtful(request)
            route, path = self._router.find(request.method, request.raw_path)
            refuse_unentitled(request, route)
            reply = await route.handler(request, path)
        except EdgeError as error:
            reply = self._refuse(request, error)
        except (web.HTTPException, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - the last door before the client
            reply = self._refuse(request, self._internal(error))
        if "Upgrade" in request.headers:
            reply.force_close()  # what was sent behind it may be of another protocol, and would wait for ever
        self._meter.replied(reply.status)
        return reply

    def _refuse(self, request: web.BaseRequest, error: EdgeError) -> web.Response:
        reply: web.Response = problem_reply(error)
        reply.headers["Edgeagent-Node"] = self._node.node_id
        if not request.content.is_eof():
            reply.force_close()  # what is left of a refused body is not read
        return reply

    def _internal(self, error: Exception) -> Internal:
        reference = secrets.token_hex(4)
        self._log.error("request failed", reference=reference, exc_info=error)
        return Internal("the request failed inside the node", hint=f"look for {reference} in the log")


def _connections_max(configured: int) -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return min(configured, max(8, soft - _RESERVED_FDS))
