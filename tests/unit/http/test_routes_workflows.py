"""Workflows over HTTP, served by the real router over a port in memory."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from edgeagent.http import routes_workflows
from edgeagent.http.openapi import openapi
from edgeagent.http.problems import problem_reply
from edgeagent.http.router import Router
from edgeagent.http.routes_workflows import WorkflowRoutes, steps_field
from edgeagent.model.errors import EdgeError
from edgeagent.node.workflow_spec import parse_workflow
from edgeagent.node.workflow_views import RunView, StepView, WorkflowPort
from tests.unit.http.workflow_double import WorkflowDouble

SPEC = b'[workflow]\nname = "w"\n[[step]]\nname = "a"\nfunction = "f"\n'


class Rig:
    def __init__(self) -> None:
        self.port = WorkflowDouble()
        _: WorkflowPort = self.port
        http = SimpleNamespace(body_timeout_ms=5000, body_bytes_max=1000)
        node: Any = SimpleNamespace(node_id="n1", config=SimpleNamespace(http=http), workflows=self.port)
        self.router = Router(WorkflowRoutes(node).routes())
        self.client: aiohttp.ClientSession
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            route, path = self.router.find(request.method, request.raw_path)
            return await route.handler(request, path)
        except EdgeError as error:
            return problem_reply(error)

    async def ask(
        self, method: str, path: str, data: bytes | None = None, **headers: str
    ) -> tuple[int, aiohttp.typedefs.LooseHeaders, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.request(method, self.url + path, data=data, headers=named) as reply:
            return reply.status, reply.headers, await reply.read()


def rig(scenario: Callable[[Rig], Awaitable[None]]) -> None:
    async def main() -> None:
        made = Rig()
        runner = web.ServerRunner(web.Server(made.handle, handler_cancellation=True, access_log=None))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with aiohttp.ClientSession() as made.client, asyncio.timeout(20):
                await made.port.deploy("w", parse_workflow(SPEC, None))
                await scenario(made)
        finally:
            await runner.cleanup()

    asyncio.run(main())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - what is awaited happens in the server, which has no event for it
        await asyncio.sleep(0)


def start(made: Rig, **headers: str) -> asyncio.Task[Any]:
    return asyncio.ensure_future(made.ask("POST", "/workflows/w", b"in", **headers))


def test_deploy_get_list_undeploy() -> None:
    async def scenario(made: Rig) -> None:
        status, headers, body = await made.ask("PUT", "/v1/workflows/w", SPEC)
        assert status == 200, "one of that name was there"
        await made.ask("DELETE", "/v1/workflows/w")
        status, headers, body = await made.ask(
            "PUT", "/v1/workflows/w", SPEC, Content_Type="application/toml"
        )
        assert (status, headers["Location"]) == (201, "/v1/workflows/w")  # type: ignore[index]
        told = json.loads(body)
        assert (told["name"], told["step"][0]["function"]) == ("w", "f")
        assert json.loads((await made.ask("GET", "/v1/workflows/w"))[2]) == told
        assert json.loads((await made.ask("GET", "/v1/workflows"))[2]) == {"workflows": [told]}
        again = json.dumps({key: told[key] for key in ("workflow", "step", "trigger")}).encode()
        assert (await made.ask("PUT", "/v1/workflows/w", again, Content_Type="application/json"))[0] == 200
        assert (await made.ask("DELETE", "/v1/workflows/w"))[0] == 204
        assert (await made.ask("DELETE", "/v1/workflows/w"))[0] == 404

    rig(scenario)


@pytest.mark.parametrize(
    ("path", "spec", "kind", "status"),
    [
        ("v", SPEC, "application/toml", 422),
        ("w", b"[", "application/toml", 400),
        ("w", SPEC, "application/json", 400),
        ("w", SPEC, "image/png", 415),
        ("w", SPEC.replace(b"step", b"stpe"), "application/toml", 422),
        ("w", b"#" * 300_000, "application/toml", 413),
    ],
)
def test_specs_that_are_refused(path: str, spec: bytes, kind: str, status: int) -> None:
    async def scenario(made: Rig) -> None:
        got, _, body = await made.ask("PUT", f"/v1/workflows/{path}", spec, Content_Type=kind)
        assert (got, json.loads(body)["status"]) == (status, status)

    rig(scenario)


def test_a_run_is_waited_for() -> None:
    async def scenario(made: Rig) -> None:
        asked = start(made, Edgeagent_Deadline_Ms="500", Idempotency_Key="k")
        await until(lambda: bool(made.port.started))
        assert made.port.started == [("w", b"in", 500.0, "k")]
        await made.port.tell("run-0", "succeeded", output=b"out")
        status, headers, body = await asked
        assert (status, body) == (200, b"out")
        assert (headers["Edgeagent-Run"], headers["Edgeagent-Node"]) == ("run-0", "n1")
        (step,) = json.loads(headers["Edgeagent-Steps"])
        assert step["why"] == "near “here”"

    rig(scenario)


@pytest.mark.parametrize(
    ("state", "cause", "status", "slug"),
    [
        ("failed", {"status": 500, "detail": "it trapped", "step": "a"}, 500, "run-failed"),
        ("failed", {"status": 503, "detail": "no node", "step": "a"}, 503, "run-failed"),
        ("failed", {"status": 429, "detail": "busy", "step": "a"}, 500, "run-failed"),
        ("timed_out", {"status": 504, "detail": "late", "step": "a"}, 504, "deadline-exceeded"),
        ("failed", None, 500, "run-failed"),
    ],
)
def test_a_run_that_ends_otherwise_is_a_problem(
    state: Any, cause: dict[str, object] | None, status: int, slug: str
) -> None:
    async def scenario(made: Rig) -> None:
        asked = start(made)
        await until(lambda: bool(made.port.started))
        await made.port.tell("run-0", state, problem=cause)
        got, _, body = await asked
        problem = json.loads(body)
        assert (got, problem["type"].rpartition(":")[2], problem["run"]) == (status, slug, "run-0")
        assert problem["step"] == ("a" if cause else "")
        assert str((cause or {}).get("detail", "no reason")) in problem["detail"]

    rig(scenario)


def test_async_answers_at_once() -> None:
    async def scenario(made: Rig) -> None:
        status, headers, body = await start(made, Prefer="respond-async")
        assert (status, headers["Location"]) == (202, "/v1/runs/run-0")
        assert json.loads(body) == {"id": "run-0", "workflow": "w", "state": "running"}

    rig(scenario)


def test_starts_that_are_refused_start_nothing() -> None:
    async def scenario(made: Rig) -> None:
        assert (await made.ask("POST", "/workflows/none", b""))[0] == 404
        assert (await made.ask("POST", "/workflows/w", b"x" * 2000))[0] == 413
        assert (await made.ask("POST", "/workflows/w", b"", Edgeagent_Deadline_Ms="soon"))[0] == 400
        assert not made.port.started

    rig(scenario)


def test_views_of_runs() -> None:
    async def scenario(made: Rig) -> None:
        for _ in range(3):
            await start(made, Prefer="respond-async")
        await made.port.tell("run-0", "succeeded", output=b"\xff")
        await made.port.tell("run-1", "succeeded", output=b"x" * 70_000)
        view = json.loads((await made.ask("GET", "/v1/runs/run-0"))[2])
        assert base64.b64decode(view["output_base64"]) == b"\xff"
        assert (view["output_bytes"], view["decisions"]) == (1, [{"event": "planned"}])
        large = json.loads((await made.ask("GET", "/v1/runs/run-1"))[2])
        assert "output_base64" not in large
        assert len((await made.ask("GET", large["output"]))[2]) == 70_000
        assert "output" not in json.loads((await made.ask("GET", "/v1/runs/run-2"))[2])
        assert (await made.ask("GET", "/v1/runs/run-2/output"))[0] == 409
        runs = json.loads((await made.ask("GET", "/v1/runs?limit=2&workflow=w"))[2])["runs"]
        assert [one["id"] for one in runs] == ["run-2", "run-1"]
        assert "decisions" not in runs[0]
        assert json.loads((await made.ask("GET", "/v1/runs?workflow=other"))[2]) == {"runs": []}
        for path in ("/v1/runs/none", "/v1/runs/none/output", "/v1/runs/none/events"):
            assert (await made.ask("GET", path))[0] in {404, 409}
        assert (await made.ask("GET", "/v1/runs?limit=-1"))[0] == 400

    rig(scenario)


# -- events ------------------------------------------------------------------------------------------------------------


def test_events_come_as_they_happen_and_end() -> None:
    async def scenario(made: Rig) -> None:
        await start(made, Prefer="respond-async")
        async with made.client.get(f"{made.url}/v1/runs/run-0/events") as reply:
            assert reply.content_type == "text/event-stream"
            first = await reply.content.readuntil(b"\n\n")
            assert first == b'event: state\nid: 1\ndata: {"state":"running"}\n\n'
            await made.port.tell("run-0", "succeeded", output=b"")
            assert (await reply.content.read()).startswith(b"event: state\nid: 2\n")
        status, _, body = await made.ask("GET", "/v1/runs/run-0/events", Last_Event_ID="1")
        assert (status, body.count(b"event:")) == (200, 1)
        assert (await made.ask("GET", "/v1/runs/run-0/events", Last_Event_ID="x"))[0] == 400
        assert made.port.following == 0

    rig(scenario)


def test_a_quiet_stream_says_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes_workflows, "_KEEP_ALIVE_S", 0.01)

    async def scenario(made: Rig) -> None:
        await start(made, Prefer="respond-async")
        async with made.client.get(f"{made.url}/v1/runs/run-0/events") as reply:
            await reply.content.readuntil(b"\n\n")
            for _ in range(2):
                assert await reply.content.readuntil(b"\n\n") == b": still here\n\n"
            await made.port.tell("run-0", "failed")
            assert b"id: 2\n" in await reply.content.read()

    rig(scenario)


def test_a_client_that_leaves_leaves_nothing_behind() -> None:
    async def scenario(made: Rig) -> None:
        await start(made, Prefer="respond-async")
        reply = await made.client.get(f"{made.url}/v1/runs/run-0/events")
        await reply.content.readuntil(b"\n\n")
        assert made.port.following == 1
        reply.close()
        await until(lambda: made.port.following == 0)

    rig(scenario)


def test_a_client_that_leaves_a_wait_leaves_the_run() -> None:
    async def scenario(made: Rig) -> None:
        asked = start(made)
        await until(lambda: bool(made.port.started))
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await made.port.tell("run-0", "succeeded", output=b"out")
        assert (await made.ask("GET", "/v1/runs/run-0/output"))[2] == b"out"

    rig(scenario)


def test_a_head_does_not_wait() -> None:
    async def scenario(made: Rig) -> None:
        await start(made, Prefer="respond-async")
        status, _, body = await made.ask("HEAD", "/v1/runs/run-0/events")
        assert (status, body) == (200, b"")
        assert made.port.following == 0

    rig(scenario)


def test_openapi_describes_them() -> None:
    document = openapi(Rig().router.routes)
    paths, schemas = document["paths"], document["components"]["schemas"]
    assert set(paths["/v1/workflows/{name}"]["put"]["requestBody"]["content"]) == {
        "application/toml",
        "application/json",
    }
    run = paths["/workflows/{name}"]["post"]
    assert set(run["responses"]) == {"200", "202", "default"}
    assert "Edgeagent-Steps" in run["responses"]["200"]["headers"]
    assert "text/event-stream" in paths["/v1/runs/{id}/events"]["get"]["responses"]["200"]["content"]
    assert "application/octet-stream" in paths["/v1/runs/{id}/output"]["get"]["responses"]["200"]["content"]
    assert {one["name"] for one in paths["/v1/runs"]["get"]["parameters"]} == {"workflow", "limit"}
    assert {"Workflow", "WorkflowStep", "RunView", "StepView"} <= set(schemas)


@pytest.mark.parametrize(
    ("count", "why", "fields"), [(6, "why", 17), (64, "why" * 50, 3), (6, "y" * 9000, 3)]
)
def test_the_field_of_the_steps_is_one_that_clients_take(count: int, why: str, fields: int) -> None:
    steps = tuple(
        StepView(name=f"{i:063d}", function="f", state="succeeded", node="e" * 32, why=why)
        for i in range(count)
    )
    field = steps_field(RunView(id="r", workflow="w", state="succeeded", created_at="", steps=steps))
    told = json.loads(field)
    assert len(field) <= 8000
    assert {len(one) for one in told} == {fields}
    assert [one["name"] for one in told] == [one.name for one in steps[: len(told)]]
    assert len(told) > count * 0.7
