"""What the node answers to guests that speak wasi-nn; the engine is the test's, the process of models is ours."""

from __future__ import annotations

import asyncio
import functools
import signal
import struct
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec, cast

import numpy as np
import pytest

from edgeagent.accel.nn_layout import NnErrno, NnFunction, NnRefused, NnTensor
from edgeagent.bench.accel_corpus import onnx_model
from edgeagent.node import nn_guest, nn_process
from edgeagent.node.config_nn import NnSection
from edgeagent.node.meters import Meters
from edgeagent.node.nn_guest import NnGuest
from edgeagent.node.nn_process import Model, NnProcess
from edgeagent.runtime.port import Ask, AskKind, Engine, HoseSource
from tests.contract.nn_calls import SQUARES

P = ParamSpec("P")
needs_runtime = pytest.mark.skipif(not nn_guest.has_runtime(), reason="no onnxruntime")
OK, BAD = NnErrno.SUCCESS, NnErrno.INVALID_ARGUMENT
MODEL_AT, DATA_AT, OUT_AT = 1024, 8192, 256
ROW = np.array([[1, 2, 3]], "<f4").tobytes()
TENSOR = NnTensor(1, (1, 3), ROW)


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Memory:
    """A guest's, as its window: a model, a tensor of one row at 64, room for answers."""

    def __init__(self, model: bytes = SQUARES) -> None:
        self.bytes = bytearray(16384)
        self.inside = 0
        self.is_over = False
        self.put(0, struct.pack("<II", MODEL_AT, len(model)))
        self.put(32, struct.pack("<II", 1, 3))
        self.put(64, struct.pack("<IIB3xII", 32, 2, 1, DATA_AT, len(ROW)))
        self.put(MODEL_AT, model)
        self.put(DATA_AT, ROW)

    def put(self, at: int, data: bytes) -> None:
        self.bytes[at : at + len(data)] = data

    def word(self, at: int) -> int:
        return int(struct.unpack_from("<I", self.bytes, at)[0])

    @property
    def size(self) -> int:
        return len(self.bytes)

    def enter(self) -> memoryview:
        if self.is_over:
            raise ValueError("the call is over")
        self.inside += 1
        return memoryview(self.bytes)

    def leave(self) -> None:
        self.inside -= 1

    def source(self, start: int, count: int) -> HoseSource | None:
        return None


class Bench:
    def __init__(self, section: NnSection | None = None) -> None:
        self.told: asyncio.Queue[int] = asyncio.Queue()
        self.meters, self.memory = Meters(), Memory()
        self.guest = NnGuest(cast("Engine", self), self.meters, section or NnSection())

    def answer(self, call_id: int, status: int, payload: None = None) -> None:
        self.told.put_nowait(status)

    def post(self, function: NnFunction, *args: int, call: int = 1) -> None:
        words = struct.pack(f"<{len(args)}I", *args)
        self.guest.asked(
            Ask(call, "step", AskKind.NN_CALL, b"", function, True, None, words, window=self.memory)
        )

    async def ask(self, function: NnFunction, *args: int, call: int = 1) -> int:
        self.post(function, *args, call=call)
        status = await self.told.get()
        assert self.memory.inside == 0
        return status

    async def load(self, *, call: int = 1) -> int:
        return await self.ask(NnFunction.LOAD, 0, 1, 1, 0, OUT_AT, call=call)


