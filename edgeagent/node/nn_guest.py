"""What running guests ask of ``wasi_ephemeral_nn``: graphs and contexts of a call, its tensors, and who runs them.

A guest gets an errno of wasi-nn, whatever it says and whatever happens here. What a call has loaded is forgotten with
it; a model that runs for a call that is over is ended.
"""

from __future__ import annotations

import asyncio
import importlib.util
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from edgeagent.accel.nn_layout import (
    Encoding,
    NnErrno,
    NnFunction,
    NnRefused,
    NnTensor,
    bytes_at,
    read_tensor,
    span,
    write_u32,
)
from edgeagent.accel.onnx_external import check_self_contained
from edgeagent.model.errors import EdgeError, SourceRefused
from edgeagent.node.config_nn import NnSection
from edgeagent.node.meters import Meters
from edgeagent.node.nn_process import Model, NnProcess
from edgeagent.runtime.port import Ask, Engine, Window

__all__ = ["NnGuest", "has_runtime"]

T = TypeVar("T")

log = structlog.get_logger("nn")

_GRAPHS_MAX, _CONTEXTS_MAX, _INPUTS_MAX = 8, 16, 64
_TARGETS = 3
_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def has_runtime() -> bool:
    """Whether onnxruntime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


class _Context:
    __slots__ = ("inputs", "model", "outputs")

    def __init__(self, model: Model) -> None:
        self.model = model
        self.inputs: dict[int, NnTensor] = {}
        self.outputs: list[NnTensor] | None = None

    @property
    def held_bytes(self) -> int:
        return sum(len(one.data) for one in (*self.inputs.values(), *(self.outputs or ())))


class _Session:
    """What one call has, all of it in the node's memory."""

    __slots__ = ("contexts", "graphs", "task")

    def __init__(self) -> None:
        self.graphs: list[Model] = []
        self.contexts: list[_Context] = []
        self.task: asyncio.Task[None] | None = None

    @property
    def held_bytes(self) -> int:
        models = {id(one): len(one.data) for one in self.graphs}
        return sum(models.values()) + sum(one.held_bytes for one in self.contexts)

    def check(self, more_bytes: int, most_bytes: int) -> None:
        """Raises NnRefused."""
        held = self.held_bytes
        if held + more_bytes > most_bytes:
            raise NnRefused(
                NnErrno.TOO_LARGE,
                f"{more_bytes} bytes beside the {held} of this call, at most {most_bytes} (nn.call_bytes_max)",
            )


