"""A call with state: its session is opened before, written after, and closed whatever happens."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edgeagent.model.errors import DeadlineExceeded, GuestTrap, StorageFull
from edgeagent.model.function import Deployed
from edgeagent.model.run_tag import RunTag
from edgeagent.node.loaded import LoadedEntry
from edgeagent.node.stateful import with_state
from edgeagent.runtime.port import Outcome
from edgeagent.runtime.pure_call import PureOutcome, PurePayload


class Session:
    def __init__(self, refusal: Exception | None = None) -> None:
        self.token = "seen"
        self.did: list[str] = []
        self.refusal = refusal

    async def commit(self) -> None:
        self.did.append("commit")
        if self.refusal is not None:
            raise self.refusal

    def close(self) -> None:
        self.did.append("close")


class Sessions:
    def __init__(self, session: Session, wait_s: float = 0) -> None:
        self.session = session
        self.wait_s = wait_s

    async def begin(self, deployed: Deployed, tag: RunTag | None) -> Session:
        await asyncio.sleep(self.wait_s)
        return self.session


class Meter:
    def __init__(self) -> None:
        self.failures: list[str] = []

    def failed(self, slug: str) -> None:
        self.failures.append(slug)


def run(
    session: Session, outcome: PureOutcome | Exception, *, wait_s: float = 0, deadline: float = 0.0
) -> tuple[Any, Meter]:
    meter = Meter()
    entry = cast(LoadedEntry, SimpleNamespace(name="f", deployed=None, meter=meter))

    async def start(*, context: object) -> Outcome:
        assert context is session
        if isinstance(outcome, Exception):
            raise outcome
        return cast(Outcome, outcome)

    async def main() -> Any:
        return await with_state(Sessions(session, wait_s), entry, None, deadline, start)

    try:
        return asyncio.run(main()), meter
    except Exception as error:  # noqa: BLE001 - what it came to is looked at
        return error, meter


def test_what_succeeds_is_written_and_told() -> None:
    session, outcome = Session(), PureOutcome(output=b"x")
    (found, token), _ = run(session, outcome)
    assert found is outcome
    assert token == "seen"
    assert session.did == ["commit", "close"]


@pytest.mark.parametrize("outcome", [PureOutcome(error=GuestTrap("x")), RuntimeError("x")])
def test_what_fails_is_not_written(outcome: PureOutcome | Exception) -> None:
    session = Session()
    run(session, outcome)
    assert session.did == ["close"]


@pytest.mark.parametrize("refusal", [StorageFull("x"), RuntimeError("x")])
def test_an_output_whose_writes_fail_is_let_go(refusal: Exception) -> None:
    session, payload = Session(refusal), PurePayload(b"output", {})
    error, meter = run(session, PureOutcome(payload=payload))
    assert error is refusal
    assert payload.kind == ""
    assert session.did == ["commit", "close"]
    assert meter.failures == (["storage-full"] if isinstance(refusal, StorageFull) else [])


def test_a_deadline_that_passes_while_state_is_fetched() -> None:
    session = Session()
    error, _ = run(session, PureOutcome(), wait_s=60, deadline=1e-9)
    assert isinstance(error, DeadlineExceeded)
    assert session.did == []
