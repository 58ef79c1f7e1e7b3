"""What guests ask of wasi_ephemeral_nn, on both engines; here the test is the node."""

from __future__ import annotations

import asyncio
import struct

import numpy as np
import pytest

from edgeagent.accel.nn_layout import NnErrno, NnFunction, read_tensor, write_u32
from edgeagent.model.errors import DeadlineExceeded
from edgeagent.runtime.port import Ask, AskKind, Engine
from tests.contract.calls import load, start
from tests.contract.nn_calls import SQUARES, nn_guest, nn_input, nn_result
from tests.contract.test_engine_accel import BYTES, Node, fresh, run, window_of

__all__ = ["fresh"]

ROW = np.array([1, 2, 3], "float32")


def test_calls_come_with_their_arguments_and_the_memory(fresh: Engine, compiled: object) -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []

    def does(ask: Ask) -> int:
        assert ask.kind is AskKind.NN_CALL
        args = struct.unpack(f"<{len(ask.extra) // 4}I", ask.extra)
        seen.append((ask.slot, args))
        memory = window_of(ask).enter()
        match NnFunction(ask.slot):
            case NnFunction.LOAD:
                ptr, size = struct.unpack_from("<II", memory, args[0])
                assert bytes(memory[ptr : ptr + size]) == SQUARES
                write_u32(memory, args[4], 7)
            case NnFunction.INIT_EXECUTION_CONTEXT:
                write_u32(memory, args[1], 0xFFFFFFF0)
            case NnFunction.SET_INPUT:
                assert read_tensor(memory, args[2], 1000) == (1, (1, 3), ROW.tobytes())
            case NnFunction.GET_OUTPUT:
                memory[args[2] : args[2] + 4] = struct.pack("<f", 2.5)
                write_u32(memory, args[4], 4)
        memory.release()
        window_of(ask).leave()
        return 0

    async def body() -> None:
        node = Node(fresh, does)
        function = load(fresh, compiled, nn_guest(early=True), memory_bytes=BYTES)
        assert nn_result(await start(function, nn_input(ROW))) == (0, 0, [2.5])
        assert [slot for slot, _ in seen] == [0, 2, 3, 5, 4]
        assert seen[0][1][1:4] == (1, 1, 0)
        assert seen[1][1][0] == 7
        assert {args[0] for _, args in seen[2:]} == {0xFFFFFFF0}
        await asyncio.wait_for(node.has_ended.wait(), 10.0)

    run(fresh, body)


@pytest.mark.parametrize(("answer", "errno"), [(1, 1), (8, 8), (-12, 6), (-5, 4)])
def test_an_errno_reaches_the_guest(fresh: Engine, compiled: object, answer: int, errno: int) -> None:
    async def body() -> None:
        Node(fresh, lambda ask: answer)
        function = load(fresh, compiled, nn_guest(), memory_bytes=BYTES)
        assert nn_result(await start(function, nn_input(ROW)))[:2] == (errno, 1)
        assert nn_result(await start(function, nn_input(ROW, name="squares")))[:2] == (errno, 1)

    run(fresh, body)


def test_a_call_that_gets_no_answer_ends_at_its_deadline(fresh: Engine, compiled: object) -> None:
    async def body() -> None:
        node = Node(fresh, lambda ask: None)
        function = load(fresh, compiled, nn_guest(), memory_bytes=BYTES)
        outcome = await start(function, nn_input(ROW), wall_ms=100)
        assert isinstance(outcome.error, DeadlineExceeded)
        await asyncio.wait_for(node.has_ended.wait(), 10.0)
        with pytest.raises(ValueError, match="over"):
            window_of(node.asks[0]).enter()

    run(fresh, body)


def test_nobody_answers(fresh: Engine, compiled: object) -> None:
    async def body() -> None:
        fresh.attach(asyncio.get_running_loop())
        function = load(fresh, compiled, nn_guest(), memory_bytes=BYTES)
        told = nn_result(await start(function, nn_input(ROW)))
        assert told[:2] == (NnErrno.UNSUPPORTED_OPERATION, 1)

    run(fresh, body)
