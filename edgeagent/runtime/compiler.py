"""Running the compile worker: one at a time, bounded in time, killed with its whole group when it overstays."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import msgspec

import edgeagent
from edgeagent.model.errors import SourceRefused, StorageFull, StoreFailed, Unavailable, WasmRefused
from edgeagent.model.function import Identified, ModuleInfo
from edgeagent.runtime.compile_message import Answer, Request
from edgeagent.runtime.engine_config import Settings

__all__ = ["Compiled", "Compiler", "inspect_file"]

WALL_S = 60.0


class Compiled(msgspec.Struct, frozen=True):
    info: ModuleInfo
    code_sha256: str
    code_bytes: int


class Compiler:
    """Compiles and introspects in worker processes; ``parallel`` of them at once at most."""

    def __init__(self, *, parallel: int = 1, wall_s: float = WALL_S, memory_bytes: int = 1 << 30) -> None:
        self._turn = asyncio.Semaphore(parallel)
        self._wall_s = wall_s
        self._memory_bytes = memory_bytes

    async def compile(self, wasm_path: Path, out_path: Path, settings: Settings) -> Compiled:
        """Compile to ``out_path`` (written durably, not renamed).

        Raises WasmRefused, StorageFull, StoreFailed, Unavailable.
        """
        answer = await self._ask(
            Request(
                wasm_path=str(wasm_path),
                out_path=str(out_path),
                settings=settings,
            )
        )
        return Compiled(_info(answer), answer.code_sha256, answer.code_bytes)

    async def inspect(self, wasm_path: Path) -> ModuleInfo:
        """Describe without keeping the code. Raises WasmRefused, Unavailable."""
        return _info(await self._ask(Request(wasm_path=str(wasm_path))))

    async def identify(self, kind: Literal["python", "onnx"], data: bytes) -> Identified:
        """The execution mode of a source. Raises SourceRefused, Unavailable."""
        with await asyncio.to_thread(_written, data) as file:
            try:
                answer = await self._ask(Request(wasm_path=file.name, source=kind))
            except WasmRefused as error:  # the worker did not come to an answer
                raise SourceRefused(f"the {kind} source: {error.message}") from None
        if answer.identified is None:
            raise SourceRefused(f"the {kind} source: {answer.refused}", hint=answer.hint)
        return answer.identified

    async def _ask(self, request: Request) -> Answer:
        request = msgspec.structs.replace(
            request,
            memory_bytes=self._memory_bytes,
            cpu_s=1 + int(self._wall_s * (os.cpu_count() or 1)),
            parent_pid=os.getpid(),
        )
        async with self._turn:
            process = await _begin()
            try:
                async with asyncio.timeout(self._wall_s):
                    out, _ = await process.communicate(msgspec.json.encode(request))
            except TimeoutError:
                raise WasmRefused(f"compiling took more than {self._wall_s:g} s") from None
            finally:
                await _end(process)
        return _decode(out, process.returncode)


def _written(data: bytes) -> Any:
    file = tempfile.NamedTemporaryFile(prefix="edge-source-")  # noqa: SIM115 - the caller closes it
    file.write(data)
    file.flush()
    return file


async def _begin() -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # never a package that lies in the directory where the node was started
            "-m",
            "edgeagent.runtime.compile_worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env=_environment(),
        )
    except OSError as error:
        raise Unavailable(f"the compiler could not be started: {error.strerror}", retry_after_s=1) from None


def _environment() -> dict[str, str]:
    """Ours, with the place that this package was imported from first on the path."""
    places = [str(Path(edgeagent.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(place for place in places if place)}


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):  # it may end between the look and the kill
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _decode(out: bytes, returncode: int | None) -> Answer:
    try:
        return msgspec.json.decode(out, type=Answer)
    except msgspec.DecodeError:
        raise WasmRefused(
            f"the compiler ended without an answer (exit {returncode})",
            hint="the module may need more memory than runtime.compile_memory_bytes allows",
        ) from None


def _info(answer: Answer) -> ModuleInfo:
    if answer.refused.startswith("errno:"):
        _, number, text = answer.refused.split(":", 2)
        if int(number) in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no space to store the compiled module: {text}")
        raise StoreFailed(f"the compiled module could not be stored: {text}")
    if answer.refused or answer.info is None:
        raise WasmRefused(answer.refused or "the compiler gave no description", hint=answer.hint)
    return answer.info


def inspect_file(path: Path) -> ModuleInfo:
    """Introspect a file from synchronous code (the CLI)."""
    return asyncio.run(Compiler().inspect(path))