class NnGuest:
    """On the event loop's thread; what reads and hashes models and tensors is done on others."""

    def __init__(self, engine: Engine, meters: Meters, section: NnSection) -> None:
        self._engine = engine
        self._meters = meters
        self._section = section
        self._process = NnProcess(section)
        self._sessions: dict[int, _Session] = {}
        self._is_stopped = False
        meters.counter("nn_restarts", "processes of models that failed", lambda: self._process.restarts)

    def asked(self, ask: Ask) -> None:
        """A guest waits for ``engine.answer``."""
        if self._is_stopped:
            self._engine.answer(ask.call_id, NnErrno.UNSUPPORTED_OPERATION)
            return
        session = self._sessions.setdefault(ask.call_id, _Session())
        session.task = asyncio.get_running_loop().create_task(self._serve(ask, session))

    def ended(self, call_id: int) -> None:
        """The call is over."""
        session = self._sessions.pop(call_id, None)
        if session is not None and session.task is not None:
            session.task.cancel()

    async def stop(self) -> None:
        """What runs is ended."""
        self._is_stopped = True
        tasks = [one.task for one in self._sessions.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._process.close()

    async def _serve(self, ask: Ask, session: _Session) -> None:
        status = int(NnErrno.RUNTIME_ERROR)
        function = NnFunction(ask.slot)
        try:
            await self._does(function, struct.unpack(f"<{len(ask.extra) // 4}I", ask.extra), ask, session)
            status = NnErrno.SUCCESS
        except NnRefused as error:
            status = error.errno
            log.info("wasi-nn refused", function=ask.function, call=function.name.lower(), why=error.message)
        except EdgeError as error:
            status = NnErrno.INVALID_ENCODING if isinstance(error, SourceRefused) else NnErrno.RUNTIME_ERROR
            log.warning(
                "wasi-nn failed", function=ask.function, call=function.name.lower(), why=error.message
            )
        except Exception:  # a fault of ours must not leave the guest waiting
            log.exception("wasi-nn failed", function=ask.function)
        if function is NnFunction.COMPUTE:
            self._meters.count("nn_runs" if status == 0 else "nn_runs_failed")
        self._engine.answer(ask.call_id, int(status))

    async def _does(self, function: NnFunction, args: tuple[int, ...], ask: Ask, session: _Session) -> None:
        window = ask.window
        assert window is not None
        match function:
            case NnFunction.LOAD:
                await self._load(window, args, session)
            case NnFunction.LOAD_BY_NAME:
                await self._load_by_name(window, args, session)
            case NnFunction.INIT_EXECUTION_CONTEXT:
                model = _the(session.graphs, args[0], "graph")
                _bounded(session.contexts, _CONTEXTS_MAX, "contexts")
                _in(window, lambda memory: write_u32(memory, args[1], len(session.contexts)))
                session.contexts.append(_Context(model))
            case NnFunction.SET_INPUT:
                context = _the(session.contexts, args[0], "context")
                if args[1] >= _INPUTS_MAX:
                    raise NnRefused(NnErrno.INVALID_ARGUMENT, f"input {args[1]}, at most {_INPUTS_MAX}")
                limit = self._section.tensor_bytes_max
                context.inputs.pop(args[1], None)
                tensor = await asyncio.to_thread(
                    _in, window, lambda memory: read_tensor(memory, args[2], limit)
                )
                session.check(len(tensor.data), self._section.call_bytes_max)
                context.inputs[args[1]] = tensor
            case NnFunction.COMPUTE:
                context = _the(session.contexts, args[0], "context")
                context.outputs = None
                outputs = await self._process.run(context.model, context.inputs)
                session.check(sum(len(one.data) for one in outputs), self._section.call_bytes_max)
                context.outputs = outputs
            case NnFunction.GET_OUTPUT:
                context = _the(session.contexts, args[0], "context")
                await asyncio.to_thread(_in, window, lambda memory: _give(memory, args, context))

    async def _load(self, window: Window, args: tuple[int, ...], session: _Session) -> None:
        ptr, count, encoding, target, out = args
        if encoding not in set(Encoding):
            raise NnRefused(NnErrno.INVALID_ENCODING, f"encoding {encoding}: only onnx is read here")
        if target >= _TARGETS:
            raise NnRefused(NnErrno.INVALID_ARGUMENT, f"no target is {target}")
        if count != 1:
            raise NnRefused(NnErrno.INVALID_ARGUMENT, f"an ONNX model is one buffer, not {count}")
        limit = self._section.model_bytes_max

        def copied(memory: memoryview) -> bytes:
            span(memory, out, 4).release()
            place, size = struct.unpack("<II", bytes_at(memory, ptr, 8))
            if size > limit:
                raise NnRefused(NnErrno.TOO_LARGE, f"a model of {size} bytes, at most {limit}")
            return bytes_at(memory, place, size)

        await self._take(window, out, lambda: _in(window, copied), session)

    async def _load_by_name(self, window: Window, args: tuple[int, ...], session: _Session) -> None:
        ptr, count, out = args

        def named(memory: memoryview) -> bytes:
            span(memory, out, 4).release()
            return bytes_at(memory, ptr, min(count, 65))

        name = _in(window, named)
        if _NAME.fullmatch(name) is None:
            raise NnRefused(NnErrno.INVALID_ARGUMENT, "a model's name is 1 to 64 of A-Z a-z 0-9 . _ -")
        path = Path(self._section.models or "/nonexistent") / f"{name.decode()}.onnx"
        await self._take(window, out, lambda: self._file(path), session)

    def _file(self, path: Path) -> bytes:
        limit = self._section.model_bytes_max
        try:
            with path.open("rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            why = f"{path.name}: {error.strerror}" if self._section.models else "nn.models is not set"
            raise NnRefused(NnErrno.NOT_FOUND, why) from None
        if len(data) > limit:
            raise NnRefused(NnErrno.TOO_LARGE, f"{path.name} is over {limit} bytes")
        return data

    async def _take(self, window: Window, out: int, read: Callable[[], bytes], session: _Session) -> None:
        """Load what ``read`` gives, and tell the guest its number."""
        _bounded(session.graphs, _GRAPHS_MAX, "graphs")
        if not has_runtime():
            raise NnRefused(
                NnErrno.UNSUPPORTED_OPERATION, "onnxruntime is not installed: pip install 'edgeagent[nn]'"
            )
        model = await asyncio.to_thread(self._checked, read)
        if model not in session.graphs:
            session.check(len(model.data), self._section.call_bytes_max)
        await self._process.load(model)
        _in(window, lambda memory: write_u32(memory, out, len(session.graphs)))
        session.graphs.append(model)

    def _checked(self, read: Callable[[], bytes]) -> Model:
        model = Model(read())
        kept = self._process.kept(model.key)
        if kept is not None:
            return kept
        check_self_contained(model.data)
        return model


def _in(window: Window, work: Callable[[memoryview], T]) -> T:
    """In the guest's memory. Raises NnRefused when the call is over, and whatever ``work`` raises."""
    try:
        memory = window.enter()
    except ValueError:
        raise NnRefused(NnErrno.RUNTIME_ERROR, "the call that asked is over") from None
    try:
        return work(memory)
    finally:
        memory.release()
        window.leave()


def _the(things: list[T], number: int, what: str) -> T:
    if number >= len(things):
        raise NnRefused(NnErrno.INVALID_ARGUMENT, f"no {what} is {number}")
    return things[number]


def _bounded(things: list[T], most: int, what: str) -> None:
    if len(things) >= most:
        raise NnRefused(NnErrno.BUSY, f"a call has at most {most} {what}")


def _give(memory: memoryview, args: tuple[int, ...], context: _Context) -> None:
    _, index, ptr, cap, out = args
    if context.outputs is None:
        raise NnRefused(NnErrno.RUNTIME_ERROR, "nothing was computed")
    if index >= len(context.outputs):
        raise NnRefused(NnErrno.INVALID_ARGUMENT, f"the model has {len(context.outputs)} outputs")
    data = context.outputs[index].data
    write_u32(memory, out, len(data))
    if len(data) > cap:
        raise NnRefused(NnErrno.TOO_LARGE, f"an output of {len(data)} bytes, room for {cap}")
    with span(memory, ptr, len(data)) as place:
        place[:] = data
