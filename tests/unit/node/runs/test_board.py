"""What is asked of a node ends when membership holds it dead; what reports are told is bounded."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
import pytest

from edgeagent.model.errors import PeerFailed
from edgeagent.node.membership import Membership
from edgeagent.node.remote_hoses import RemoteHoses
from edgeagent.node.runs import board
from edgeagent.node.runs.board import Board, Standing, Superseded
from edgeagent.node.runs.events import Events
from edgeagent.node.runs.store import RunStore
from tests.unit.node.runs.samples import record as sample


class _Members:
    state = "alive"

    def state_of(self, node: str) -> str:
        return self.state


class _Remote:
    """Says to every report that the run goes on elsewhere."""

    async def ask(self, *_: object, **__: object) -> Any:
        class Reply:
            body = msgspec.json.encode(Standing(7, 0, "running", "another", taken=False))

        return Reply()


def _board(members: _Members) -> Board:
    return Board(
        "me",
        cast("RunStore", None),
        Events(),
        cast("RemoteHoses", _Remote()),
        cast("Membership", members),
    )


def test_who_dies_while_something_is_asked_of_it_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "_LOOK_S", 0.0)
    members = _Members()
    cancelled = []

    async def forever() -> None:
        try:
            members.state = "dead"
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def main() -> None:
        with pytest.raises(PeerFailed, match="is gone"):
            await _board(members).while_there("n", forever())

    asyncio.run(main())
    assert cancelled


def test_what_is_done_or_fails_by_itself_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "_LOOK_S", 0.0)
    members = _Members()

    async def done() -> None:
        members.state = "dead"

    async def broken() -> None:
        raise PeerFailed("refused")

    async def main() -> None:
        await _board(members).while_there("n", done())
        members.state = "alive"
        with pytest.raises(PeerFailed, match="refused"):
            await _board(members).while_there("n", broken())

    asyncio.run(main())


def test_runs_that_go_on_elsewhere_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "SUPERSEDED_MAX", 3)

    async def main() -> None:
        made = _board(_Members())
        for number in range(5):
            record = sample({"name": "s"})
            record.id, record.origin = f"r{number}", "origin"
            await made.changed(record)
            await asyncio.gather(*(task for _, task in made._reports.values()))
        assert list(made.superseded) == ["r2", "r3", "r4"]
        assert made.superseded["r4"] == 7
        with pytest.raises(Superseded):
            await made.changed(record)

    asyncio.run(main())
