"""What the daemon and its compile worker say to each other, one JSON object each."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgeagent.model.function import Identified, ModuleInfo
from edgeagent.runtime.engine_config import Settings

__all__ = ["Answer", "Request"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """``out_path`` = "" asks for introspection only; ``memory_bytes`` bounds the worker's own heap.

    ``source`` = python or onnx: ``wasm_path`` is no module but such a file, and only its execution mode is wanted.
    ``cpu_s`` bounds the CPU time of all its threads; ``parent_pid`` is the process that must be alive.
    """

    wasm_path: str
    out_path: str = ""
    source: Literal["", "python", "onnx"] = ""
    settings: Settings = Settings()
    memory_bytes: int = 1 << 30
    cpu_s: int = 600
    parent_pid: int = 0


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    info: ModuleInfo | None = None
    identified: Identified | None = None
    code_sha256: str = ""
    code_bytes: int = 0
    refused: str = ""
    hint: str = ""
