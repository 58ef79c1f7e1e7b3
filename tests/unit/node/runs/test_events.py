"""Events of runs: what is new in a record, once, in order, to the end."""

from __future__ import annotations

import asyncio

from edgeagent.node.runs.events import Events
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
