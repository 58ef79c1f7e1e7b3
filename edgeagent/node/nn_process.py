"""The process that runs ONNX models, from the daemon's side: begun when it is needed, killed when it must be."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator

import msgspec
import structlog

from edgeagent.accel.nn_layout import NnErrno, NnRefused, NnTensor
from edgeagent.accel.nn_wire import HEAD, NnAnswer, NnAsk, framed
from edgeagent.node.config_nn import NnSection
from edgeagent.node.gpu_probe import probe_environment

__all__ = ["Model", "NnProcess"]

log = structlog.get_logger("nn")

_START_S = 60.0
_WAITING_MAX = 64
_MODELS_MAX = 32


class Model:
    """A model's bytes and their digest."""

    __slots__ = ("data", "key")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.key = hashlib.sha256(data).hexdigest()


class NnProcess:
    """On the event loop's thread; one run at a time, first come, first served. Models stay loaded between calls as
    far as ``cache_bytes`` goes.
    """

    def __init__(self, section: NnSection) -> None:
        self._section = section
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._process: asyncio.subprocess.Process | None = None
        self._loaded: OrderedDict[str, Model] = OrderedDict()
        self._is_closed = False
        self.restarts = 0

    def kept(self, key: str) -> Model | None:
        """A model that is loaded."""
        return self._loaded.get(key)

    async def load(self, model: Model) -> None:
        """Raises NnRefused."""
        async with self._in_turn():
            await self._load(model)

    async def run(self, model: Model, inputs: dict[int, NnTensor]) -> list[NnTensor]:
        """The outputs. Raises NnRefused. When it is cancelled the process is ended: onnxruntime cannot be stopped."""
        async with self._in_turn():
            await self._load(model)
            answer = await self._said(NnAsk(model.key, inputs=dict(inputs)))
            if answer.errno:
                raise NnRefused(NnErrno(answer.errno), answer.why)
            return [NnTensor(*one) for one in answer.outputs]

    async def close(self) -> None:
        """Idempotent."""
        self._is_closed = True
        await self._end()

    @contextlib.asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        if self._waiting >= _WAITING_MAX or self._is_closed:
            raise NnRefused(NnErrno.BUSY, "too many models run")
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1

    async def _load(self, model: Model) -> None:
        if model.key in self._loaded and self._process is not None:
            self._loaded.move_to_end(model.key)
            return
        while self._loaded and (
            len(self._loaded) >= _MODELS_MAX
            or sum(len(one.data) for one in self._loaded.values()) + len(model.data)
            > self._section.cache_bytes
        ):
            key, _ = self._loaded.popitem(last=False)
            if self._process is not None:
                await self._said(NnAsk(key, drop=True))
        answer = await self._said(NnAsk(model.key, model=model.data))
        if answer.errno:
            raise NnRefused(NnErrno(answer.errno), answer.why)
        self._loaded[model.key] = model

    async def _said(self, ask: NnAsk) -> NnAnswer:
        """Raises NnRefused when the process does not answer; it is gone then, and the next one begins anew."""
        try:
            if self._process is None:
                await self._begin()
            process = self._process
            assert process is not None
            assert process.stdin is not None
            process.stdin.write(framed(ask))
            await process.stdin.drain()
            return await self._answer(process)
        except (OSError, EOFError, msgspec.DecodeError) as error:
            code = await self._end(grace_s=1.0)  # it may be ending, with a code that says why
            self.restarts += 1
            why = "it had no memory left" if code == 3 else f"it ended ({code}): {error}"
            log.warning("the process that runs models failed", why=why[:200])
            raise NnRefused(NnErrno.RUNTIME_ERROR, f"the model's process: {why}"[:300]) from None
        except BaseException:
            await self._end()
            raise

    async def _answer(self, process: asyncio.subprocess.Process) -> NnAnswer:
        assert process.stdout is not None
        (count,) = HEAD.unpack(await process.stdout.readexactly(HEAD.size))
        return msgspec.msgpack.decode(await process.stdout.readexactly(count), type=NnAnswer)

    async def _begin(self) -> None:
        section = self._section
        self._loaded.clear()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # never a package that lies in the directory where the node was started
            "-m",
            "edgeagent.accel.nn_worker",
            str(section.memory_bytes),
            str(section.tensor_bytes_max),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env=probe_environment(),
        )
        try:
            greeting = await asyncio.wait_for(self._answer(self._process), _START_S)
        except TimeoutError:
            raise EOFError("it did not begin in time") from None
        if greeting.errno:
            await self._end()
            raise NnRefused(NnErrno(greeting.errno), greeting.why)
        log.info("models run", runtime=greeting.why)

    async def _end(self, grace_s: float = 0.0) -> int | None:
        process, self._process = self._process, None
        self._loaded.clear()
        if process is None:
            return None
        if grace_s > 0.0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), grace_s)
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        return process.returncode
