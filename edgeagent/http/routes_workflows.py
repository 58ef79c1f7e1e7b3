"""Workflows and their runs: deploy, start, watch, look."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from typing import Any

import msgspec
from aiohttp import web

from edgeagent.http.body import read_body
from edgeagent.http.headers import read_invoke_headers
from edgeagent.http.router import Route
from edgeagent.http.routes_functions import json_reply
from edgeagent.model.errors import BadRequest, DeadlineExceeded, EdgeError, Refused, RunFailed
from edgeagent.model.workflow import Workflow
from edgeagent.node.node import Node
from edgeagent.node.workflow_spec import TEXT_BYTES_MAX, parse_workflow
from edgeagent.node.workflow_views import RunEvent, RunView

__all__ = ["WorkflowRoutes", "steps_field"]

_INLINE_BYTES_MAX = 64 << 10
_FIELD_BYTES_MAX = 8000  # of the 8190 that most clients and proxies take, name and all
_KEEP_ALIVE_S = 10.0
_RUNS_MAX = 1000
_NUMBER = re.compile(r"[0-9]{1,9}")


class WorkflowRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._body_s = node.config.http.body_timeout_ms / 1000

    def routes(self) -> list[Route]:
        one, run = "/v1/workflows/{name}", "/v1/runs/{id}"
        return [
            Route("GET", "/v1/workflows", self.list, "All deployed workflows"),
            Route("PUT", one, self.deploy, "Deploy a workflow, TOML or JSON", deploys=True),
            Route("GET", one, self.get, "One workflow"),
            Route("DELETE", one, self.undeploy, "Undeploy a workflow", deploys=True),
            Route("POST", "/workflows/{name}", self.start, "Run a workflow; the body is its input"),
            Route("GET", "/v1/runs", self.runs, "The latest runs; ?workflow=NAME&limit=50"),
            Route("GET", run, self.run, "How a run stands: steps, where and why, decisions"),
            Route("GET", run + "/output", self.output, "The bytes that a run returned"),
            Route("GET", run + "/events", self.events, "What happens in a run, as server-sent events"),
        ]

    async def list(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        return json_reply({"workflows": [_workflow_json(one) for one in self._node.workflows.list()]})

    async def deploy(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        data = await read_body(request, TEXT_BYTES_MAX, self._body_s)
        workflow = parse_workflow(data, request.content_type)
        if workflow.workflow.name != path["name"]:
            raise Refused(
                f"the spec names the workflow {workflow.workflow.name!r}, the path {path['name'][:80]!r}"
            )
        is_new = await asyncio.shield(self._node.workflows.deploy(path["name"], workflow))
        headers = {"Location": f"/v1/workflows/{path['name']}"}
        return json_reply(_workflow_json(workflow), status=201 if is_new else 200, headers=headers)

    async def get(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        return json_reply(_workflow_json(self._node.workflows.get(path["name"])))

    async def undeploy(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        await self._node.workflows.undeploy(path["name"])
        return web.Response(status=204)

    async def start(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        name, wanted, port = path["name"], read_invoke_headers(request.headers), self._node.workflows
        await port.find(name)  # unknown ones are refused before the body is read
        body = await read_body(request, self._node.config.http.body_bytes_max, self._body_s)
        run_id = await asyncio.shield(
            port.start(
                name,
                body,
                deadline_ms=wanted.deadline_ms,
                key=wanted.idempotency_key,
                traceparent=wanted.traceparent,
            )
        )
        headers = {
            "Edgeagent-Run": run_id,
            "Edgeagent-Node": self._node.node_id,
            "traceparent": wanted.traceparent,
        }
        if wanted.is_async:
            headers |= {"Location": f"/v1/runs/{run_id}", "Preference-Applied": "respond-async"}
            return json_reply(
                {"id": run_id, "workflow": name, "state": "running"}, status=202, headers=headers
            )
        view = await port.finished(run_id)
        _raise_unless_succeeded(view)
        headers["Edgeagent-Steps"] = steps_field(view)
        headers["Content-Type"] = "application/octet-stream"
        return web.Response(body=await port.output(run_id), headers=headers)

    async def runs(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        limit = min(_whole(request.query.get("limit", "50"), "limit"), _RUNS_MAX)
        found = await self._node.workflows.runs(limit, request.query.get("workflow") or None)
        return json_reply({"runs": [_short_json(view) for view in found]})

    async def run(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        view = await self._node.workflows.view(path["id"])
        document = msgspec.to_builtins(view)
        if view.state == "succeeded":
            document["output"] = f"/v1/runs/{view.id}/output"
            if (view.output_bytes or 0) <= _INLINE_BYTES_MAX:
                output = await self._node.workflows.output(view.id)
                document["output_base64"] = base64.b64encode(output).decode("ascii")
        return json_reply(document)

    async def output(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        data = await self._node.workflows.output(path["id"])
        return web.Response(body=data, content_type="application/octet-stream")

    # -- events ----------------------------------------------------------------------------------------------

    async def events(self, request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
        after = _whole(request.headers.get("Last-Event-ID", "0") or "0", "Last-Event-ID")
        await self._node.workflows.view(path["id"])  # NotFound before the reply has begun
        reply = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            }
        )
        await reply.prepare(request)
        if request.method == "HEAD":
            return reply
        stream = self._node.workflows.events(path["id"], after)
        following = asyncio.ensure_future(anext(stream, None))
        try:
            while True:
                await asyncio.wait({following}, timeout=_KEEP_ALIVE_S)
                if not following.done():
                    await reply.write(b": still here\n\n")
                    continue
                event = following.result()
                if event is None:
                    break
                await reply.write(_event_bytes(event))
                following = asyncio.ensure_future(anext(stream, None))
        except (ConnectionError, EdgeError):  # the client left, or the run was forgotten: nothing to answer
            pass
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            with contextlib.suppress(RuntimeError):
                await stream.aclose()  # type: ignore[attr-defined]
        return reply


def steps_field(view: RunView) -> str:
    """The steps in one header field, which clients take 8 KiB of: where there is more to say, ``/v1/runs/{id}`` says it
    and the field only where each step ran; with more steps than fit, the first ones.
    """
    field = msgspec.json.encode(view.steps).decode()
    if len(field) <= _FIELD_BYTES_MAX:
        return field
    short = [{"name": one.name, "state": one.state, "node": one.node} for one in view.steps]
    while len(field := msgspec.json.encode(short).decode()) > _FIELD_BYTES_MAX:
        short.pop()
    return field


def _event_bytes(event: RunEvent) -> bytes:
    data = msgspec.json.encode(event.data).decode()
    return f"event: {event.kind}\nid: {event.seq}\ndata: {data}\n\n".encode()


def _workflow_json(workflow: Workflow) -> dict[str, Any]:
    return {"name": workflow.workflow.name, **msgspec.to_builtins(workflow)}


def _short_json(view: RunView) -> dict[str, Any]:
    document = msgspec.to_builtins(view)
    document.pop("decisions")
    return {
        **document,
        "steps": [{"name": one.name, "state": one.state, "node": one.node} for one in view.steps],
    }


def _raise_unless_succeeded(view: RunView) -> None:
    problem = view.problem or {}
    detail = str(problem.get("detail", "no reason is known"))
    if view.state == "timed_out":
        raise DeadlineExceeded(f"run {view.id}: {detail}", run=view.id, step=problem.get("step", ""))
    if view.state == "running":
        raise DeadlineExceeded(
            f"run {view.id} is over its time, and {view.holder[:12]}, which holds it, is out of contact",
            hint=f"what became of it is held there until it is back: GET /v1/runs/{view.id}",
            run=view.id,
        )
    if view.state != "succeeded":
        failed = RunFailed(
            f"run {view.id} failed: {detail}",
            hint=str(problem.get("hint", "")),
            run=view.id,
            step=problem.get("step", ""),
            cause=problem,
        )
        if problem.get("status") in {503, 422, 404}:  # no node for it, not a fault of what ran
            failed.status = int(problem["status"])  # type: ignore[misc]
        raise failed


def _whole(text: str, name: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise BadRequest(f"{name}={text[:40]!r} is no whole number")
    return int(text)
