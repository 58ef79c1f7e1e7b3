"""Typed errors as replies: ``application/problem+json`` (RFC 9457), with Retry-After and Allow where they belong."""

from __future__ import annotations

import math

import msgspec
from aiohttp import web

from edgeagent.model.errors import EdgeError

__all__ = ["problem_reply"]


def problem_reply(error: EdgeError) -> web.Response:
    """The reply for an error; nothing of our own stack is ever in it."""
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    allow = error.details.get("allow")
    if isinstance(allow, list):
        headers["Allow"] = ", ".join(allow)
    return web.Response(
        status=error.status,
        body=msgspec.json.encode(error.problem(), enc_hook=str),
        headers=headers,
        content_type="application/problem+json",
    )
