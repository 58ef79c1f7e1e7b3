"""Calls once for each key."""

from __future__ import annotations

import asyncio

import pytest

from edgeagent.http.once import Once
from edgeagent.model.errors import Busy, Unavailable
from edgeagent.node.result import Result


class _Call:
    def __init__(self) -> None:
        self.count = 0
        self.may_end = asyncio.Event()
        self.fails = False

    async def __call__(self) -> Result:
        self.count += 1
        await self.may_end.wait()
        if self.fails:
            raise Unavailable("no")
        return Result(output=b"x")


def test_who_asks_again_gets_the_first_outcome() -> None:
    async def main() -> None:
        once, call = Once(), _Call()
        first = asyncio.ensure_future(once.run("k", call))
        second = asyncio.ensure_future(once.run("k", call))
        await asyncio.sleep(0)
        first.cancel()  # who leaves does not stop it
        await asyncio.sleep(0)
        call.may_end.set()
        assert (await second).output == b"x"
        assert (await once.run("k", call)).output == b"x"
        assert call.count == 1

    asyncio.run(main())


def test_what_failed_may_be_tried_again() -> None:
    async def main() -> None:
        once, call = Once(), _Call()
        call.may_end.set()
        call.fails = True
        with pytest.raises(Unavailable):
            await once.run("k", call)
        call.fails = False
        assert (await once.run("k", call)).output == b"x"
        assert call.count == 2

    asyncio.run(main())


def test_it_is_bounded() -> None:
    async def main() -> None:
        once, call = Once(kept_max=1), _Call()
        held = asyncio.ensure_future(once.run("a", call))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await once.run("b", call)
        call.may_end.set()
        await held
        assert (await once.run("b", call)).output == b"x"
        assert len(once) == 1

    asyncio.run(main())
