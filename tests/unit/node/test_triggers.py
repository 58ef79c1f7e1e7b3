"""When a trigger begins a run."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from edgeagent.model.errors import NotFound
from edgeagent.model.workflow import Trigger, Workflow, WorkflowSection, WorkflowStep
from edgeagent.node.membership import Membership
from edgeagent.node.triggers import Triggers, is_due, is_over, last_due_s
from edgeagent.node.workflows import Workflows


@pytest.mark.parametrize(
    ("now_s", "last_s", "due"),
    [(10.0, None, False), (10.0, 5.0, True), (9.9, 5.0, False), (100.0, 5.0, True)],
)
def test_by_time(now_s: float, last_s: float | None, due: bool) -> None:
    trigger = Trigger(every_s=5)
    assert is_due(trigger, now_s=now_s, last_s=last_s, holds=False, held=False) is due


@pytest.mark.parametrize(
    ("holds", "held", "due"),
    [(True, False, True), (True, True, False), (False, True, False), (False, False, False)],
)
def test_by_condition_when_it_begins_to_hold(holds: bool, held: bool, due: bool) -> None:
    assert is_due(Trigger(contact_with="x"), now_s=0.0, last_s=None, holds=holds, held=held) is due


def test_over_a_region() -> None:
    assert is_over((48.0, 16.0), (48.0, 16.0, 1.0))
    assert is_over((48.0, 17.0), (48.0, 16.0, 75.0))  # a degree of longitude there is 74.4 km
    assert not is_over((48.0, 17.0), (48.0, 16.0, 74.0))
    assert is_over((0.0, 179.9), (0.0, -179.9, 23.0))  # over the antimeridian
    assert is_over((90.0, 5.0), (90.0, -120.0, 0.1))


def test_looks_that_come_late_do_not_add_up() -> None:
    trigger = Trigger(every_s=5)
    assert last_due_s(trigger, now_s=10.4, last_s=5.0) == pytest.approx(10.0)
    assert last_due_s(trigger, now_s=31.0, last_s=5.0) == pytest.approx(30.0), (
        "what was missed is not made up for"
    )
    assert last_due_s(Trigger(contact_with="x"), now_s=7.0, last_s=1.0) == 7.0


class _Workflows:
    """Runs that are forgotten as soon as they have begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.there = [
            Workflow(
                workflow=WorkflowSection(name="w"),
                step=(WorkflowStep(name="a", function="f"),),
                trigger=(Trigger(every_s=1),),
            )
        ]

    def list(self) -> list[Workflow]:
        return self.there

    async def start(self, name: str, body: bytes, **_: object) -> str:
        self.begun += 1
        return str(self.begun)

    async def view(self, run_id: str) -> None:
        raise NotFound("swept")


class _Members:
    now_s = 0.0

    def utc_now_s(self) -> float:
        return self.now_s


def test_a_run_that_is_forgotten_does_not_keep_the_next_from_beginning() -> None:
    workflows, members = _Workflows(), _Members()
    triggers = Triggers(cast("Workflows", workflows), cast("Membership", members))

    async def main() -> None:
        for now_s in range(4):
            members.now_s = now_s + 0.1
            await triggers.look()
        assert workflows.begun == 3
        assert triggers.noted == 1
        workflows.there.clear()
        await triggers.look()
        assert triggers.noted == 0, "nothing is kept of what is undeployed"

    asyncio.run(main())
