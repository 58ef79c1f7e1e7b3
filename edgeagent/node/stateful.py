"""Functions that use state: a session is opened before the call, what it wrote is written before its output counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Protocol

from edgeagent.model.errors import DeadlineExceeded, EdgeError
from edgeagent.model.function import Deployed
from edgeagent.model.run_tag import RunTag
from edgeagent.node.loaded import LoadedEntry
from edgeagent.runtime import port

__all__ = ["StateSession", "StateSessions", "with_state"]


class StateSession(Protocol):
    """Of one call; ``token`` is what it has seen."""

    token: str

    async def commit(self) -> None: ...
    def close(self) -> None: ...


class StateSessions(Protocol):
    """See ``state_fusion``."""

    async def begin(self, deployed: Deployed, tag: RunTag | None) -> StateSession: ...


class _Start(Protocol):
    def __call__(self, *, context: object) -> Awaitable[port.Outcome]: ...


async def with_state(
    sessions: StateSessions, entry: LoadedEntry, tag: RunTag | None, deadline: float, start: _Start
) -> tuple[port.Outcome, str]:
    """The outcome, and the token of what was seen. ``deadline``: monotonic, 0 for none.

    Raises what ``start`` raises, DeadlineExceeded, and what the writes came to: then the call has failed.
    """
    try:
        async with asyncio.timeout(deadline - time.monotonic() if deadline else None):
            session = await sessions.begin(entry.deployed, tag)
    except TimeoutError:
        raise DeadlineExceeded(f"the deadline passed while the state of {entry.name} was fetched") from None
    try:
        outcome = await start(context=session)
        if outcome.error is None:
            await _commit(session, entry, outcome)
        return outcome, session.token
    finally:
        session.close()


async def _commit(session: StateSession, entry: LoadedEntry, outcome: port.Outcome) -> None:
    try:
        await session.commit()
    except BaseException as error:
        if isinstance(error, EdgeError):
            entry.meter.failed(error.slug)
            error.details.setdefault("function", entry.name)
        if outcome.payload is not None:
            outcome.payload.close()
        raise
