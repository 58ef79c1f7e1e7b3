"""Replying to chains, from clients and from other nodes, whose inputs and outputs may come and go by hose."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import msgspec
from aiohttp import web

from edgeagent.hose.settings import TIERS
from edgeagent.http.headers import InvokeHeaders
from edgeagent.http.once import Once
from edgeagent.model.errors import BadRequest
from edgeagent.model.run_tag import SESSION_HEADER
from edgeagent.node.chain import Chain
from edgeagent.node.items import CONTENT_TYPE as ITEMS
from edgeagent.node.node import Node
from edgeagent.node.result import Result
from edgeagent.node.steps import Step, parse_step
from edgeagent.runtime.port import Payload

__all__ = ["ChainReplies", "result_headers"]


class ChainReplies:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._once = Once()

    def check(self, name: str, wanted: InvokeHeaders) -> None:
        """Before the body is read: raises BadRequest, and NotFound for functions and peers that are not there."""
        has_key = wanted.idempotency_key is not None and not wanted.reservation
        if wanted.is_async or has_key:
            raise BadRequest(
                "a chain goes with neither Prefer: respond-async nor Idempotency-Key",
                hint="call the functions one by one, each with its own key",
            )
        for step in _steps(name, wanted):
            for target in step:
                if target.peer:
                    self._node.remote.check(target.peer)
                else:
                    self._node.functions.get(target.function)

    async def run(self, name: str, body: bytes, wanted: InvokeHeaders, remote: str) -> web.Response:
        """The reply; ``remote`` is the address that the request came from. Raises what chains raise."""
        steps = _steps(name, wanted)
        chain = Chain(
            steps=steps,
            args=wanted.args,
            wall_ms=wanted.deadline_ms,
            hops=wanted.hops,
            traceparent=wanted.traceparent,
            keep=wanted.hose_return is not None,
            tag=wanted.tag,
        )
        result = await self._result(chain, body, wanted)
        headers = result_headers(self._node, result, wanted)
        if len(steps[-1]) > 1:
            headers["Content-Type"] = ITEMS
        last = result.steps[-1]
        headers["Edgeagent-Hose"] = f"{last.hose};copied={last.copied_bytes};mapped={last.mapped_bytes}"
        if last.wire_bytes:
            headers["Edgeagent-Hose"] += f";wire={last.wire_bytes}"
        headers["Edgeagent-Hops"] = str(int(bool(last.node)))
        headers["Edgeagent-Steps"] = msgspec.json.encode(result.steps).decode()
        return web.Response(body=await self._output(result, wanted, remote, headers), headers=headers)

    async def _result(self, chain: Chain, body: bytes, wanted: InvokeHeaders) -> Result:
        async def call() -> Result:
            desk, reservation = self._node.continuum.desk, wanted.reservation
            reserved = desk.used(reservation) if reservation else contextlib.nullcontext()
            with reserved, self._input(body, wanted) as given:
                return await self._node.invoker.invoke_chain(chain, given)

        if wanted.idempotency_key is None:
            return await call()
        # Who asks again after a cut has another parcel; the call has the first one until it ends.
        result = await self._once.run(f"{wanted.peer}/{wanted.idempotency_key}", call)
        if result.payload is not None:
            await asyncio.to_thread(result.payload.share)  # another request for it may come
        return result

    @contextlib.contextmanager
    def _input(self, body: bytes, wanted: InvokeHeaders) -> Iterator[bytes | Payload]:
        if not wanted.hose_input:
            yield body
            return
        if body:
            raise BadRequest("a request has a body or Edgeagent-Hose-Input, not both")
        parcels = self._node.hose_inbox.parcels
        payload = parcels.use(wanted.hose_input)
        try:
            yield payload
        finally:
            parcels.done(wanted.hose_input, time.monotonic())

    async def _output(
        self, result: Result, wanted: InvokeHeaders, remote: str, headers: dict[str, str]
    ) -> bytes | memoryview:
        payload = result.payload
        if payload is None:
            return result.output
        try:
            assert wanted.hose_return is not None
            id_ = await self._node.remote.give_back(remote, wanted.hose_return, wanted.peer, payload)
            if id_ is not None:
                headers["Edgeagent-Hose-Output"] = id_
                return b""
            return await asyncio.to_thread(payload.read)
        finally:
            if wanted.idempotency_key is None:
                payload.close()  # else it is kept for who asks again


def _steps(name: str, wanted: InvokeHeaders) -> tuple[Step, ...]:
    return (parse_step(name), *wanted.then)


def result_headers(node: Node, result: Result, wanted: InvokeHeaders) -> dict[str, str]:
    """What every reply of an invocation says."""
    headers = {
        "Content-Type": "application/octet-stream",
        "Edgeagent-Node": node.node_id,
        "Edgeagent-Backend": result.backend,
        "Edgeagent-Duration-Us": str(result.duration_us),
        "Edgeagent-Energy-Uj": str(result.energy_uj),
        "Edgeagent-Hops": "0",
        "Edgeagent-Hose": "copy",
        "Edgeagent-Cold": "1" if result.cold else "0",
        "traceparent": wanted.traceparent,
    }
    if result.hose.mapped_bytes:  # messages and values of state, beside the body
        over = result.hose
        headers["Edgeagent-Hose"] = (
            f"{TIERS[over.tier]};copied={over.copied_bytes};mapped={over.mapped_bytes}"
        )
    if result.steps and result.steps[-1].node:  # it ran at another member
        last = result.steps[-1]
        headers["Edgeagent-Node"], headers["Edgeagent-Hops"] = last.node, "1"
        headers["Edgeagent-Hose"] = last.hose
    if result.session:
        headers[SESSION_HEADER] = result.session
    if result.replayed:
        headers["Idempotency-Replayed"] = "true"
    return headers
