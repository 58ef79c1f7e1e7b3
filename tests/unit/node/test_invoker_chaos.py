"""Calls of every kind that end in every way, in random order: then nothing is held and all have an answer."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from edgeagent.model.errors import Busy, DeadlineExceeded, EdgeError, GuestExit
from tests.unit.node.doubles import Rig, rig, turns

STEPS = 300


class Chaos:
    def __init__(self, parts: Rig, seed: int) -> None:
        self.chance = random.Random(seed)
        self.parts = parts
        self.tasks: list[asyncio.Future[Any]] = []

    async def play(self) -> None:
        chance = self.chance
        for _ in range(STEPS):
            chance.choice([self.begin, self.begin, self.end, self.end, self.disturb])()
            if chance.random() < 0.5:
                await turns(chance.randrange(1, 4))
            if chance.random() < 0.02:
                await self.parts.deploy(chance.choice("fg"), b"bytes %d" % chance.randrange(4), concurrency=2)
        self.parts.engine.mode, self.parts.engine.refuse = "quick", None
        if chance.random() < 0.5:
            for call in self.parts.engine.calls:
                call.end_unless_done()
        await self.parts.invoker.stop()

    def begin(self) -> None:
        chance, invoker = self.chance, self.parts.invoker
        name, body = chance.choice("fg"), bytes(chance.randrange(3))
        if chance.random() < 0.3:
            with contextlib.suppress(GuestExit):
                invoker.try_invoke(name, body)
        key = chance.choice([None, None, "k1", "k2"])
        wall_ms = chance.choice([0, 0, 1, 10_000])
        start: Any = invoker.submit if chance.random() < 0.2 else invoker.invoke
        self.tasks.append(asyncio.ensure_future(start(name, body, None, wall_ms, key)))

    def end(self) -> None:
        running = [call for call in self.parts.engine.calls if not call.future.done()]
        if running:
            error = self.chance.choice([None, None, GuestExit("exit 1"), DeadlineExceeded("late")])
            self.chance.choice(running).end(error=error)

    def disturb(self) -> None:
        engine = self.parts.engine
        engine.mode = self.chance.choice(["inline", "quick", "held", "held"])
        engine.refuse = self.chance.choice([None, None, None, Busy("no slot")])
        waiting = [task for task in self.tasks if not task.done()]
        if waiting:
            self.chance.choice(waiting).cancel()


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_held_when_all_is_over(tmp_path: Path, seed: int) -> None:
    async def main() -> None:
        async with rig(tmp_path, queue__depth_max="5") as parts:  # which looks for permits that are still out
            await parts.deploy("f", concurrency=1)
            await parts.deploy("g", b"bytes g", concurrency=3)
            chaos = Chaos(parts, seed)
            await chaos.play()
            for result in await asyncio.gather(*chaos.tasks, return_exceptions=True):
                assert not isinstance(result, Exception) or isinstance(result, EdgeError)
            assert all(call.future.done() for call in parts.engine.calls)

    asyncio.run(main())
