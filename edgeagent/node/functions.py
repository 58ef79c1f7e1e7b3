"""The functions of a node: deploy, load, replace, undeploy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeagent.model.function import Deployed, Manifest
from edgeagent.runtime import port

if TYPE_CHECKING:
    from edgeagent.node.node import Node

__all__ = ["Functions", "LoadedEntry"]


class LoadedEntry:
    """A function that can be called now."""

    function: port.Function
    deployed: Deployed


class Functions:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def deploy(self, name: str, wasm: bytes, manifest: Manifest | None = None) -> tuple[Deployed, bool]:
        """Store, compile, check and register a function; (it, whether it is new)."""
        raise NotImplementedError

    def get(self, name: str) -> Deployed:
        raise NotImplementedError

    def list(self) -> list[Deployed]:
        raise NotImplementedError

    async def undeploy(self, name: str) -> None:
        raise NotImplementedError

    def ready(self, name: str) -> LoadedEntry | None:
        raise NotImplementedError

    async def load(self, name: str) -> LoadedEntry:
        raise NotImplementedError
