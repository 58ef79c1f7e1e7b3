"""Events of runs: what is new in a record, once, in order, to the end."""

from __future__ import annotations

import asyncio

from edgeagent.node.runs.events import Events
from edgeagent.node.workflow_views import RunEvent
from tests.unit.node.runs.samples import record


def test_followers_get_what_is_new_and_end_with_the_run() -> None:
    async def main() -> None:
        events, run = Events(), record({"name": "a"})
        events.saw(run)
        kinds: list[str] = []

        async def follow() -> None:
            kinds.extend([event.kind async for event in events.follow("r", 0)])

        following = asyncio.ensure_future(follow())
        await asyncio.sleep(0)
        run.step("a").state = "running"
        events.saw(run)
        events.saw(run)  # nothing new
        run.step("a").state = "succeeded"
        events.saw(run)
        run.state = "succeeded"
        events.saw(run)
        run.step("a").state = "failed"  # after the end nothing counts
        events.saw(run)
        await asyncio.wait_for(following, 5)
        assert kinds == ["state", "step", "step", "state"]
        late = [event.seq async for event in events.follow("r", 2)]
        assert late == [3, 4]

    asyncio.run(main())


def test_a_number_from_before_a_restart_begins_at_the_first() -> None:
    async def main() -> None:
        events, run = Events(), record({"name": "a"})
        run.state = "succeeded"
        events.saw(run)
        assert [event.seq async for event in events.follow("r", 50)] == [1]

    asyncio.run(main())


def test_runs_that_are_followed_are_not_forgotten() -> None:
    async def main() -> None:
        events, run = Events(runs_max=2), record({"name": "a"})
        events.saw(run)
        seen: list[RunEvent] = []

        async def follow() -> None:
            seen.extend([event async for event in events.follow("r", 0)])

        following = asyncio.ensure_future(follow())
        await asyncio.sleep(0)
        for i in range(5):
            other = record({"name": "a"})
            other.id = f"other-{i}"
            events.saw(other)
        assert len(events._logs) == 2
        run.state = "failed"
        events.saw(run)
        await asyncio.wait_for(following, 5)
        assert seen[-1].data["state"] == "failed"
        assert not events._logs["r"].followers

    asyncio.run(main())


def test_who_follows_a_run_that_leaves_is_told_where_it_is() -> None:
    async def main() -> None:
        events, run = Events(), record({"name": "a"})
        events.saw(run)
        run.holder = "other"
        events.left(run)
        events.left(run)
        told = [event async for event in events.follow("r", 0)]
        assert [one.kind for one in told] == ["state", "moved"]
        assert told[-1].data == {"holder": "other", "origin": run.origin, "events": "/v1/runs/r/events"}
        assert [one.kind async for one in events.follow("r", 2)] == []
        run.step("a").state = "placed"
        events.saw(run)  # a copy for its guardian, say
        events.left(run)
        assert [one.kind async for one in events.follow("r", 2)][-1] == "moved"
        events.back("r")
        following = asyncio.ensure_future(anext(events.follow("r", 50)))
        assert (await asyncio.wait_for(following, 5)).seq == 1
        run.state = "succeeded"
        events.saw(run)
        assert [one.data["state"] async for one in events.follow("r", 0) if one.kind == "state"][
            -1
        ] == "succeeded"

    asyncio.run(main())
