"""Any calls of edge_state with any arguments, and any answers: the guest gets codes or traps, the process lives."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.hose.settings import Crossovers, HoseSettings
from edgeagent.runtime.open_engine import open_engine
from edgeagent.runtime.port import Ask, Engine, Function
from tests.conftest import engine_names
from tests.contract.calls import load, start
from tests.contract.state_calls import INPUT, ROOM, StateProgram, state_guest

MIB = 1 << 20
# Low crossovers, so that values are mapped at sizes that are quick.
LOW = Crossovers(
    flip_bytes_min=64 << 10,
    window_bytes_min=4096,
    share_bytes_min=4096,
    loan_bytes_min=4096,
    huge_bytes_min=MIB,
)
_numbers = st.sampled_from(
    [
        0,
        1,
        7,
        95,
        96,
        512,
        513,
        4095,
        4096,
        INPUT,
        ROOM,
        ROOM + 1,
        ROOM + 4096,
        300_000,
        0x7FFFFFFF,
        0xFFFFFFF0,
    ]
)
_names = st.sampled_from(["get", "put", "delete", "list", "list_after", "cas", "group", "version", "fill"])
_calls = st.lists(st.tuples(_names, st.lists(_numbers, min_size=6, max_size=6)), max_size=24)
_answers = st.lists(
    st.one_of(st.integers(-20, 3), st.sampled_from([0, 1, 95, 96, 200, 4096, 9000, 70_000])), max_size=24
)


class Answers:
    """Numbers below 4 are codes, others lengths of values, in hoses where they are even."""

    def __init__(self, engine: Engine, answers: list[int]) -> None:
        self.engine = engine
        self.answers = answers
        engine.serve(self.asked, lambda call_id: None)

    def asked(self, ask: Ask) -> None:
        if ask.payload is not None:
            ask.payload.read()
            ask.payload.close()
        answer = self.answers.pop(0) if self.answers else 0
        if answer <= 3:
            self.engine.answer(ask.call_id, answer)
            return
        if answer % 2:
            payload = self.engine.payload_of(b"x" * answer)
        else:
            lease = self.engine.lease(answer)
            lease.view[:1] = b"x"
            payload = lease.publish(answer)
        self.engine.answer(ask.call_id, 0, payload)
        payload.close()


@pytest.mark.parametrize("name", ["pure", "native"])
def test_any_calls_and_any_answers(name: str, compiled: Any) -> None:
    if name not in engine_names():
        pytest.skip("the extension is not built")
    engine = open_engine(name, workers=2, small_slots=8, large_slots=4)  # type: ignore[arg-type]
    engine.use_hoses(HoseSettings(crossovers=LOW, pool_bytes_max=64 * MIB))
    function = load(engine, compiled, state_guest(pages=32), memory_bytes=4 * MIB, wall_ms=2000)
    with asyncio.Runner() as runner:

        @settings(max_examples=120)
        @given(calls=_calls, answers=_answers)
        def check(calls: list[tuple[str, list[int]]], answers: list[int]) -> None:
            runner.run(_one(engine, function, calls, answers))

        async def attach() -> None:
            engine.attach(asyncio.get_running_loop())

        runner.run(attach())
        check()
        assert engine.stats().live_instances == 0
        engine.close()


async def _one(
    engine: Engine, function: Function, calls: list[tuple[str, list[int]]], answers: list[int]
) -> None:
    Answers(engine, list(answers))
    p = StateProgram()
    for name, args in calls:
        p.call(name, *args)
    outcome = await start(function, p.encoded())
    if outcome.error is not None:
        assert outcome.error.slug == "guest-trap"
