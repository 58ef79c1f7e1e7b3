"""The mode that holds for a function: what its manifest says, else what was read from its code and sources.

Apart from the scanners (``identify``), which only compile worker and ``inspect`` need: a daemon starts without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from edgeagent.accel.modes import GPU_MODULES, Findings, decide
from edgeagent.model.function import Accel, Evidence, Identified, ModuleInfo

__all__ = ["chosen", "pinned", "refined"]

_NO_SOURCES: Mapping[str, Identified] = MappingProxyType({})
_NOTES_MAX = 64
_RANK = ("cpu", "cpu_preferred", "gpu_preferred", "gpu")


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
