"""A function as other nodes are told of it: enough to fetch and verify it, and to place its calls. Pure."""

from __future__ import annotations

import msgspec

from edgeagent.accel.chosen_mode import chosen
from edgeagent.model.function import Deployed, Manifest

__all__ = ["FunctionRef", "ref_of"]

_GPU_MODES = frozenset({"gpu", "gpu_preferred"})


class FunctionRef(msgspec.Struct, frozen=True, kw_only=True):
    """``manifest`` is canonical JSON, ``signature`` "" for an unsigned one; ``repeatable``: nothing but its output
    leaves it, so that it may be run again elsewhere. What a step writes to state leaves it with its output; only a
    compare-and-set is written while it runs. ``prefers_gpu``: it is expected to be faster on one.
    """

    name: str
    sha256: str
    manifest: Manifest
    signature: bytes = b""
    memory_bytes: int = 0
    code_bytes: int = 0
    repeatable: bool = True
    prefers_gpu: bool = False


def ref_of(deployed: Deployed) -> FunctionRef:
    """Of a function that is deployed here."""
    info, manifest = deployed.info, deployed.manifest
    speaks = (
        any(info.imports_function("edge_hose", name) for name in ("send", "open"))
        or info.imports_function("edge_state", "cas")
        or manifest.hose.output
    )
    return FunctionRef(
        name=deployed.name,
        sha256=deployed.sha256,
        manifest=manifest,
        signature=deployed.signature,
        memory_bytes=info.memory_min_bytes,
        code_bytes=info.size_bytes,
        repeatable=not speaks,
        prefers_gpu=chosen(deployed.manifest.accel, info, deployed.sources).mode in _GPU_MODES,
    )
