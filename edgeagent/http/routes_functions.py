"""Invoking, deploying and listing functions."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, Literal

import msgspec
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from edgeagent.accel.chosen_mode import chosen
from edgeagent.accel.modes import PYTHON_BYTES_MAX
from edgeagent.http.body import read_body
from edgeagent.http.chains import ChainReplies, result_headers
from edgeagent.http.headers import InvokeHeaders, read_invoke_headers
from edgeagent.http.router import Route
from edgeagent.model.errors import BadRequest, Refused, UnsupportedType
from edgeagent.model.function import Deployed, Identified, Manifest, check_name
from edgeagent.model.signature import SIGNATURE_BYTES_MAX, admit_signature
from edgeagent.node.node import Node
from edgeagent.node.result import Result
from edgeagent.node.runs.function_ref import ref_of
from edgeagent.placement.weights import unknown_class
from edgeagent.runtime.manifest import default_manifest, parse_manifest

__all__ = ["FunctionRoutes", "deployed_json", "json_reply"]

_WASM = "application/wasm"
_MANIFEST_BYTES_MAX = 256 << 10
# What a manifest names under [accel], and the most of it that is read.
_SOURCES: dict[Literal["python", "onnx"], int] = {"python": PYTHON_BYTES_MAX, "onnx": 256 << 20}


class FunctionRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._body_s = node.config.http.body_timeout_ms / 1000
        self._chains = ChainReplies(node)

    def routes(self) -> list[Route]:
        one = "/v1/functions/{name}"
        return [
            Route(
                "POST", "/functions/{name}", self.invoke, "Invoke a function; body and reply are its bytes"
            ),
            Route("POST", "/function/{name}", self.invoke, "Alias of /functions/{name}"),
            Route("GET", "/v1/functions", self.list, "All deployed functions"),
            Route("GET", one, self.get, "One deployed function"),
            Route(
                "PUT",
                one,
                self.deploy,
                "Deploy: application/wasm, or multipart with wasm, manifest, signature, python, onnx",
                deploys=True,
            ),
            Route("GET", one + "/ref", self.ref, "From another node: how to place and to fetch a function"),
            Route("DELETE", one, self.undeploy, "Undeploy a function", deploys=True),
        ]

    async def invoke(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        wanted = read_invoke_headers(request.headers)
        name = path["name"]
        is_chain = wanted.is_chain or "@" in name or "+" in name
        if is_chain:
            self._chains.check(name, wanted)
        else:  # unknown functions are refused before the body is read
            await self._node.invoker.known(name)
        body = await read_body(request, self._node.config.http.body_bytes_max, self._body_s)
        with structlog.contextvars.bound_contextvars(trace=wanted.traceparent[3:35]):
            if is_chain:
                return await self._chains.run(name, body, wanted, request.remote or "")
            if wanted.is_async:
                return await self._submit(name, body, wanted)
            result = await self._run(name, body, wanted)
        return web.Response(body=result.output, headers=result_headers(self._node, result, wanted))

    async def _run(self, name: str, body: bytes, wanted: InvokeHeaders) -> Result:
        invoker = self._node.invoker
        if wanted.idempotency_key is None:
            result = invoker.try_invoke(name, body, wanted.args, wanted.deadline_ms)
            if result is not None:
                return result
        return await invoker.invoke(name, body, wanted.args, wanted.deadline_ms, wanted.idempotency_key)

    async def _submit(self, name: str, body: bytes, wanted: InvokeHeaders) -> web.Response:
        id_ = await self._node.invoker.submit(
            name, body, wanted.args, wanted.deadline_ms, wanted.idempotency_key
        )
        headers = {
            "Location": f"/invocations/{id_}",
            "Preference-Applied": "respond-async",
            "Edgeagent-Node": self._node.node_id,
            "traceparent": wanted.traceparent,
        }
        state = "queued"
        if wanted.idempotency_key is not None:  # its invocation may be an earlier one
            state = (await self._node.invoker.status(id_)).state
        return json_reply({"id": id_, "function": name, "state": state}, status=202, headers=headers)

    async def list(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        return json_reply({"functions": [deployed_json(d) for d in self._node.functions.list()]})

    async def get(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        return json_reply(deployed_json(self._node.functions.get(path["name"])))

    async def ref(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        found = ref_of(self._node.functions.get(path["name"]))
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    async def undeploy(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        await self._node.functions.undeploy(path["name"])
        return web.Response(status=204)

    async def deploy(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        name = check_name(path["name"])
        bytes_max = self._node.config.runtime.wasm_bytes_max
        sources: dict[str, Identified] | None = None
        if request.content_type == _WASM:
            wasm, signature = await read_body(request, bytes_max, self._body_s), b""
            manifest = default_manifest(name)
        elif request.content_type == "multipart/form-data":
            wasm, manifest, signature, sources = await self._parts(request, name, bytes_max)
        else:
            raise UnsupportedType(
                f"a deploy is {_WASM} or multipart/form-data, not {request.content_type}",
                hint=f"send Content-Type: {_WASM}",
            )
        # A deploy that has begun goes on to its end when the client leaves: half a deploy helps nobody.
        note = await self._signed(request, wasm, manifest, signature) if signature else ""
        deployed, is_new = await asyncio.shield(
            self._node.functions.deploy(name, wasm, manifest, signature=signature, sources=sources)
        )
        headers = {"Location": f"/v1/functions/{name}"}
        said = "; ".join(filter(None, (note, unknown_class(manifest.slo.class_))))
        shown = {**deployed_json(deployed), **({"note": said} if said else {})}
        return json_reply(shown, status=201 if is_new else 200, headers=headers)

    async def _signed(
        self, request: web.BaseRequest, wasm: bytes, manifest: Manifest, signature: bytes
    ) -> str:
        """What is to be said of a signature that is taken. Raises Refused."""
        sha256 = await asyncio.to_thread(lambda: hashlib.sha256(wasm).hexdigest())
        trusted = self._node.trusted
        unknown_ok = not trusted and not request.secure
        key = admit_signature(signature, sha256, manifest, trusted, unknown_ok=unknown_ok)
        if bytes.fromhex(key) in trusted:
            return ""
        return f"signed by {key}, which this node does not know: placement.signers is empty"

    async def _parts(
        self, request: web.BaseRequest, name: str, bytes_max: int
    ) -> tuple[bytes, Manifest, bytes, dict[str, Identified]]:
        known = {
            "wasm": bytes_max,
            "manifest": _MANIFEST_BYTES_MAX,
            "signature": SIGNATURE_BYTES_MAX,
            "python": _SOURCES["python"],
            "onnx": _SOURCES["onnx"],
        }
        parts = await _read_parts(request, known, self._body_s)
        if parts.get("signature") == b"":
            raise Refused("the part 'signature' is empty", hint="edgeagent sign makes one")
        signature = parts.get("signature", b"")
        if "wasm" not in parts:
            raise BadRequest("the multipart body has no part named 'wasm'")
        sources: dict[str, Identified] = {}
        for kind in _SOURCES:
            if kind in parts:
                sources[kind] = await self._node.compiler.identify(kind, parts[kind])
        if "manifest" not in parts:
            return parts["wasm"], default_manifest(name), signature, sources
        manifest = parse_manifest(parts["manifest"])
        if manifest.function.name != name:
            raise Refused(f"the manifest names the function {manifest.function.name!r}, the path {name!r}")
        return parts["wasm"], manifest, signature, sources


async def _read_parts(request: web.BaseRequest, known: dict[str, int], timeout_s: float) -> dict[str, bytes]:
    parts: dict[str, bytes] = {}
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            name = getattr(part, "name", None)
            if name not in known or name in parts:
                raise BadRequest(f"unexpected part {name!r}: the parts are {', '.join(known)}, once each")
            parts[name] = await read_body(part, known[name], timeout_s)
    except (ValueError, AssertionError, HttpProcessingError) as error:
        why = getattr(error, "message", "") or str(error)
        raise BadRequest(f"the multipart body is malformed: {why[:200]}") from None
    return parts


def deployed_json(deployed: Deployed) -> dict[str, Any]:
    """A function as the API shows it."""
    plain: dict[str, Any] = msgspec.to_builtins(deployed)
    plain["execution"] = msgspec.to_builtins(chosen(deployed.manifest.accel, deployed.info, deployed.sources))
    return plain


def json_reply(document: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(document),
        headers=headers,
        content_type="application/json",
    )
