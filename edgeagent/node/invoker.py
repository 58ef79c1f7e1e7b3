"""Running a function once: admission, deadline, idempotency, journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgeagent.node.result import InvocationView, Result

if TYPE_CHECKING:
    from edgeagent.node.node import Node

__all__ = ["InvocationView", "Invoker", "Result"]


class Invoker:
    def __init__(self, node: Node) -> None:
        self._node = node

    def try_invoke(
        self, name: str, body: bytes | memoryview, args: Sequence[str] | None = None, wall_ms: float = 0
    ) -> Result | None:
        """The hot path: the result when the function ran at once on this thread; None: go on with ``invoke``.

        Raises the guest's typed error when it ran and failed.
        """
        raise NotImplementedError

    async def invoke(
        self,
        name: str,
        body: bytes | memoryview,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        idempotency_key: str | None = None,
    ) -> Result:
        raise NotImplementedError

    async def submit(
        self,
        name: str,
        body: bytes | memoryview,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        idempotency_key: str | None = None,
    ) -> str:
        raise NotImplementedError

    async def status(self, invocation_id: str) -> InvocationView:
        raise NotImplementedError
