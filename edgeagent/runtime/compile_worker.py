"""The compile worker: ``python -m edgeagent.runtime.compile_worker`` reads one request (JSON) and answers one line.

A process of its own, because a compilation cannot be interrupted, holds every core while it runs, and meets hostile
input: it is niced, bounded in memory, and killed by its parent when it takes too long.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
from pathlib import Path

import msgspec
import wasmtime

from edgeagent.model.errors import WasmRefused
from edgeagent.model.function import ModuleInfo
from edgeagent.runtime.engine_config import Settings, compile_config
from edgeagent.runtime.introspect import module_info
from edgeagent.runtime.wasm_sections import scan

__all__ = ["Answer", "Request", "main"]

_NICE = 10


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """``out_path`` = "" asks for introspection only; ``memory_bytes`` bounds the worker's own heap."""

    wasm_path: str
    out_path: str = ""
    settings: Settings = Settings()
    memory_bytes: int = 1 << 30


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    info: ModuleInfo | None = None
    code_sha256: str = ""
    code_bytes: int = 0
    refused: str = ""
    hint: str = ""


def _compile(request: Request) -> Answer:
    wasm = Path(request.wasm_path).read_bytes()
    sections = scan(wasm)
    try:
        module = wasmtime.Module(wasmtime.Engine(compile_config(request.settings)), wasm)
    except wasmtime.WasmtimeError as error:
        text = str(error).replace("\n", " ").strip()
        raise WasmRefused(f"wasmtime refuses the module: {text[:600]}") from None
    info = module_info(
        module,
        sha256=hashlib.sha256(wasm).hexdigest(),
        size_bytes=len(wasm),
        has_start=sections.has_start,
    )
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


def main() -> int:
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    os.nice(_NICE)
    # The heap only: wasmtime reserves far more address space than it uses.
    resource.setrlimit(resource.RLIMIT_DATA, (request.memory_bytes, request.memory_bytes))
    try:
        answer = _compile(request)
    except WasmRefused as error:
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
