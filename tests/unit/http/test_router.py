"""The router: exact parts, decoded names, what is not there."""

from __future__ import annotations

import pytest
from aiohttp import web

from edgeagent.http.openapi import openapi
from edgeagent.http.router import Handler, Route, Router
from edgeagent.model.errors import MethodNotAllowed, NotFound


async def one(request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
    raise AssertionError(path)


async def other(request: web.BaseRequest, path: dict[str, str]) -> web.StreamResponse:
    raise AssertionError(path)


ROUTER = Router(
    [Route("GET", "/things/{name}", one, "a thing"), Route("PUT", "/things/{name}", other, "put it")]
)


def found(method: str, path: str) -> tuple[Handler, dict[str, str]]:
    route, parts = ROUTER.find(method, path)
    return route.handler, parts


def test_found_by_method_and_path() -> None:
    assert found("GET", "/things/a") == (one, {"name": "a"})
    assert found("HEAD", "/things/a")[0] is one
    assert found("PUT", "/things/a?x=/y") == (other, {"name": "a"})
    assert ROUTER.find("GET", "/things/%2e%2e%2fb")[1] == {"name": "../b"}, "decoded once, after matching"


def test_a_target_with_scheme_and_host() -> None:
    assert found("GET", "http://node:1/things/a?x") == (one, {"name": "a"})
    assert found("GET", "HTTPS://node/things/a") == (one, {"name": "a"})
    for path in ("http://things/a", "ftp://node/things/a", "/http://node/things/a", "http:///things/a"):
        with pytest.raises(NotFound):
            ROUTER.find("GET", path)


def test_refusals() -> None:
    for path in ("/things", "/things/", "/things/a/b", "/Things/a", "//things/a", "/things/a/"):
        with pytest.raises(NotFound):
            ROUTER.find("GET", path)
    with pytest.raises(MethodNotAllowed) as refused:
        ROUTER.find("DELETE", "/things/a")
    assert refused.value.details["allow"] == ["GET", "HEAD", "PUT"]


def test_every_route_is_described() -> None:
    document = openapi(ROUTER.routes)
    assert set(document["paths"]["/things/{name}"]) == {"get", "put"}
    put = document["paths"]["/things/{name}"]["put"]
    assert put["parameters"][0] == {
        "name": "name",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
    }
    assert put["responses"]["default"]["content"]["application/problem+json"]
