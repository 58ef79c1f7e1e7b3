"""The execution-mode identifier: from a module, Python source or an ONNX graph to a mode with its reasons."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from edgeagent.accel.modes import CROSSOVER_FLOPS, Findings, decide
from edgeagent.accel.onnx_scan import scan_onnx
from edgeagent.accel.python_modules import Beside
from edgeagent.accel.python_scan import scan_python
from edgeagent.accel.wasm_scan import scan_wasm
from edgeagent.model.errors import WasmRefused
from edgeagent.model.function import Evidence, Identified

__all__ = ["Kind", "identify", "identify_module", "kind_of"]

Kind = Literal["wasm", "python", "onnx"]


def kind_of(name: str) -> Kind:
    """By the name's ending; all else is taken for a module."""
    if name.lower().endswith(".py"):
        return "python"
    return "onnx" if name.lower().endswith(".onnx") else "wasm"


def identify(
    kind: Kind, data: bytes, crossover_flops: float = CROSSOVER_FLOPS, *, beside: Beside | None = None
) -> Identified:
    """``beside`` gives a Python program's other modules. Raises WasmRefused for a malformed module, SourceRefused for
    other malformed input.
    """
    scans: dict[Kind, Callable[[bytes], Findings]] = {
        "wasm": scan_wasm,
        "python": partial(scan_python, beside=beside),
        "onnx": scan_onnx,
    }
    return decide(scans[kind](data), crossover_flops)


def identify_module(wasm: bytes) -> Identified:
    """Of a module that the engine takes: what we cannot read of it leaves the mode open and refuses nothing."""
    try:
        return identify("wasm", wasm)
    except WasmRefused as error:
        found = Findings(kind="wasm", whole=False)
        found.advice.append(Evidence(f"cannot be read to its end: {error.message}", "module"))
        return decide(found)