@needs_runtime
@on_loop
async def test_a_model_is_loaded_fed_run_and_read() -> None:
    bench = Bench()
    try:
        assert await bench.ask(NnFunction.COMPUTE, 0) == BAD  # there is no context
        assert await bench.load() == OK
        assert await bench.ask(NnFunction.INIT_EXECUTION_CONTEXT, bench.memory.word(OUT_AT), 260) == OK
        assert bench.memory.word(260) == 0
        get = functools.partial(bench.ask, NnFunction.GET_OUTPUT, 0)
        assert await get(0, 512, 64, 264) == NnErrno.RUNTIME_ERROR  # nothing was computed
        assert await bench.ask(NnFunction.COMPUTE, 0) == BAD  # an input lacks
        assert await bench.ask(NnFunction.SET_INPUT, 0, 0, 64) == OK
        assert await bench.ask(NnFunction.COMPUTE, 0) == OK
        assert await get(0, 512, 64, 264) == OK
        assert bench.memory.word(264) == 12
        assert np.frombuffer(bench.memory.bytes, "<f4", 3, 512).tolist() == [2, 6, 12]
        assert await get(1, 512, 64, 264) == BAD
        bench.memory.put(264, bytes(4))
        assert await get(0, 512, 11, 264) == NnErrno.TOO_LARGE
        assert bench.memory.word(264) == 12  # how much room it takes
        assert await get(0, 16380, 64, 264) == BAD
        assert await get(0, 512, 64, 16382) == BAD
        assert bench.meters.counters == {"nn_runs": 1, "nn_runs_failed": 2}
        assert await bench.ask(NnFunction.COMPUTE, 0, call=2) == BAD  # another call has none of it
        bench.guest.ended(1)
        assert await bench.ask(NnFunction.COMPUTE, 0) == BAD
    finally:
        await bench.guest.stop()
    assert await bench.load() == NnErrno.UNSUPPORTED_OPERATION


@needs_runtime
@on_loop
async def test_what_is_refused_has_an_errno() -> None:
    bench = Bench(NnSection(model_bytes_max=1024, tensor_bytes_max=1024))
    load, memory = functools.partial(bench.ask, NnFunction.LOAD), bench.memory
    try:
        assert await load(0, 1, 0, 0, OUT_AT) == NnErrno.INVALID_ENCODING  # openvino
        assert await load(0, 1, 1, 3, OUT_AT) == BAD  # no such target
        assert await load(0, 2, 1, 0, OUT_AT) == BAD  # two buffers
        assert await load(0, 1, 1, 0, 16382) == BAD
        assert await load(16380, 1, 1, 0, OUT_AT) == BAD
        memory.put(8, struct.pack("<II", MODEL_AT, 1025))
        assert await load(8, 1, 1, 0, OUT_AT) == NnErrno.TOO_LARGE
        memory.put(8, struct.pack("<II", MODEL_AT, 5))
        assert await load(8, 1, 1, 0, OUT_AT) == NnErrno.INVALID_ENCODING  # a piece of a model
        outside = onnx_model("init w 3x4\nnode Mul w w -> y\noutput y")
        memory.put(8, struct.pack("<II", 4096, len(outside)))
        memory.put(4096, outside)
        assert await load(8, 1, 1, 0, OUT_AT) == NnErrno.INVALID_ENCODING  # its weights lie in a file
        for number in range(8):
            assert await load(0, 1, 5, 1, OUT_AT) == OK  # autodetect, for a GPU if there is one
            assert memory.word(OUT_AT) == number
        assert await bench.load() == NnErrno.BUSY
        init = functools.partial(bench.ask, NnFunction.INIT_EXECUTION_CONTEXT)
        assert await init(8, 260) == BAD
        assert await init(0, 16382) == BAD
        for _ in range(16):
            assert await init(0, 260) == OK
        assert await init(0, 260) == NnErrno.BUSY
        assert await bench.ask(NnFunction.SET_INPUT, 16, 0, 64) == BAD
        assert await bench.ask(NnFunction.SET_INPUT, 0, 64, 64) == BAD
        assert await bench.ask(NnFunction.SET_INPUT, 0, 0, 16370) == BAD
        memory.is_over = True
        assert await bench.load(call=2) == NnErrno.RUNTIME_ERROR
    finally:
        await bench.guest.stop()


