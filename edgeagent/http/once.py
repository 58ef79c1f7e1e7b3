"""Calls that other nodes reserved, once for each key: who asks again after a cut gets what the first request came to.

What a cut took away is asked for again within seconds, so outcomes are kept that long, and few of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from edgeagent.model.errors import Busy
from edgeagent.node.result import Result

__all__ = ["Once"]

KEPT_S = 15.0
KEPT_MAX = 64


class Once:
    """On the event loop's thread."""

    def __init__(self, *, kept_s: float = KEPT_S, kept_max: int = KEPT_MAX) -> None:
        self._kept_s = kept_s
        self._kept_max = kept_max
        self._calls: dict[str, asyncio.Task[Result]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    async def run(self, key: str, call: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """The result, whose payload stays ours. Who leaves does not stop it. Raises what it raises, and Busy."""
        task = self._calls.get(key)
        if task is None:
            self._make_room()
            task = self._calls[key] = asyncio.ensure_future(call())
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    def _make_room(self) -> None:
        if len(self._calls) < self._kept_max:
            return
        oldest = next((key for key, task in self._calls.items() if task.done()), None)
        if oldest is None:
            raise Busy(f"{len(self._calls)} calls of other nodes run here", retry_after_s=1.0)
        self._forget(oldest)

    def _ended(self, key: str, task: asyncio.Task[Result]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._calls.pop(key, None)  # what failed may be tried again
        else:
            task.get_loop().call_later(self._kept_s, self._forget, key)

    def _forget(self, key: str) -> None:
        task = self._calls.pop(key, None)
        if task is not None and task.done() and not task.cancelled() and task.exception() is None:
            payload = task.result().payload
            if payload is not None:
                payload.close()
