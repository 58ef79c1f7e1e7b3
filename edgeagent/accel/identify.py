"""The execution-mode identifier: from a module, Python source or an ONNX graph to a mode with its reasons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from edgeagent.accel.modes import CROSSOVER_FLOPS, Findings, decide
from edgeagent.accel.onnx_scan import scan_onnx
from edgeagent.accel.python_scan import scan_python
from edgeagent.accel.wasm_scan import GPU_MODULES, scan_wasm
from edgeagent.model.errors import WasmRefused
from edgeagent.model.function import Accel, Evidence, Identified, ModuleInfo

__all__ = ["Kind", "chosen", "identify", "identify_module", "kind_of", "pinned", "refined"]

Kind = Literal["wasm", "python", "onnx"]

_NO_SOURCES: Mapping[str, Identified] = MappingProxyType({})
_NOTES_MAX = 64
_RANK = ("cpu", "cpu_preferred", "gpu_preferred", "gpu")


def kind_of(name: str) -> Kind:
    """By the name's ending; all else is taken for a module."""
    if name.lower().endswith(".py"):
        return "python"
    return "onnx" if name.lower().endswith(".onnx") else "wasm"


def identify(kind: Kind, data: bytes, crossover_flops: float = CROSSOVER_FLOPS) -> Identified:
    """Raises WasmRefused for a malformed module, SourceRefused for other malformed input."""
    scans: dict[Kind, Callable[[bytes], Findings]] = {
        "wasm": scan_wasm,
        "python": scan_python,
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


def refined(module: Identified, sources: Mapping[str, Identified]) -> Identified:
    """A module's mode with what its sources say of the work; ``sources`` by the manifest's key.

    A module that reaches no GPU keeps ``cpu`` whatever its sources could do elsewhere.
    """
    notes = tuple(
        Evidence(
            f"{one.evidence} [{source.mode}]" if place == 0 else one.evidence, f"accel.{key}: {one.where}"
        )
        for key, source in sources.items()
        for place, one in enumerate(source.rationale)
    )
    best = max(sources.values(), key=lambda one: _RANK.index(one.mode), default=module)
    if module.mode == "cpu" or _RANK.index(best.mode) <= _RANK.index(module.mode):
        return msgspec.structs.replace(module, rationale=(*module.rationale, *notes)[:_NOTES_MAX])
    return Identified(
        mode=best.mode,
        confidence=best.confidence,
        rationale=(*notes, *module.rationale)[:_NOTES_MAX],
        work_flops=best.work_flops,
    )


def chosen(accel: Accel, info: ModuleInfo, sources: Mapping[str, Identified] = _NO_SOURCES) -> Identified:
    """What holds for a function: the manifest's mode where it names one, else what was identified."""
    return pinned(accel, refined(info.identified or _by_imports(info), sources))


def pinned(accel: Accel, known: Identified) -> Identified:
    """A manifest's mode comes before any that is read from code."""
    if accel.mode == "auto":
        return known
    said = Evidence(
        f"the manifest says mode = {accel.mode!r} (the code says {known.mode})", "manifest accel.mode"
    )
    return msgspec.structs.replace(known, mode=accel.mode, confidence=1.0, rationale=(said, *known.rationale))


def _by_imports(info: ModuleInfo) -> Identified:
    """Of a module that was described before there was an identifier."""
    found = Findings(kind="wasm", whole=False)
    found.capable = [
        Evidence(f"imports {one.module}.{one.name}", "import section")
        for one in info.imports
        if one.module in GPU_MODULES
    ]
    found.whole = not found.capable
    return decide(found)