@needs_runtime
@on_loop
async def test_what_one_call_has_is_bounded() -> None:
    """Models, inputs and outputs together: else a small guest fills the node's memory with copies of its own."""
    room = 1024
    bench = Bench(NnSection(call_bytes_max=room))
    tensors = (room - len(SQUARES)) // len(ROW)
    try:
        assert await bench.load() == OK
        assert await bench.load() == OK  # the same model is there once
        for _ in range(2):
            assert await bench.ask(NnFunction.INIT_EXECUTION_CONTEXT, 0, 260) == OK
        given = [await bench.ask(NnFunction.SET_INPUT, n // 60, n % 60, 64) for n in range(tensors + 1)]
        assert given == [OK] * tensors + [NnErrno.TOO_LARGE]
        assert await bench.ask(NnFunction.SET_INPUT, 0, 0, 64) == OK  # in the place of another
        assert await bench.ask(NnFunction.SET_INPUT, 1, 59, 64) == NnErrno.TOO_LARGE
        assert await bench.load(call=2) == OK  # another call has room of its own
    finally:
        await bench.guest.stop()


@needs_runtime
@on_loop
async def test_models_by_name(tmp_path: Path) -> None:
    (tmp_path / "squares.onnx").write_bytes(SQUARES)
    (tmp_path / "large.onnx").write_bytes(bytes(2048))
    bench = Bench(NnSection(models=str(tmp_path), model_bytes_max=1024))
    try:
        for name, errno in (
            (b"squares", OK),
            (b"large", NnErrno.TOO_LARGE),
            (b"none", NnErrno.NOT_FOUND),
            (b"../squares", BAD),
            (b"", BAD),
            (b"a" * 65, BAD),
            (b"\xff", BAD),
        ):
            bench.memory.put(512, name)
            assert await bench.ask(NnFunction.LOAD_BY_NAME, 512, len(name), OUT_AT) == errno
        assert await bench.ask(NnFunction.LOAD_BY_NAME, 512, 0xFFFFFFFF, OUT_AT) == BAD
        assert await bench.ask(NnFunction.LOAD_BY_NAME, 512, 7, 16382) == BAD
    finally:
        await bench.guest.stop()
    bench = Bench()
    bench.memory.put(512, b"squares")
    assert await bench.ask(NnFunction.LOAD_BY_NAME, 512, 7, OUT_AT) == NnErrno.NOT_FOUND
    await bench.guest.stop()


@on_loop
async def test_without_onnxruntime_and_with_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn_guest, "has_runtime", lambda: False)
    bench = Bench()
    assert await bench.load() == NnErrno.UNSUPPORTED_OPERATION
    monkeypatch.setattr(nn_guest, "has_runtime", lambda: 1 / 0)
    assert await bench.load() == NnErrno.RUNTIME_ERROR
    await bench.guest.stop()


# -- the process -------------------------------------------------------------------------------------------------------


@needs_runtime
@on_loop
async def test_a_call_that_is_over_ends_its_run_and_harms_no_other() -> None:
    bench = Bench()
    process = bench.guest._process
    try:
        assert await bench.load() == OK
        assert await bench.ask(NnFunction.INIT_EXECUTION_CONTEXT, 0, 260) == OK
        assert await bench.ask(NnFunction.SET_INPUT, 0, 0, 64) == OK
        stopped = process._process
        assert stopped is not None
        stopped.send_signal(signal.SIGSTOP)  # it computes for ever
        bench.post(NnFunction.COMPUTE, 0)
        session = bench.guest._sessions[1]
        await asyncio.sleep(0)
        assert session.task is not None
        bench.guest.ended(1)
        with pytest.raises(asyncio.CancelledError):
            await session.task
        assert stopped.returncode == -signal.SIGKILL
        assert await process.run(Model(SQUARES), {0: TENSOR}) == [
            NnTensor(1, (1, 3), np.array([2, 6, 12], "<f4").tobytes())
        ]
    finally:
        await bench.guest.stop()


@needs_runtime
@on_loop
async def test_a_process_that_dies_is_begun_anew() -> None:
    process = NnProcess(NnSection())
    model = Model(SQUARES)
    try:
        await process.load(model)
        assert process.kept(model.key) is model
        assert process._process is not None
        process._process.kill()
        with pytest.raises(NnRefused) as refused:
            await process.run(model, {0: TENSOR})
        assert refused.value.errno is NnErrno.RUNTIME_ERROR
        assert process.restarts == 1
        assert len(await process.run(model, {0: TENSOR})) == 1
    finally:
        await process.close()
    await process.close()
    with pytest.raises(NnRefused) as refused:
        await process.load(model)
    assert refused.value.errno is NnErrno.BUSY


@needs_runtime
@on_loop
async def test_models_are_kept_as_far_as_there_is_room() -> None:
    models = [Model(onnx_model(f"input x 1x3\nnode Mul x x -> y{n}\noutput y{n}")) for n in range(3)]
    process = NnProcess(NnSection(cache_bytes=2 * len(models[0].data)))
    try:
        for one in models:
            await process.load(one)
        assert list(process._loaded) == [one.key for one in models[1:]]
        assert len(await process.run(models[0], {0: TENSOR})) == 1  # loaded again
        await process.load(models[2])
        assert list(process._loaded) == [models[0].key, models[2].key]
    finally:
        await process.close()


@needs_runtime
@on_loop
async def test_a_run_that_takes_too_much_memory_ends_its_process_alone() -> None:
    product = Model(onnx_model("input x ?x?\nnode MatMul x x -> y\noutput y"))
    process = NnProcess(NnSection(memory_bytes=400 << 20, tensor_bytes_max=1 << 30))
    side = 6000
    try:
        with pytest.raises(NnRefused) as refused:
            await process.run(product, {0: NnTensor(3, (side, side), bytes(side * side))})
        assert refused.value.errno in {NnErrno.RUNTIME_ERROR, NnErrno.INVALID_ARGUMENT}
        with pytest.raises(NnRefused) as refused:
            await process.run(product, {0: NnTensor(1, (side, side), bytes(4 * side * side))})
        assert refused.value.errno is NnErrno.RUNTIME_ERROR
        row = np.ones((2, 2), "<f4").tobytes()
        assert len(await process.run(product, {0: NnTensor(1, (2, 2), row)})) == 1
    finally:
        await process.close()


@on_loop
async def test_a_process_that_does_not_begin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    process = NnProcess(NnSection())
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(tmp_path / "nowhere"))
        with pytest.raises(NnRefused) as refused:
            await process.load(Model(SQUARES))
        assert refused.value.errno is NnErrno.RUNTIME_ERROR
        patch.setattr(sys, "executable", "/bin/cat")
        with pytest.raises(NnRefused, match="it ended"):
            await process.load(Model(SQUARES))
        script = tmp_path / "silent.sh"
        script.write_text("#!/bin/sh\nread line\n")
        script.chmod(0o755)
        patch.setattr(sys, "executable", str(script))
        patch.setattr(nn_process, "_START_S", 0.1)
        with pytest.raises(NnRefused, match="did not begin"):
            await process.load(Model(SQUARES))
        script.write_text("#!/bin/sh\nprintf '\\003\\0\\0\\0abc'\nread line\n")
        patch.setattr(nn_process, "_START_S", 10.0)
        with pytest.raises(NnRefused, match="it ended"):
            await process.load(Model(SQUARES))
    (tmp_path / "onnxruntime.py").write_text("raise RuntimeError('broken')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(NnRefused) as refused:
        await process.load(Model(SQUARES))
    assert refused.value.errno is NnErrno.UNSUPPORTED_OPERATION
    await process.close()


@on_loop
async def test_too_many_that_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn_process, "_WAITING_MAX", 0)
    process = NnProcess(NnSection())
    with pytest.raises(NnRefused) as refused:
        await process.load(Model(SQUARES))
    assert refused.value.errno is NnErrno.BUSY
