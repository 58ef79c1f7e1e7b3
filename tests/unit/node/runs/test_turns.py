"""Calls of one stage take turns where the nodes are full of them, and give up where others fill the nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from edgeagent.model.errors import Busy, PeerFailed, Unavailable
from edgeagent.node.forwarder import Forwarder, Landed, Order, Told
from edgeagent.node.runs.turns import Turns

ORDER = cast("Order", object())


class _Nodes:
    """One node with room for ``room`` calls; a call ends when ``go`` is set."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.running = self.most = self.asked = 0
        self.go = asyncio.Event()
        self.refusal: type[Busy | Unavailable] = Unavailable

    async def asked_for(self, calls: int) -> None:
        for _ in range(1000):
            if self.asked >= calls:
                break
            await asyncio.sleep(0)

    async def land(
        self, order: Order, ranked: Sequence[str], *, told: Told | None, refusals: dict[str, str]
    ) -> Landed:
        self.asked += 1
        await asyncio.sleep(0)
        if self.running >= self.room:
            refusals["n"] = "full"
            raise self.refusal("no room", refusals={"n": "full"}, full=["n"])
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            assert told is not None
            await told("n")
            await self.go.wait()
            for _ in range(20):
                await asyncio.sleep(0)
        finally:
            self.running -= 1
        return Landed(node="n", result=None, refusals={}, measured_ms=0.0)


def _turns(nodes: Any) -> Turns:
    return Turns(cast("Forwarder", nodes))


async def _land(turns: Turns) -> Landed:
    return await turns.land(ORDER, ["n"], refusals={})


@pytest.mark.parametrize("refusal", [Busy, Unavailable])
def test_all_have_their_turn(refusal: type[Busy | Unavailable]) -> None:
    async def main() -> None:
        nodes = _Nodes(3)
        nodes.refusal = refusal
        turns = _turns(nodes)
        nodes.go.set()
        landed = await asyncio.gather(*(_land(turns) for _ in range(50)))
        assert len(landed) == 50
        assert nodes.most == 3
        assert nodes.asked < 300

    asyncio.run(main())


def test_those_who_wait_take_the_room_that_others_leave() -> None:
    async def main() -> None:
        nodes = _Nodes(1)
        turns = _turns(nodes)
        calls = [asyncio.ensure_future(_land(turns)) for _ in range(20)]
        await nodes.asked_for(20)
        nodes.room = 10
        nodes.go.set()
        await asyncio.gather(*calls)
        assert nodes.most > 5

    asyncio.run(main())


def test_where_others_fill_the_nodes_the_refusal_is_the_answer() -> None:
    async def main() -> None:
        turns = _turns(_Nodes(0))
        found = await asyncio.gather(*(_land(turns) for _ in range(5)), return_exceptions=True)
        assert [type(one) for one in found] == [Unavailable] * 5

    asyncio.run(main())


def test_one_that_is_cancelled_while_it_waits_is_passed_over() -> None:
    async def main() -> None:
        nodes = _Nodes(1)
        turns = _turns(nodes)
        calls = [asyncio.ensure_future(_land(turns)) for _ in range(3)]
        await nodes.asked_for(3)
        await asyncio.sleep(0)
        calls[1].cancel()
        nodes.go.set()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(found[1], asyncio.CancelledError)
        assert [type(one) for one in (found[0], found[2])] == [Landed, Landed]

    asyncio.run(main())


def test_what_is_no_lack_of_room_is_raised_at_once() -> None:
    async def main() -> None:
        class _Broken:
            async def land(self, *_: object, **__: object) -> Landed:
                raise PeerFailed("away")

        with pytest.raises(PeerFailed):
            await _land(_turns(_Broken()))

    asyncio.run(main())
