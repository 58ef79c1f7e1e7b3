"""What guests' state rests on: the node's state service, as sessions and their asks see it."""

from __future__ import annotations

from typing import Protocol

from edgeagent.state.calls import Group, GroupDone, Listed

__all__ = ["StatePort"]


class StatePort(Protocol):
    """On the event loop's thread. Full keys, without ``run/``."""

    async def group(self, group: Group, *, run: str, epoch: int) -> GroupDone:
        """All or nothing. ``results`` are those of ``ops``, in their order, then those below ``prefix``. ``run``: whose
        step asks, "" for none. Raises EdgeError: VersionMismatch, KeyTaken, Fenced, NotDurable, Behind, TooLarge,
        StorageFull, StoreFailed, BadKey.
        """
        ...

    async def list(self, prefix: str, after: str, limit: int) -> list[Listed]:
        """In the order of their keys, those above ``after``. Raises EdgeError."""
        ...
