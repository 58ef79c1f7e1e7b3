"""What a guardian makes of a holder's answers, of silence, and of being told that it is away."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import msgspec
import pytest

from edgeagent.model.errors import EdgeError, NotFound, PeerFailed
from edgeagent.node.membership import Membership
from edgeagent.node.remote_hoses import RemoteHoses
from edgeagent.node.runs import guard
from edgeagent.node.runs.board import Standing
from edgeagent.node.runs.guard import may_have_ended, watch
from edgeagent.node.runs.origins import Origins
from edgeagent.node.runs.record import RunRecord
from tests.unit.node.runs.samples import record as sample


class _Reply(msgspec.Struct):
    body: bytes


class _Remote:
    """Answers in turn; the last one again and again."""

    def __init__(self, *answers: Standing | EdgeError | bytes) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def ask(self, *_: object, **__: object) -> _Reply:
        self.asked += 1
        await asyncio.sleep(0)
        answer = self._answers.pop(0) if self._answers[1:] else self._answers[0]
        if isinstance(answer, EdgeError):
            raise answer
        return _Reply(answer if isinstance(answer, bytes) else msgspec.json.encode(answer))


class _Members:
    def __init__(self, state: str = "alive", returns_in_s: float | None = 0.0) -> None:
        self.state = state
        self.returns = returns_in_s

    def state_of(self, node: str) -> str:
        return self.state

    def returns_in_s(self, node: str) -> float | None:
        return self.returns


def _record(left_s: float = 60.0) -> RunRecord:
    record = sample({"name": "s"})
    record.holder, record.origin = "holder", "origin"
    record.deadline_ms = int((time.time() + left_s) * 1000)
    record.created_ms = record.deadline_ms - 60_000
    return record


def _verdict(remote: Any, members: Any, record: RunRecord | None = None) -> str:
    watching = watch(record or _record(), cast("RemoteHoses", remote), cast("Membership", members))
    return asyncio.run(asyncio.wait_for(watching, 20))


GOES_ON = Standing(1, 5, "running", "holder")


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Standing(1, 9, "succeeded", "holder"), "ended"),
        (Standing(1, 9, "running", "another"), "released"),
        (Standing(2, 0, "running", "holder"), "released"),
        (NotFound("it lost its state"), "dead"),
    ],
)
def test_what_the_holder_says(answer: Standing | EdgeError, verdict: str) -> None:
    remote = _Remote(GOES_ON, answer)
    assert _verdict(remote, _Members()) == verdict
    assert remote.asked == 2


@pytest.mark.parametrize("nothing", [PeerFailed("refused"), b"nonsense"])
def test_one_that_does_not_answer_has_some_tries(
    nothing: EdgeError | bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_PAUSE_S", 0.0)
    remote = _Remote(nothing)
    assert _verdict(remote, _Members()) == "dead"
    assert remote.asked == 3
    again = _Remote(nothing, GOES_ON, nothing, nothing, GOES_ON, Standing(1, 9, "failed", "holder"))
    assert _verdict(again, _Members()) == "ended", "an answer makes good for those that did not come"


def test_one_that_membership_holds_dead_has_none() -> None:
    remote = _Remote(PeerFailed("refused"))
    assert _verdict(remote, _Members("dead")) == "dead"
    assert remote.asked == 1


def test_after_a_start_a_holder_is_given_time_to_be_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_PAUSE_S", 0.0)
    unknown = [PeerFailed("this node knows no peer of that name")] * 20
    assert _verdict(_Remote(*unknown, Standing(1, 9, "succeeded", "holder")), _Members("")) == "ended"
    monkeypatch.setattr(guard, "STRANGER_S", 0.0)
    assert _verdict(_Remote(unknown[0]), _Members("")) == "dead"


@pytest.mark.parametrize("returns_in_s", [None, 61.0])
def test_one_that_is_back_too_late_is_away(returns_in_s: float | None) -> None:
    assert _verdict(_Remote(PeerFailed("no route")), _Members("occluded", returns_in_s)) == "away"


def test_one_that_is_back_in_time_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_PAUSE_S", 0.0)
    away = [PeerFailed("no route")] * 10
    remote = _Remote(*away, Standing(1, 9, "succeeded", "holder"))
    assert _verdict(remote, _Members("occluded", 0.0)) == "ended"


def test_near_the_end_nothing_is_begun_again() -> None:
    members = _Members("occluded", 1000.0)
    assert _verdict(_Remote(PeerFailed("no route")), members, _record(left_s=0.1)) == "late"


def test_of_a_run_over_its_time_only_those_by_plan_away_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_GRACE_S", "PAUSE_S_MAX", "_OCCLUDED_S"):
        monkeypatch.setattr(guard, name, 0.0)

    def may(record: RunRecord, here: str, members: _Members) -> bool:
        return asyncio.run(may_have_ended(record, here, cast("Membership", members)))

    record = _record(left_s=-1.0)
    assert not may(record, "holder", _Members("occluded")), "it holds it itself"
    for state in ("alive", "dead"):
        assert not may(record, "origin", _Members(state))

    class _Rising(_Members):
        def returns_in_s(self, node: str) -> float | None:
            self.state = "alive"
            return 0.0

    assert may(record, "origin", _Rising("occluded"))
    record.deadline_ms -= 2 * 24 * 3_600_000
    assert not may(record, "origin", _Members("occluded")), "for a day"


def test_the_origin_misses_a_run_whose_holder_and_guardian_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.node.runs.origins._LOOK_S", 0.0)
    members = _Members("dead")
    origins = Origins("origin", cast("Membership", members))
    record = _record()

    async def watched(left_s: float = 60.0) -> str:
        return await origins.watch(record.id, time.time() + left_s)

    assert asyncio.run(watched()) == "ended", "it was never heard of"
    record.guardian = "origin"
    origins.heard(record)
    assert asyncio.run(watched(0.01)) == "late", "its guardian is here"
    record.guardian = "guardian"
    origins.heard(record)
    assert asyncio.run(watched()) == "lost"
    members.state = "occluded"
    assert asyncio.run(watched(0.01)) == "late"
    members.state = ""
    assert asyncio.run(watched()) == "lost", "who is not heard of for long"
    monkeypatch.setattr("edgeagent.node.runs.origins._LOOKS_STRANGER", 1_000_000)
    assert asyncio.run(watched(0.05)) == "late", "but not at once"
    record.state = "succeeded"
    origins.heard(record)
    assert asyncio.run(watched()) == "ended"
    record.origin, record.state = "another", "running"
    origins.heard(record)
    assert asyncio.run(watched()) == "ended"
