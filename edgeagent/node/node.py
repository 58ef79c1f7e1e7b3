"""The daemon without its wires: engine, store, functions and invocations, with one start and one end."""

from __future__ import annotations

from typing import Any

from edgeagent.node.config import Config
from edgeagent.node.functions import Functions
from edgeagent.node.invoker import Invoker
from edgeagent.runtime.port import Engine

__all__ = ["Node"]


class Node:
    config: Config
    node_id: str
    started_at: str
    functions: Functions
    invoker: Invoker
    engine: Engine
    draining: bool

    def __init__(self, config: Config) -> None:
        self.config = config

    async def start(self) -> None:
        raise NotImplementedError

    async def drain(self) -> None:
        """Refuse new calls, let running ones finish within drain.timeout_ms, then stop them."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop everything; idempotent."""
        raise NotImplementedError

    def ready(self) -> tuple[bool, list[str]]:
        raise NotImplementedError

    def view(self) -> dict[str, Any]:
        raise NotImplementedError
