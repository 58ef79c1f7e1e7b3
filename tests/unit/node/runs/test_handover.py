"""What a giver makes of the answers of the node that it gives a run to."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from edgeagent.model.errors import EdgeError, PeerFailed
from edgeagent.node.forwarder import Forwarder
from edgeagent.node.remote_hoses import RemoteHoses
from edgeagent.node.runs.board import Board, Superseded
from edgeagent.node.runs.events import Events
from edgeagent.node.runs.handover import Handover
from edgeagent.node.runs.live import LiveData
from edgeagent.node.runs.record import CLAIM, RunRecord
from tests.unit.node.runs.samples import record


class _Answers:
    """Forwarder, remote and board in one: reservations are made, and the record is answered with ``error``."""

    def __init__(self, error: EdgeError | None) -> None:
        self.error = error
        self.events = Events()
        self.store = self
        self.id = "reservation"
        self.changes: list[tuple[int, int]] = []

    async def reserve(self, *_: object) -> _Answers:
        return self

    async def put(self, *_: object) -> bool:
        return True

    async def keep(self, *_: object) -> None:
        return None

    async def ask(self, *_: object, **__: object) -> None:
        if self.error is not None:
            raise self.error

    async def while_there(self, _: str, work: Coroutine[Any, Any, None]) -> None:
        await work

    async def changed(self, run: RunRecord, *, durable: bool) -> None:
        self.changes.append(run.order)


def _give(error: EdgeError | None) -> tuple[str, RunRecord, _Answers]:
    run, other = record({"name": "s"}), _Answers(error)
    made = Handover("a", cast(Board, other), cast(Forwarder, other), cast(RemoteHoses, other))
    return asyncio.run(made.give(run, "s", "b", cast(LiveData, other))), run, other


def test_a_run_that_was_taken_is_gone() -> None:
    why_not, _, other = _give(None)
    assert why_not == ""
    assert other.changes == []


@pytest.mark.parametrize("answer", [PeerFailed("silence"), Superseded("newer here", epoch=1)])
def test_where_it_may_have_been_taken_the_giver_goes_on_under_its_own_epoch(answer: EdgeError) -> None:
    why_not, run, other = _give(answer)
    assert why_not == answer.message
    assert other.changes == [(1 + CLAIM["guardian"], 0)] == [run.order]


def test_a_giver_that_was_taken_over_from_lets_go() -> None:
    with pytest.raises(Superseded):
        _give(Superseded("newer here", epoch=2))


def test_those_who_may_go_on_at_the_same_time_do_it_under_different_epochs() -> None:
    assert len({*CLAIM.values()}) == len(CLAIM)
    assert CLAIM["holder"] < CLAIM["guardian"] < CLAIM["origin"]
