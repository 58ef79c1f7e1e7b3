"""The compile worker: ``python -m edgeagent.runtime.compile_worker`` reads one request (JSON) and answers one line.

A process of its own, because a compilation cannot be interrupted, holds every core while it runs, and meets hostile
input: it is niced, bounded in memory and CPU time, killed by its parent when it takes too long, and by the kernel when
its parent dies.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import resource
import signal
import sys
from pathlib import Path

import msgspec
import wasmtime

from edgeagent.accel.identify import identify, identify_module
from edgeagent.model.errors import SourceRefused, WasmRefused
from edgeagent.model.wasm_sections import scan
from edgeagent.runtime.compile_message import Answer, Request
from edgeagent.runtime.engine_config import compile_config
from edgeagent.runtime.guest_text import clean
from edgeagent.runtime.introspect import module_info

__all__ = ["main"]

_NICE = 10
_PR_SET_PDEATHSIG = 1


def _compile(request: Request) -> Answer:
    wasm = Path(request.wasm_path).read_bytes()
    if request.source:
        return Answer(identified=identify(request.source, wasm))
    sections = scan(wasm)
    try:
        module = wasmtime.Module(wasmtime.Engine(compile_config(request.settings)), wasm)
    except wasmtime.WasmtimeError as error:
        text = clean(str(error).encode()).replace("\n", " ").strip()  # it quotes names of the module
        raise WasmRefused(f"wasmtime refuses the module: {text[:600]}") from None
    info = module_info(
        module,
        sha256=hashlib.sha256(wasm).hexdigest(),
        size_bytes=len(wasm),
        sections=sections,
    )
    info = msgspec.structs.replace(info, identified=identify_module(wasm))
    if not request.out_path:
        return Answer(info=info)
    code = bytes(module.serialize())
    _write_durably(request.out_path, code)
    return Answer(info=info, code_sha256=hashlib.sha256(code).hexdigest(), code_bytes=len(code))


def _write_durably(path: str, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _confine(request: Request) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if request.parent_pid not in (0, os.getppid()):  # it died before that was set
        os._exit(1)
    os.nice(_NICE)
    # The heap only: wasmtime reserves far more address space than it uses.
    for limit, value in (
        (resource.RLIMIT_DATA, request.memory_bytes),
        (resource.RLIMIT_CPU, request.cpu_s),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def main() -> int:
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    _confine(request)
    try:
        answer = _compile(request)
    except (WasmRefused, SourceRefused) as error:
        answer = Answer(refused=error.message, hint=error.hint)
    except MemoryError:
        answer = Answer(refused=f"compiling needs more than {request.memory_bytes} bytes of memory")
    except OSError as error:
        answer = Answer(refused=f"errno:{error.errno}:{error}")
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    # Not sys.exit: an engine's threads must not delay the end of a finished worker.
    code = main()
    os._exit(code)
