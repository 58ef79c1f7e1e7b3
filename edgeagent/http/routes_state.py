"""State over HTTP: single keys, groups, listings, holders, and what other nodes ask of this one."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import web

from edgeagent.http.body import read_body
from edgeagent.http.headers import read_invoke_headers, read_peer
from edgeagent.http.router import Route
from edgeagent.http.routes_functions import json_reply
from edgeagent.model.decoding import UNDECODABLE
from edgeagent.model.errors import BadRequest, NotFound, UnsupportedType
from edgeagent.node.node import Node
from edgeagent.state.calls import Done, Group, GroupDone, Op
from edgeagent.state.entry import Durability, Mode
from edgeagent.state.errors import BadKey
from edgeagent.state.fetching import ChunksWanted, Fetch, read, write
from edgeagent.state.hlc import read_version

__all__ = ["StateRoutes"]

_MSGPACK = "application/msgpack"
_FRAME_BYTES_MAX = 1 << 20  # of what nodes ask each other
_LIST_MAX = 1000
_NUMBER = re.compile(r"[0-9]{1,15}")
_KEY_PATH = "/v1/state/"


class StateRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._body_s = node.config.http.body_timeout_ms / 1000

    def routes(self) -> list[Route]:
        one = _KEY_PATH + "{key*}"
        return [
            Route("GET", "/v1/state", self.list, "Keys below ?prefix=, behind ?after=, at most ?limit="),
            Route("GET", one, self.get, "The value of a key"),
            Route("PUT", one, self.put, "Write a key; the body is its value"),
            Route("DELETE", one, self.delete, "Delete a key"),
            Route("GET", "/v1/state:where", self.where, "The nodes that hold ?key=, how fresh, how durable"),
            Route(
                "GET", "/v1/state:aside", self.asides, "What of ?key= lost a conflict; the value of ?version="
            ),
            Route("DELETE", "/v1/state:aside", self.drop_aside, "Forget such a value: ?key= and ?version="),
            Route("POST", "/v1/state:group", self.group, "Several operations, all or nothing"),
            Route("POST", "/v1/state:fetch", self.fetch, "Between nodes: what is held here"),
            Route("POST", "/v1/state:chunks", self.chunks, "Between nodes: pieces of large values"),
            Route("POST", "/v1/state:transfer", self.transfer, "Between nodes: hand over and take custody"),
        ]

    # -- single keys -----------------------------------------------------------------------------------------

    async def get(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        known = _etag(request.headers.get("If-None-Match", ""))
        op = Op(op="get", key=_key_of(request), known="" if known == "*" else known)
        done, answer = await self._one(request, op)
        if not done.found:
            raise NotFound(f"the key {done.key[:200]!r} has no value", version=done.version)
        headers = _headers(done, answer)
        if done.unchanged:
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = "application/octet-stream"
        return web.Response(body=done.value or b"", headers=headers)

    async def put(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        key = _key_of(request)
        op = Op(
            op="put",
            key=key,
            mode=_mode(request.headers.get("Edgeagent-Mode", "")),
            expect=_expected(request),
            ttl_ms=_number(request, "Edgeagent-Ttl-Ms"),
            takeover=request.headers.get("Edgeagent-Takeover", "") == "1",
        )
        limit = self._node.config.state.value_bytes_max
        op.value = await read_body(request, limit, self._body_s)
        done, answer = await self._one(request, op)
        return json_reply(_told(done), headers=_headers(done, answer))

    async def delete(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        op = Op(op="delete", key=_key_of(request), expect=_expected(request))
        op.takeover = request.headers.get("Edgeagent-Takeover", "") == "1"
        done, answer = await self._one(request, op)
        if not done.found:
            raise NotFound(f"the key {done.key[:200]!r} has no value", version=done.version)
        return web.Response(status=204, headers=_headers(done, answer))

    async def _one(self, request: web.BaseRequest, op: Op) -> tuple[Done, GroupDone]:
        group = Group(ops=[op])
        _wants(request, group)
        answer = await self._node.state.group(group)
        return answer.results[0], answer

    # -- several ---------------------------------------------------------------------------------------------

    async def group(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        packed = request.content_type == _MSGPACK
        if not packed and request.content_type not in {"application/json", "application/octet-stream"}:
            raise UnsupportedType(f"a group is JSON or {_MSGPACK}, not {request.content_type[:80]!r}")
        limit = self._node.config.http.body_bytes_max
        if packed:  # between nodes, whatever is one value
            limit = max(limit, self._node.config.state.value_bytes_max + _FRAME_BYTES_MAX)
        data = await read_body(request, limit, self._body_s)
        decode: Any = msgspec.msgpack.decode if packed else msgspec.json.decode
        try:
            wanted = decode(data, type=Group)
        except UNDECODABLE as error:
            raise BadRequest(
                f"not a group of operations: {error}"[:300], hint="docs/state.md shows one"
            ) from None
        _wants(request, wanted)
        _check_decides(wanted, read_peer(request.headers))
        answer = await self._node.state.group(wanted)
        headers = {"Edgeagent-Durability": answer.durability.value, "Edgeagent-Session": answer.session}
        if packed:
            return web.Response(body=msgspec.msgpack.encode(answer), headers=headers, content_type=_MSGPACK)
        return json_reply(msgspec.to_builtins(answer), headers=headers)

    async def list(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        query = _query(request)
        limit = query.get("limit", "100")
        if not _NUMBER.fullmatch(limit) or not 1 <= int(limit) <= _LIST_MAX:
            raise BadRequest(f"limit={limit[:40]!r} is not a number from 1 to {_LIST_MAX}")
        found = await self._node.state.views.listed(
            query.get("prefix", ""), query.get("after", ""), int(limit), here_only=query.get("here") == "1"
        )
        return json_reply({"keys": msgspec.to_builtins(found)})

    async def where(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        key = _query(request).get("key", "")
        found = await self._node.state.views.where(key)
        if not found:
            raise NotFound(f"nobody that can be asked holds the key {key[:200]!r}")
        durability = self._node.state.durability_of(key, found)
        return json_reply({"key": key, "durability": durability.value, "holders": msgspec.to_builtins(found)})

    async def asides(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        query, views = _query(request), self._node.state.views
        key, version = query.get("key", ""), query.get("version", "")
        if version:
            value = await views.aside_value(key, read_version(version))
            return web.Response(body=value, content_type="application/octet-stream")
        return json_reply({"key": key, "values": msgspec.to_builtins(await views.asides(key))})

    async def drop_aside(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        query = _query(request)
        version = read_version(query.get("version", ""))
        await self._node.state.views.drop_aside(query.get("key", ""), version)
        return web.Response(status=204)

    # -- between nodes ---------------------------------------------------------------------------------------

    async def fetch(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        asked = read(await read_body(request, _FRAME_BYTES_MAX, self._body_s), Fetch)
        return _packed(await self._node.state.views.fetch(asked))

    async def chunks(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        asked = read(await read_body(request, _FRAME_BYTES_MAX, self._body_s), ChunksWanted)
        return _packed(await self._node.state.views.chunks(asked))

    async def transfer(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        peer = read_peer(request.headers)
        if not peer:
            raise BadRequest("a transfer is between nodes: Edgeagent-Peer is missing")
        with self._given(request.headers.get("Edgeagent-Hose-Input", "")) as payload:
            if payload is None:
                data = await read_body(request, self._node.config.http.body_bytes_max, self._body_s)
            else:
                data = bytes(payload.read())
        reply = await self._node.state.transfer(peer, data)
        return web.Response(body=reply, content_type=_MSGPACK)

    @contextlib.contextmanager
    def _given(self, parcel: str) -> Iterator[Any]:
        import time

        if not parcel:
            yield None
            return
        parcels = self._node.hose_inbox.parcels
        payload = parcels.use(parcel)
        try:
            yield payload
        finally:
            parcels.done(parcel, time.monotonic())


def _packed(value: msgspec.Struct) -> web.Response:
    return web.Response(body=write(value), content_type=_MSGPACK)


def _query(request: web.BaseRequest) -> Any:
    """Raises BadKey: what is not UTF-8 would be another key."""
    try:
        unquote_to_bytes(request.raw_path.partition("?")[2]).decode()
    except UnicodeDecodeError:
        raise BadKey("the query is not UTF-8") from None
    return request.rel_url.query


def _check_decides(wanted: Group, peer: str) -> None:
    """Only another node lets this one decide, and only for itself. Raises BadRequest."""
    if wanted.decide and not peer:
        raise BadRequest("decide is between nodes: Edgeagent-Peer is missing")
    if wanted.decide and any(op.owner not in ("", peer) for op in wanted.ops):
        raise BadRequest(f"the node {peer} would make another one the owner of a key")


def _key_of(request: web.BaseRequest) -> str:
    """From the raw path, so that what is not UTF-8 is seen. Raises BadKey."""
    raw = request.raw_path.split("?", 1)[0]
    try:
        return unquote_to_bytes(raw[raw.index(_KEY_PATH) + len(_KEY_PATH) :]).decode()
    except UnicodeDecodeError:
        raise BadKey("the key is not UTF-8") from None


def _wants(request: web.BaseRequest, group: Group) -> None:
    """What headers say for the whole group."""
    headers = request.headers
    if word := headers.get("Edgeagent-Durability", ""):
        try:
            group.durability = Durability(word)
        except ValueError:
            raise BadRequest(f"Edgeagent-Durability {word[:40]!r} is not local, peer or ground") from None
    if "Edgeagent-Deadline-Ms" in headers:
        group.deadline_ms = read_invoke_headers(headers).deadline_ms
    if token := headers.get("Edgeagent-Session", ""):
        group.session = token


def _etag(value: str) -> str:
    return value.strip().removeprefix("W/").strip('"')


def _expected(request: web.BaseRequest) -> str | None:
    """The version that is to be overwritten, "" for none, None for any."""
    headers = request.headers
    if (none := _etag(headers.get("If-None-Match", ""))) and none != "*":
        raise BadRequest("If-None-Match of a write is * or nothing", hint="If-Match says what is overwritten")
    if none:
        return ""
    for name in ("Edgeagent-Version", "If-Match"):
        if name in headers:
            version = _etag(headers[name])
            if version == "*":
                raise BadRequest(f"{name} is one version", hint="read the key: its answer says which it has")
            return version
    return None


def _mode(word: str) -> Mode | None:
    if not word:
        return None
    try:
        return Mode(word)
    except ValueError:
        raise BadRequest(f"Edgeagent-Mode {word[:40]!r} is not once, owner or lww") from None


def _number(request: web.BaseRequest, name: str) -> int:
    value = request.headers.get(name, "0").strip()
    if not _NUMBER.fullmatch(value):
        raise BadRequest(f"{name} {value[:40]!r} is not a whole number")
    return int(value)


def _headers(done: Done, answer: GroupDone) -> dict[str, str]:
    return {
        "Edgeagent-Version": done.version,
        "Edgeagent-Durability": done.durability.value,
        "Edgeagent-Mode": str(done.mode or ""),
        "Edgeagent-Session": answer.session,
        "ETag": f'"{done.version}"',
    }


def _told(done: Done) -> dict[str, Any]:
    return {
        "key": done.key,
        "version": done.version,
        "durability": done.durability.value,
        "mode": str(done.mode or ""),
        "size_bytes": done.size_bytes,
    }
