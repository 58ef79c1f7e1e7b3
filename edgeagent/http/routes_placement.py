"""Where things run, why, and what other nodes ask of this one for it: reservations, runs that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import msgspec
from aiohttp import web

from edgeagent.http.body import read_body
from edgeagent.http.headers import read_peer
from edgeagent.http.router import Route
from edgeagent.http.routes_functions import json_reply
from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import BadRequest
from edgeagent.node.node import Node
from edgeagent.node.reservation_desk import ReserveRequest
from edgeagent.node.runs.handover import GUARD, HOLD
from edgeagent.node.runs.record import RECORD_BYTES_MAX, read_record
from edgeagent.node.workflow_spec import TEXT_BYTES_MAX, parse_workflow
from edgeagent.runtime.port import Payload

__all__ = ["PlacementRoutes"]

_REQUEST_BYTES_MAX = 64 << 10
_DIGITS_MAX = 18


class PlacementRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._body_s = node.config.http.body_timeout_ms / 1000

    def routes(self) -> list[Route]:
        run = "/v1/runs/{id}"
        return [
            Route(
                "GET",
                "/v1/placement",
                self.placement,
                "Where ?function=NAME or ?workflow=NAME would run, and why",
            ),
            Route(
                "POST",
                "/v1/placement",
                self.spec_placement,
                "The same for a workflow in the body (TOML or JSON)",
            ),
            Route("POST", "/v1/reservations", self.reserve, "From another node: may a function run here?"),
            Route("DELETE", "/v1/reservations/{id}", self.release, "From another node: it will not come"),
            Route("POST", run, self.take, "From another node: a run, to hold or to guard"),
            Route("POST", run + "/data/{sha256}", self.data, "From another node: data of a run"),
            Route(
                "POST", run + "/report", self.report, "From another node: how a run that began here stands"
            ),
            Route(
                "GET",
                run + "/standing",
                self.standing,
                "From another node: the newest of a run, when there is",
            ),
        ]

    async def placement(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        query = request.query
        function, workflow = query.get("function", ""), query.get("workflow", "")
        size = _number(query.get("bytes", "0"), "bytes")
        if bool(function) == bool(workflow):
            raise BadRequest(
                "ask for a place of ?function=NAME or of ?workflow=NAME", hint="and ?at=TIME for later"
            )
        return json_reply(await self._node.continuum.explain(function, workflow, size, query.get("at", "")))

    async def spec_placement(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        data = await read_body(request, TEXT_BYTES_MAX, self._body_s)
        spec = parse_workflow(data, request.content_type)
        size = _number(request.query.get("bytes", "0"), "bytes")
        return json_reply(await self._node.continuum.explain_spec(spec, size, request.query.get("at", "")))

    async def reserve(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        try:
            wanted = msgspec.json.decode(
                await read_body(request, _REQUEST_BYTES_MAX, self._body_s), type=ReserveRequest
            )
        except UNDECODABLE as error:
            raise BadRequest(f"not a request for a reservation: {error}"[:300]) from None
        if wanted.peer != read_peer(request.headers):  # which TLS has checked
            raise BadRequest("a reservation is for the node that Edgeagent-Peer names")
        return json_reply(msgspec.to_builtins(await self._node.continuum.desk.reserve(wanted)), status=201)

    async def release(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        self._node.continuum.desk.release(path["id"])
        return web.Response(status=204)

    async def take(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        record = read_record(await read_body(request, RECORD_BYTES_MAX, self._body_s))
        role = request.headers.get("Edgeagent-Run-Role", "")
        if role not in {HOLD, GUARD} or record.id != path["id"]:
            raise BadRequest(
                f"Edgeagent-Run-Role {role[:40]!r} is neither {HOLD} nor {GUARD}, or another run's record"
            )
        reservation = request.headers.get("Edgeagent-Reservation", "")
        standing = await asyncio.shield(self._node.continuum.workflows.take(record, role, reservation))
        return json_reply(msgspec.to_builtins(standing), status=201)

    async def data(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        body = await read_body(request, self._node.config.http.body_bytes_max, self._body_s)
        with self._parcel(body, request.headers.get("Edgeagent-Hose-Input", "")) as given:
            data = given if isinstance(given, bytes) else await asyncio.to_thread(given.read)
            await self._node.continuum.workflows.take_data(path["sha256"], data)
            del data
        return web.Response(status=204)

    @contextlib.contextmanager
    def _parcel(self, body: bytes, id_: str) -> Iterator[bytes | Payload]:
        if not id_:
            yield body
            return
        parcels = self._node.hose_inbox.parcels
        payload = parcels.use(id_)
        try:
            yield payload
        finally:
            parcels.done(id_, time.monotonic())

    async def report(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        record = read_record(await read_body(request, RECORD_BYTES_MAX, self._body_s))
        if record.id != path["id"]:
            raise BadRequest("the record is of another run than the path")
        standing = await asyncio.shield(self._node.continuum.workflows.report(record))
        return json_reply(msgspec.to_builtins(standing))

    async def standing(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        epoch = _number(request.query.get("epoch", "-1").replace("-1", "0"), "epoch")
        version = _number(request.query.get("version", "0"), "version")
        return json_reply(
            msgspec.to_builtins(await self._node.continuum.workflows.standing(path["id"], epoch, version))
        )


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > _DIGITS_MAX:
        raise BadRequest(f"{name}={text[:40]!r} is no whole number")
    return int(text)
