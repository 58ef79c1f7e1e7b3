"""Removing the files that no function names, at moments when nobody can be about to need them.

Whoever puts, compiles or loads is a user; a collection begins only when there is none, and users who
arrive meanwhile wait for its end (some milliseconds of unlinking).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from edgeagent.model.errors import EdgeError

__all__ = ["Collector"]

T = TypeVar("T")

log = structlog.get_logger("collector")


class Collector:
    """``collect`` removes what is not needed and returns how many files that were."""

    def __init__(self, collect: Callable[[], Awaitable[int]]) -> None:
        self._collect = collect
        self._users = 0
        self._wanted = False
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    def want(self) -> None:
        """There may be something to collect; it happens as soon as there is no user."""
        self._wanted = True
        self._begin_if_idle()

    async def use(self, work: Awaitable[T]) -> T:
        """Run ``work`` while nothing is collected."""
        while self._running is not None:
            await asyncio.shield(self._running)
        self._users += 1
        try:
            return await work
        finally:
            self._users -= 1
            self._begin_if_idle()

    async def settled(self) -> None:
        """Wait for a collection that runs."""
        if self._running is not None:
            await asyncio.shield(self._running)

    async def close(self) -> None:
        """Begin none any more, and wait for the one that runs."""
        self._closed = True
        await self.settled()

    def _begin_if_idle(self) -> None:
        if self._wanted and not self._users and self._running is None and not self._closed:
            self._wanted = False
            self._running = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        try:
            removed = await self._collect()
        except (EdgeError, OSError) as error:
            log.warning("leftovers could not be removed", error=str(error))
        else:
            if removed:
                log.info("removed leftovers", files=removed)
        finally:
            self._running = None
