"""A small router: exact paths, and patterns with named parts. Far cheaper than a general one for a dozen routes."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import msgspec
from aiohttp import web

from edgeagent.model.errors import MethodNotAllowed, NotFound

__all__ = ["Handler", "Route", "Router"]

# What a client sends that takes us for a proxy (RFC 9112, 3.2.2).
_ABSOLUTE = re.compile(r"\Ahttps?://[^/]+", re.IGNORECASE)

Handler = Callable[[web.BaseRequest, dict[str, str]], Awaitable[web.StreamResponse]]


class Route(msgspec.Struct, frozen=True):
    """``path`` holds ``{name}`` parts, and ``{name*}`` for one with slashes; ``summary`` is for /openapi.json."""

    method: str
    path: str
    handler: Handler
    summary: str
    deploys: bool = False  # beyond loopback for operators only


class Router:
    def __init__(self, routes: list[Route]) -> None:
        self.routes = routes
        self._patterns: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        by_path: dict[str, dict[str, Route]] = {}
        for route in routes:
            by_path.setdefault(route.path, {})[route.method] = route
        for path, methods in by_path.items():
            if "GET" in methods:
                methods.setdefault("HEAD", methods["GET"])
            pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path))
            pattern = re.sub(r"\\{(\w+)\\\*\\}", r"(?P<\1>.+)", pattern)
            self._patterns.append((re.compile(pattern), methods))

    def find(self, method: str, raw_path: str) -> tuple[Route, dict[str, str]]:
        """The route and the decoded parts; raises NotFound or MethodNotAllowed (details: allow)."""
        path = _ABSOLUTE.sub("", raw_path.split("?", 1)[0], count=1)
        for pattern, methods in self._patterns:
            found = pattern.fullmatch(path)
            if found is None:
                continue
            if method not in methods:
                allow = sorted(methods)
                raise MethodNotAllowed(f"{method} is not for {path[:200]}", allow=allow)
            return methods[method], {name: unquote(part) for name, part in found.groupdict().items()}
        raise NotFound(f"no such path: {path[:200]}", hint="GET /openapi.json lists the routes")
