"""``[nn]`` of a configuration."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from edgeagent.node.config_section import GIB, KIB, MIB, Section

__all__ = ["NnSection"]


class NnSection(Section, frozen=True):
    """ONNX models that functions run through wasi-nn; needs onnxruntime (pip install 'edgeagent[nn]')."""

    models: Annotated[
        str, Meta(description="a directory of NAME.onnx that functions load by name; empty: none")
    ] = ""
    model_bytes_max: Annotated[
        int, Meta(ge=KIB, le=2 * GIB, description="of one model; beyond: too_large")
    ] = 256 * MIB
    cache_bytes: Annotated[int, Meta(ge=0, le=64 * GIB, description="models kept loaded between calls")] = (
        256 * MIB
    )
    tensor_bytes_max: Annotated[
        int, Meta(ge=KIB, le=GIB, description="of one tensor, and of all outputs of a run; beyond: too_large")
    ] = 64 * MIB
    call_bytes_max: Annotated[
        int,
        Meta(
            ge=KIB, le=64 * GIB, description="models, inputs and outputs that one call has; beyond: too_large"
        ),
    ] = 512 * MIB
    memory_bytes: Annotated[
        int, Meta(ge=256 * MIB, le=1024 * GIB, description="address space of the process that runs models")
    ] = 4 * GIB
